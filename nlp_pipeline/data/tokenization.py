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

from ..secrets import expanded_path
from .encoded import Encoded
from .python_tokenizer import PythonTokenizer
from .rust_tokenizer import RustTokenizer
from .token_table import SeenIds, TokenTable, measured, read_table

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

ROWS_A_BATCH = 1000
"""Enough rows for the tokenizer's threads; the ids of one batch stay in the processor's cache."""


class Encoder:
    """A tokenizer set to one maximum length, working on whole batches: in Rust, or in Python where there is no other.

    It works on a copy: the tokenizer that the run saves keeps its own truncation and padding settings. `sha256` is over
    what the tokenizer does, its whole pipeline and vocabulary, not its name, its folder or the maximum length.

    Args:
        tokenizer: of transformers.
        target: as it is for texts that are written, with another vocabulary or another language's marks where it has
            such (`text_target` of transformers).
    """

    def __init__(self, tokenizer: Any, max_length: int, target: bool = False) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        fast = getattr(tokenizer, "is_fast", False)
        self._backend = (RustTokenizer if fast else PythonTokenizer)(tokenizer, max_length, target)
        self.has_type_ids = self._backend.has_type_ids
        self.sha256 = self._backend.sha256

    def __call__(self, texts: Sequence[Any], pairs: Sequence[str] | None = None, words: bool = False) -> Encoded:
        """Encode texts (or lists of words), each with a second text where `pairs` is given."""
        return self._backend(texts, pairs, words)

    def whole(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts with special tokens, nothing cut."""
        return self._backend.whole(texts)

    def pieces(self, texts: Sequence[str]) -> Sequence[Any]:
        """What texts fall into, without special tokens: `ids`, `tokens`, and `offsets`, spans of characters."""
        return self._backend.pieces(texts)

    @property
    def untruncated(self) -> Any:
        """The Rust tokenizer, which gives a text whole, each token with its place.

        Raises:
            ModelError: the tokenizer only runs in Python.
        """
        return self._backend.untruncated


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
    "candidates", "chat", "choices", "documents", "encoded", "labels", "languages", "masking", "messages",
    "python_tokenizer", "rust_tokenizer", "squad", "tags", "targets", "text_groups", "text_windows", "token_table",
)  # fmt: skip
"""Modules beside this one whose code makes token ids, too."""


def code_version(owner: Any) -> str:
    """SHA-256 over the source that makes token ids: this module, its helpers, the task's and its options'."""
    from ..recipe import Recipe

    digest = hashlib.sha256()
    classes = [cls for cls in type(owner).__mro__ if cls not in Recipe.__mro__]
    tasks = f"{__package__.rpartition('.')[0]}.tasks."
    options = (cls for cls in type(owner.options).__mro__ if cls.__module__.startswith(tasks))
    modules = {cls.__module__ for cls in classes}
    classes += [cls for cls in options if cls.__module__ not in modules]
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
