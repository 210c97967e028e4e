"""Text to token ids, in Arrow form, kept in a cache whose key names everything the ids depend on."""

import hashlib
import importlib
import inspect
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..secrets import expanded_path
from .token_table import SeenIds, TokenTable, measured, read_table

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

ROWS_A_BATCH = 1000
"""Enough rows for the tokenizer's threads; the ids of one batch stay in the processor's cache."""

TAKE_FAST = (
    "expected one with a fast (Rust) form, a tokenizer.json: to translate, take NLLB, mBART-50 or T5 in place of "
    "Marian or M2M100, which have none"
)
"""What to do about a model whose tokenizer only runs in Python."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of a batch of rows, flat: row i is `ids[offsets[i]:offsets[i + 1]]`.

    `type_ids` marks the second text of a pair, `word_ids` the word of each token (-1 for special tokens); both are
    None when not asked for. `truncated` bool[rows].
    """

    ids: np.ndarray
    offsets: np.ndarray
    truncated: np.ndarray
    type_ids: np.ndarray | None = None
    word_ids: np.ndarray | None = None

    def ragged(self, values: np.ndarray) -> "pa.Array":
        """A flat array over tokens as an Arrow list column."""
        import pyarrow as pa

        return pa.ListArray.from_arrays(pa.array(self.offsets), pa.array(values))

    def columns(self) -> dict[str, "pa.Array"]:
        """The columns that every model takes."""
        import pyarrow as pa

        columns = {"input_ids": self.ragged(self.ids), "truncated": pa.array(self.truncated)}
        if self.type_ids is not None:
            columns["token_type_ids"] = self.ragged(self.type_ids)
        return columns


class Encoder:
    """A tokenizer set to one maximum length, working on whole batches through the Rust tokenizer directly.

    It works on a copy: the tokenizer that the run saves keeps its own truncation and padding settings. `sha256` is over
    what the tokenizer does, its whole pipeline and vocabulary, not its name, its folder or the maximum length.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = tokenizer
        self.max_length = max_length
        self.has_type_ids = "token_type_ids" in tokenizer.model_input_names
        if not getattr(tokenizer, "is_fast", False):
            from ..errors import ModelError

            raise ModelError(f"the tokenizer {type(tokenizer).__name__} is written in Python; {TAKE_FAST}")
        self._rust = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._rust.no_padding()
        self._rust.no_truncation()
        self.sha256 = _tokenizer_hash(self._rust, tokenizer)
        self.untruncated = Tokenizer.from_str(self._rust.to_str())
        """The Rust tokenizer, which gives a text whole."""
        self._rust.enable_truncation(max_length, strategy="longest_first", direction=tokenizer.truncation_side)
        self._spaced = wants_space(tokenizer)

    def __call__(self, texts: Sequence[Any], pairs: Sequence[str] | None = None, words: bool = False) -> Encoded:
        """Encode texts (or lists of words), each with a second text where `pairs` is given."""
        rows = texts if pairs is None else list(zip(texts, pairs, strict=True))
        if words and self._spaced:
            rows = [[f" {word}" for word in row] for row in rows]
        # The fast form keeps no word ids.
        encode = self._rust.encode_batch if words else self._rust.encode_batch_fast
        encodings = encode(rows, is_pretokenized=words)
        ids: list[int] = []
        for encoding in encodings:  # extending one flat list is 20 times faster than an array a row
            ids.extend(encoding.ids)
        lengths = np.fromiter(map(len, encodings), np.int32, len(encodings))
        offsets = np.zeros(len(encodings) + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        type_ids: list[int] | None = None
        if pairs is not None and self.has_type_ids:
            type_ids = [i for encoding in encodings for i in encoding.type_ids]
        word_ids: list[int] | None = None
        if words:
            word_ids = [-1 if i is None else i for encoding in encodings for i in encoding.word_ids]
        return Encoded(
            ids=np.array(ids, np.int32),
            offsets=offsets,
            truncated=self._truncated(encodings, lengths),
            type_ids=None if type_ids is None else np.array(type_ids, np.int8),
            word_ids=None if word_ids is None else np.array(word_ids, np.int32),
        )

    def _truncated(self, encodings: Sequence[Any], lengths: np.ndarray) -> np.ndarray:
        """bool[rows], which rows lost tokens; only a row of the maximum length can have."""
        truncated = np.zeros(len(encodings), np.bool_)
        for row in np.flatnonzero(lengths >= self.max_length).tolist():
            truncated[row] = bool(encodings[row].overflowing)
        return truncated


@dataclass(frozen=True)
class CacheReport:
    """What the cache did for one split."""

    split: str
    hit: bool
    reason: str
    key: str
    rows: int
    examples: int
    truncated_share: float

    def __str__(self) -> str:
        state = "cache hit" if self.hit else "tokenized"
        made = f" in {self.examples:,} examples" if self.examples != self.rows else ""
        cut = f", {self.truncated_share:.1%} truncated" if self.truncated_share else ", none truncated"
        return f"{self.split}: {state} ({self.reason}), {self.rows:,} rows{made}{cut}"


def cache_root(configured: str | None = None) -> Path:
    """Where tokenized rows are kept."""
    chosen = configured or os.environ.get("NLP_PIPELINE_CACHE") or "~/.cache/nlp-pipeline"
    return expanded_path(chosen) / "tokenized"


HELPERS = (
    "candidates", "chat", "choices", "documents", "labels", "masking", "messages", "squad", "tags", "targets",
    "text_groups", "text_windows", "token_table",
)  # fmt: skip
"""Modules beside this one whose code makes token ids, too."""


def code_version(owner: Any) -> str:
    """SHA-256 over the source that makes token ids: this module, its helpers, and the task's with its parents'."""
    from ..recipe import Recipe

    digest = hashlib.sha256()
    classes = [cls for cls in type(owner).__mro__ if cls not in Recipe.__mro__]
    helpers = [importlib.import_module(f"{__package__}.{name}") for name in HELPERS]
    for module in (sys.modules[__name__], *helpers):
        digest.update(inspect.getsource(module).encode())
    for cls in classes:
        try:
            source = inspect.getsource(inspect.getmodule(cls) or cls)
        except (OSError, TypeError):  # typed into a notebook or an interpreter
            source = "".join(f"{k}:{getattr(v, '__code__', v)!r}" for k, v in sorted(vars(cls).items()))
        digest.update(source.encode())
    return digest.hexdigest()


def _tokenizer_hash(rust: Any, tokenizer: Any) -> str:
    """Of a Rust tokenizer without truncation and padding, and of what transformers adds to it."""
    parts = [rust.to_str(), str(tokenizer.truncation_side), ",".join(tokenizer.model_input_names)]
    parts += [str(tokenizer.chat_template)] if tokenizer.chat_template else []
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def wants_space(tokenizer: Any) -> bool:
    """Whether this is a byte-level tokenizer that takes a word without a space before it for the rest of another."""
    found = tokenizer.backend_tokenizer.pre_tokenizer
    pre = json.loads(found.__getstate__()) if found is not None else {}
    steps = pre.get("pretokenizers", [pre])
    return any(step.get("type") == "ByteLevel" and not step.get("add_prefix_space") for step in steps)


def tokenize(
    rows: "datasets.Dataset",
    preprocess: Callable[["pa.Table"], Mapping[str, "pa.Array"]],
    parts: Mapping[str, Any],
    split: str,
    cache: Path | None,
    name: str = "",
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[TokenTable, CacheReport]:
    """Tokenize a split, or find it in the cache.

    Args:
        rows: the split's rows.
        preprocess: pure; an Arrow table of rows to columns with `input_ids` among them.
        parts: everything the result depends on, by name; the key is their hash.
        cache: folder of the cache; None tokenizes anew into a temporary file.
        name: the run's name, by which the last key is remembered to say what changed.
        progress: called with the number of rows done since the last call.
    """
    key = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]
    root = cache if cache is not None else Path(tempfile.mkdtemp(prefix="nlp-pipeline-"))
    folder = root / key
    hit = (folder / "rows.arrow").exists()
    reason = f"key {key[:8]}" if hit else _miss_reason(root, name, split, parts)
    if not hit:
        _write(rows, preprocess, parts, folder, progress)
    _remember(root, name, split, parts)
    table = read_table(folder)
    table.key = key
    if cache is None:
        shutil.rmtree(root)  # the mapping stays valid after its file is gone
        reason = "cache is off"
    return table, CacheReport(split, hit, reason, key, len(rows), len(table), table.truncated_share)


def tokenize_window(
    rows: "datasets.Dataset", preprocess: Callable[["pa.Table"], Mapping[str, "pa.Array"]]
) -> TokenTable:
    """The token ids of a window of rows, in memory."""
    import pyarrow as pa

    return TokenTable(pa.concat_tables(table for _, table in _token_batches(rows, preprocess)))


def _token_batches(
    rows: "datasets.Dataset", preprocess: Callable[["pa.Table"], Mapping[str, "pa.Array"]]
) -> "Iterator[tuple[int, pa.Table]]":
    """The examples of so many rows at a time."""
    from .arrow_tables import tables_of

    first = 0
    for batch in tables_of(rows, ROWS_A_BATCH):
        yield len(batch), measured(preprocess(batch), len(batch), first)
        first += len(batch)


def _write(
    rows: "datasets.Dataset",
    preprocess: Callable[["pa.Table"], Mapping[str, "pa.Array"]],
    parts: Mapping[str, Any],
    folder: Path,
    progress: Callable[[int], None],
) -> None:
    """Write aside, then rename: a folder under its final name is always whole."""
    import pyarrow as pa

    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        writer, seen = None, SeenIds()
        with open(aside / "rows.arrow", "wb") as sink:
            for count, table in _token_batches(rows, preprocess):
                writer = writer or pa.ipc.new_stream(sink, table.schema)
                writer.write_table(table)
                for chunk in table.column("input_ids").chunks:
                    seen.add(chunk.flatten(recursive=True).to_numpy(zero_copy_only=False))
                progress(count)
            if writer is not None:
                writer.close()
            sink.flush()
            os.fsync(sink.fileno())
        # Reading all ids again at every start would take minutes for long rows.
        (aside / "distinct.json").write_text(json.dumps(seen.ids.tolist()))
        (aside / "parts.json").write_text(json.dumps(parts, indent=1, sort_keys=True, default=str))
        try:
            aside.rename(folder)
        except OSError:  # another process wrote the same rows meanwhile: theirs are as good
            if not (folder / "rows.arrow").exists():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _last_file(root: Path, name: str, split: str) -> Path:
    return root / "last" / (hashlib.sha256(f"{name}\0{split}".encode()).hexdigest()[:24] + ".json")


def _miss_reason(root: Path, name: str, split: str, parts: Mapping[str, Any]) -> str:
    try:
        before = json.loads(_last_file(root, name, split).read_text())
    except (OSError, ValueError):
        return "nothing in the cache yet"
    now = json.loads(json.dumps(dict(parts), default=str))
    changed = [part for part in now if now[part] != before.get(part)]
    small = {p for p in changed if len(str(now[p])) < 24 and len(str(before.get(p))) < 24}
    words = [f"{p} changed" + (f" from {before.get(p)} to {now[p]}" if p in small else "") for p in changed]
    return ", ".join(words) or "its file is gone from the cache"


def _remember(root: Path, name: str, split: str, parts: Mapping[str, Any]) -> None:
    file = _last_file(root, name, split)
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(parts, sort_keys=True, default=str))
    aside.replace(file)
