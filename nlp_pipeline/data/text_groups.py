"""Texts that are compared: those of a row, which may be a pair, a pair with negatives, a scored pair or one text."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrow_tables import table_of
from .columns import Column
from .labels import MAX_SHOWN, column
from .token_table import grouped

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from .tokenization import Encoder

FIRST = ("query", "question", "premise", "text1")
SECOND = ("document", "passage", "answer", "hypothesis", "text2")
COLUMNS = {
    "pairs": (
        Column("anchor", "text", (*FIRST, "sentence1", "text")),
        Column("positive", "text", (*SECOND, "sentence2")),
        Column("negative", "text", (), required=False),
        Column("negatives", "texts", ("hard_negatives",), required=False),
    ),
    "scored": (
        Column("sentence1", "text", (*FIRST, "anchor", "text")),
        Column("sentence2", "text", (*SECOND, "positive")),
        Column("score", "number", ("label", "similarity", "relevance"), is_label=True),
    ),
    "labelled": (
        Column("text", "text", ("sentence", "content", "message", "utterance", "query", "question", "body")),
        Column("label", "label", ("intent", "category", "class", "topic", "target"), is_label=True),
    ),
}
"""By what a row is. The first two of `pairs` and of `scored` may be compared, a text without another one embedded."""


def text_groups(rows: Any, names: Sequence[str]) -> list[list[str]]:
    """Each row's texts, in the order of some columns; empty ones after the first are left out.

    Args:
        rows: a `datasets.Dataset` or an Arrow table.
        names: columns of texts or of lists of them; they may be absent.
    """
    table = table_of(rows)
    columns = [table.column(name).to_pylist() for name in names if name in table.column_names]
    cells = ([cell if isinstance(cell, list) else [cell] for cell in row] for row in zip(*columns, strict=True))
    return [[text for i, cell in enumerate(row) for text in cell if text or i == 0] for row in cells]


def encoded_groups(groups: Sequence[Sequence[str]], encoder: "Encoder", **more: "pa.Array") -> "dict[str, pa.Array]":
    """Token ids, an example a group and a sequence a text; `more` are columns with an entry a text."""
    flat = encoder([text for texts in groups for text in texts]).columns()
    return grouped(flat | more, [len(texts) for texts in groups])


def keys_of(texts: Iterable[str]) -> np.ndarray:
    """int64[n], a number for each text by which equal ones are known: the same on every machine."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.int64)


def sole_labels(rows: "datasets.Dataset") -> list[str]:
    """What is wrong with the training labels: nothing to tell apart, or no two texts that belong together."""
    counts: dict[str, int] = {}
    for label in column(rows, "label"):
        counts[label] = counts.get(label, 0) + 1
    if len(counts) > 1 and max(counts.values()) > 1:
        return []
    names = ", ".join(list(counts)[:MAX_SHOWN])
    return [
        f"train: {len(rows)} rows have {len(counts)} different labels ({names}); expected at least two labels, and two "
        "texts of one label, to learn which texts belong together"
    ]
