"""Texts to be written: the right ones of one source together, and words that are copied rather than learned."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from .tokenization import Encoder


def joined_by_source(table: "pa.Table", source: str, target: str) -> "pa.Table":
    """Rows of one source as one row, the first of them, with all their right texts in order; equal ones count once.

    Args:
        table: with the texts of `source`, and lists of text in `target` (null where there are none).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    sources = table.column(source)
    places = pc.index_in(sources, sources.unique()).to_numpy()
    kept = np.sort(np.unique(places, return_index=True)[1])
    joined: list[list[str]] = [[] for _ in kept]
    for place, texts in zip(places.tolist(), table.column(target).to_pylist(), strict=True):
        joined[place] += texts or []
    lists = [list(dict.fromkeys(texts)) for texts in joined]
    keep = np.zeros(len(table), bool)
    keep[kept] = True
    number = table.column_names.index(target)
    values = pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
    return table.filter(pa.array(keep)).set_column(number, target, values)


class Copied:
    """Parts of a source that stand in the text as they are, such as names: a mark in their place is learned instead.

    A model never learns to spell what it has not seen; a place in a sentence it does (delexicalization: Mairesse et
    al. 2010; placeholders: Luong et al. 2015, arXiv:1410.8206).

    Args:
        pattern: finds the parts: what its first group holds, or all of it if it has none.
    """

    def __init__(self, pattern: str | None) -> None:
        self.pattern = None if pattern is None else re.compile(pattern)

    def parts(self, source: str) -> list[tuple[int, int]]:
        """Where the parts stand, in characters; the n-th is what the mark `@n@` stands for."""
        if self.pattern is None:
            return []
        spans = (found.span(1 if self.pattern.groups else 0) for found in self.pattern.finditer(source))
        return [(start, end) for start, end in spans if end > start]

    def marked(self, source: str) -> str:
        """The source with marks for its parts."""
        pieces, last = [], 0
        for number, (start, end) in enumerate(self.parts(source)):
            pieces += [source[last:start], _mark(number)]
            last = end
        return "".join([*pieces, source[last:]])

    def marked_target(self, source: str, target: str) -> str:
        """A right text with marks where a part stands as whole words in it, the longest parts first."""
        parts = [source[start:end] for start, end in self.parts(source)]
        for number in sorted(range(len(parts)), key=lambda n: -len(parts[n])):
            target = re.sub(rf"(?<!\w){re.escape(parts[number])}(?!\w)", _mark(number), target)
        return target

    def filled(self, source: str, text: str) -> str:
        """A generated text with its marks filled from the source; a mark of nothing is left out."""
        if self.pattern is None:
            return text
        parts = [source[start:end] for start, end in self.parts(source)]
        return _MARK.sub(lambda found: parts[n] if (n := int(found[1])) < len(parts) else "", text)


_MARK = re.compile(r"@(\d+)@")


def _mark(number: int) -> str:
    return f"@{number}@"


def marked_pairs(
    rows: "pa.Table", source: str, target: str, copied: Copied
) -> tuple[list[str], list[list[str]] | None]:
    """Sources and the right texts of each, marks in place of what is copied; None where there are no right texts.

    Args:
        rows: with the texts of `source`, and lists of text in `target` where that is known.
    """
    sources: list[str] = rows.column(source).to_pylist()
    marked = [copied.marked(text) for text in sources]
    if target not in rows.column_names:
        return marked, None
    pairs = zip(sources, rows.column(target).to_pylist(), strict=True)
    return marked, [[copied.marked_target(text, right) for right in texts] for text, texts in pairs]


def pair_columns(
    source: "Encoder", target: "Encoder", texts: Sequence[str], right: Sequence[Sequence[str]] | None
) -> "dict[str, pa.Array]":
    """Token ids of sources, and as labels those of their right texts: an example each; `first` marks a row's first.

    A right text ends with the tokenizer's mark of its end, whether the tokenizer writes one or not.

    Args:
        right: None to predict; then there are no labels, and one example a row.
    """
    import pyarrow as pa

    encoded = source(texts)
    if right is None:
        return encoded.columns()
    counts = np.array([len(row) for row in right], np.int64)
    owners = np.repeat(np.arange(len(texts)), counts)
    ends = target.tokenizer.eos_token_id
    wanted = target([text for row in right for text in row])
    labels = [wanted.ids[a:b].tolist() for a, b in zip(wanted.offsets[:-1], wanted.offsets[1:], strict=True)]
    labels = [ids if ids[-1:] == [ends] or ends is None else [*ids[: target.max_length - 1], ends] for ids in labels]
    ids = [encoded.ids[a:b] for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]
    lengths = np.diff(encoded.offsets)[owners] + np.array([len(row) for row in labels], np.int64)
    first = np.ones(len(owners), np.bool_)
    first[1:] = owners[1:] != owners[:-1]
    list_type = pa.list_(pa.int32())
    return {
        "input_ids": pa.array([ids[row] for row in owners], list_type),
        "labels": pa.array(labels, list_type),
        "first": pa.array(first),
        "length": pa.array(lengths),
        "truncated": pa.array(encoded.truncated[owners] | wanted.truncated),
        "row": pa.array(owners),
    }
