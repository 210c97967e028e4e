"""Tokenizers with a fast form (a tokenizer.json): whole batches through the Rust library directly."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from .encoded import Encoded, offsets_of


class RustTokenizer:
    """A copy of a fast tokenizer of transformers, set to one maximum length.

    Args:
        tokenizer: of transformers; its own truncation and padding settings stay as they are.
        target: as it is for texts that are written, where it makes a difference (`text_target` of transformers).
    """

    def __init__(self, tokenizer: Any, max_length: int, target: bool = False) -> None:
        from tokenizers import Tokenizer

        self.max_length = max_length
        self.has_type_ids = "token_type_ids" in tokenizer.model_input_names
        switches = target and hasattr(tokenizer, "_switch_to_target_mode")
        if switches:
            tokenizer._switch_to_target_mode()
        self._truncating = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        if switches:
            tokenizer._switch_to_input_mode()
        self._truncating.no_padding()
        self._truncating.no_truncation()
        self.sha256 = _hash(self._truncating, tokenizer)
        self.untruncated = Tokenizer.from_str(self._truncating.to_str())
        self._truncating.enable_truncation(max_length, strategy="longest_first", direction=tokenizer.truncation_side)
        self._spaced = wants_space(tokenizer)

    def __call__(self, texts: Sequence[Any], pairs: Sequence[str] | None = None, words: bool = False) -> Encoded:
        """Encode texts (or lists of words), each with a second text where `pairs` is given."""
        rows = texts if pairs is None else list(zip(texts, pairs, strict=True))
        if words and self._spaced:
            rows = [[f" {word}" for word in row] for row in rows]
        # The fast form keeps no word ids.
        encode = self._truncating.encode_batch if words else self._truncating.encode_batch_fast
        encodings = encode(rows, is_pretokenized=words)
        ids: list[int] = []
        for encoding in encodings:  # extending one flat list is 20 times faster than an array a row
            ids.extend(encoding.ids)
        offsets = offsets_of(encodings)
        type_ids: list[int] | None = None
        if pairs is not None and self.has_type_ids:
            type_ids = [i for encoding in encodings for i in encoding.type_ids]
        word_ids: list[int] | None = None
        if words:
            word_ids = [-1 if i is None else i for encoding in encodings for i in encoding.word_ids]
        return Encoded(
            ids=np.array(ids, np.int32),
            offsets=offsets,
            truncated=self._truncated(encodings, np.diff(offsets)),
            type_ids=None if type_ids is None else np.array(type_ids, np.int8),
            word_ids=None if word_ids is None else np.array(word_ids, np.int32),
        )

    def _truncated(self, encodings: Sequence[Any], lengths: np.ndarray) -> np.ndarray:
        """bool[rows], which rows lost tokens; only a row of the maximum length can have."""
        truncated = np.zeros(len(encodings), np.bool_)
        for row in np.flatnonzero(lengths >= self.max_length).tolist():
            truncated[row] = bool(encodings[row].overflowing)
        return truncated

    def whole(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts with special tokens, nothing cut."""
        return [encoding.ids for encoding in self.untruncated.encode_batch_fast(list(texts))]

    def pieces(self, texts: Sequence[str]) -> list[Any]:
        """What texts fall into, without special tokens: `ids`, `tokens`, and `offsets` in characters."""
        found: list[Any] = self.untruncated.encode_batch(list(texts), add_special_tokens=False)
        return found


def _hash(rust: Any, tokenizer: Any) -> str:
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
