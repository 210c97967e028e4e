"""Tokenizers that only have a form in Python (Marian, M2M100, ByT5): through transformers, one text after the other."""

import contextlib
import copy
import hashlib
import inspect
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import ModelError
from .encoded import Encoded, offsets_of

NOT_WHAT_IT_DOES = ("model_max_length", "name_or_path", "is_local", "local_files_only", "additional_special_tokens")
"""Settings that a tokenizer is saved with and that change no id; what counts of the last is `extra_special_tokens`."""
BLANK = "▁"
"""What sentencepiece writes for a blank."""


@dataclass(frozen=True)
class Pieces:
    """What a text falls into: token `ids`, their `tokens`, and `offsets`, spans among the characters of the tokens."""

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]


class PythonTokenizer:
    """A copy of a tokenizer written in Python, set to one maximum length; its ids are those of a plain call.

    Args:
        tokenizer: of transformers.
        target: as it is for texts that are written: `text_target` of transformers, with the vocabulary and the marks
            of the target's language.
    """

    def __init__(self, tokenizer: Any, max_length: int, target: bool = False) -> None:
        self.max_length = max_length
        self.has_type_ids = "token_type_ids" in tokenizer.model_input_names
        with without_advice():
            self._tokenizer = copy.deepcopy(tokenizer)
        self._side = "text_target" if target else "text"
        self.sha256 = _hash(self._tokenizer)

    def __call__(self, texts: Sequence[Any], pairs: Sequence[str] | None = None, words: bool = False) -> Encoded:
        """Encode texts, each with a second text where `pairs` is given.

        Raises:
            ModelError: they are lists of words: such a tokenizer doesn't say which token is of which.
        """
        if words:
            self._refuse("can't say which token belongs to which word")
        type_ids = pairs is not None and self.has_type_ids
        found = self._call(texts, pairs)
        truncated = np.diff(offsets_of(found["input_ids"])) > self.max_length
        with without_advice():
            for row in np.flatnonzero(truncated).tolist():
                pair = None if pairs is None else [pairs[row]]
                cut = self._call([texts[row]], pair, truncation=True, max_length=self.max_length)
                for name, values in cut.items():
                    found[name][row] = values[0]
        flat = {name: [value for row in rows for value in row] for name, rows in found.items()}
        return Encoded(
            ids=np.array(flat["input_ids"], np.int32),
            offsets=offsets_of(found["input_ids"]),
            truncated=truncated,
            type_ids=np.array(flat["token_type_ids"], np.int8) if type_ids else None,
        )

    def whole(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts with special tokens, nothing cut."""
        return self._call(texts)["input_ids"]

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        """What sources fall into, without special tokens."""
        found = []
        for text in texts:
            tokens = self._tokenizer.tokenize(text)
            ends = np.cumsum([0, *(len(token.replace(BLANK, "")) for token in tokens)]).tolist()
            spans = list(pairwise(ends))
            found.append(Pieces(self._tokenizer.convert_tokens_to_ids(tokens), tokens, spans))
        return found

    @property
    def untruncated(self) -> NoReturn:
        """The Rust tokenizer, which there is none of.

        Raises:
            ModelError: always.
        """
        self._refuse("can't say where in a text a token stands")

    def _refuse(self, lacks: str) -> NoReturn:
        raise ModelError(
            f"the tokenizer {type(self._tokenizer).__name__} is written in Python and {lacks}, which this task needs; "
            "expected one with a fast (Rust) form, a tokenizer.json: take a model that has one"
        )

    def _call(self, texts: Sequence[str], pairs: Sequence[str] | None = None, **options: Any) -> dict[str, Any]:
        """By name of a model's input, a list a row."""
        if not len(texts):
            return {"input_ids": [], "token_type_ids": []}
        second = {} if pairs is None else {self._side.replace("text", "text_pair"): list(pairs)}
        kinds = {"return_attention_mask": False, "return_token_type_ids": pairs is not None and self.has_type_ids}
        return dict(self._tokenizer(**{self._side: list(texts)}, **second, **kinds, verbose=False, **options))


@contextlib.contextmanager
def without_advice() -> Iterator[None]:
    """Leave out what transformers says without need.

    Marian's tokenizer recommends a normalizer, which it then never calls; and of every pair that is cut it is said that
    the rest isn't returned.
    """
    logger = logging.getLogger("transformers.tokenization_python")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
            yield
    finally:
        logger.disabled = before


def _hash(tokenizer: Any) -> str:
    """Of all that a tokenizer is saved with, its vocabularies and languages among it, and of its code."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="nlp-pipeline-") as folder:
        tokenizer.save_pretrained(folder)
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            content = path.read_bytes()
            if path.name == "tokenizer_config.json":
                settings = {k: v for k, v in json.loads(content).items() if k not in NOT_WHAT_IT_DOES}
                content = json.dumps(settings, sort_keys=True).encode()
            digest.update(f"\0{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
    digest.update(inspect.getsource(inspect.getmodule(type(tokenizer)) or type(tokenizer)).encode())
    return digest.hexdigest()
