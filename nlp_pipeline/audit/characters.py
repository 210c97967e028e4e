"""Checks on the characters of texts, all rows at once: which are visible, which script they are of, which a tokenizer
knows."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..data.tokenization import Encoder

CODES = 0x110000
ONE_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "HALFWIDTH": "CJK", "FULLWIDTH": "LATIN", "MODIFIER": ""}
"""Japanese is written in several scripts at once; some letters are of none."""
BROKEN = [0xFFFD, *(code for code in range(0x20) if chr(code) not in "\t\n\v\f\r"), *range(0x7F, 0xA0)]
"""The replacement character and control characters: what is left of text that was read in a wrong encoding."""


@dataclass(frozen=True)
class Characters:
    """The characters of many texts, flat: text i is `codes[offsets[i]:offsets[i + 1]]` (uint32 code points)."""

    codes: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Characters":
        """The code points of texts; a lone surrogate becomes a question mark."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        codes = np.frombuffer("".join(texts).encode("utf-32-le", "replace"), np.uint32)
        return cls(codes, np.concatenate([[0], np.cumsum(lengths)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64[texts], characters."""
        return np.diff(self.offsets)

    @cached_property
    def distinct(self) -> np.ndarray:
        """uint32[n], every code point that occurs, ascending."""
        return np.flatnonzero(np.bincount(self.codes, minlength=1)).astype(np.uint32)

    def count(self, codes: Iterable[int]) -> np.ndarray:
        """int64[texts]: how many characters of each text are among `codes`."""
        among = np.zeros(CODES, bool)
        among[np.fromiter(codes, np.int64)] = True
        places = np.flatnonzero(among[self.codes])
        edges = np.searchsorted(places, self.offsets)
        counts: np.ndarray = np.diff(edges)
        return counts

    @cached_property
    def visible(self) -> np.ndarray:
        """int64[texts]: characters that are neither blanks nor controls nor marks without width."""
        hidden = [int(c) for c in self.distinct if unicodedata.category(chr(c))[0] in "ZC"]
        return self.lengths - self.count(hidden)

    @cached_property
    def scripts(self) -> dict[str, np.ndarray]:
        """By script, int64[texts]: letters of it in each text; the script is the first word of the letter's name."""
        by_script: dict[str, list[int]] = {}
        for code in self.distinct.tolist():
            if unicodedata.category(chr(code))[0] == "L":
                name = unicodedata.name(chr(code), "").partition(" ")[0].partition("-")[0]
                if script := ONE_SCRIPT.get(name, name):
                    by_script.setdefault(script.capitalize() if script != "CJK" else script, []).append(code)
        return {script: self.count(codes) for script, codes in by_script.items()}


def unknown_codes(codes: Iterable[int], encoder: "Encoder") -> tuple[list[int], list[int]]:
    """(unknown, spelled) of some code points: what a tokenizer can't read, and what it spells byte by byte.

    Unknown is a character by itself; as part of a word that stands in the vocabulary it may well be read. Spelled is
    what a byte-level vocabulary, or byte fallback, has no token for.
    """
    characters = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
    visible = [c for c in characters if unicodedata.category(c)[0] not in "ZC"]
    tokenizer, pairs = encoder.tokenizer, list(zip(visible, encoder.pieces(visible), strict=True))
    unknown = [ord(c) for c, encoding in pairs if tokenizer.unk_token_id in encoding.ids]
    if all(len(token) == 1 for token in tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys()):
        return unknown, []  # of bytes alone, such as ByT5's: made for spelling
    return unknown, [ord(c) for c, encoding in pairs if _is_spelled(c, encoding.tokens)]


def _is_spelled(character: str, tokens: Sequence[str]) -> bool:
    pieces = [token for token in tokens if token not in ("▁", "Ġ")]  # a tokenizer may put a blank before a text
    return len(pieces) >= len(character.encode()) > 1
