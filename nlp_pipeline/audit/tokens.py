"""How long rows are in tokens, without tokenizing them all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..data.assembly import ROW_ID
from ..data.carve import draw
from ..data.token_table import ROW, token_counts
from .rows import SplitRows

if TYPE_CHECKING:
    from ..data.tokenization import Encoder

SAMPLE = 1_000
"""Rows from which the lengths in tokens are told."""
MOST_LONG = 20_000
"""Rows that are tokenized to look at them closely; of more that want it, so many stand for all."""
SPECIAL = 4
"""Room for special tokens."""


@dataclass(frozen=True)
class TokenCounts:
    """Tokens a row, cut ones at the maximum length.

    `lengths` int64[n] are those of a sample; `truncated` int64[m] are the rows that were cut, of all rows or, where
    not `exact`, of those that were looked at.
    """

    lengths: np.ndarray
    truncated: np.ndarray
    truncated_share: float
    exact: bool = True


def count_tokens(
    rows: SplitRows, preprocess: Callable[[pa.Table], Mapping[str, pa.Array]], max_length: int
) -> TokenCounts:
    """Tokenize a sample, and every row that may be too long: a token is at least one byte of text.

    Args:
        preprocess: a task's, with its `truncated` column if it has one.
    """
    inputs = rows.table.select([*(column.name for column in rows.encoded), ROW_ID])
    sampled = draw(len(rows), min(SAMPLE, len(rows)), 0)
    encoded = preprocess(_take(inputs, sampled))
    lengths = token_counts(encoded["input_ids"])["length"].to_numpy()
    if "truncated" not in encoded:
        return TokenCounts(lengths, np.zeros(0, np.int64), 0.0)
    long = np.flatnonzero(pc.binary_length(rows.lines(rows.encoded)).to_numpy() > max_length - SPECIAL)
    looked = long[draw(len(long), MOST_LONG, 0)] if len(long) > MOST_LONG else long
    if not len(looked):
        return TokenCounts(lengths, looked, 0.0)
    cut = _truncated_rows(preprocess(_take(inputs, looked)), len(looked))
    share = float(cut.mean()) * len(long) / len(rows)
    return TokenCounts(lengths, looked[cut], share, len(looked) == len(long))


def _truncated_rows(columns: Mapping[str, pa.Array], rows: int) -> np.ndarray:
    """bool[rows], true where any example of a row lost tokens."""
    cut: np.ndarray = columns["truncated"].to_numpy(zero_copy_only=False)
    if ROW in columns:
        return np.bincount(np.asarray(columns[ROW])[cut], minlength=rows) > 0
    return cut


def unknown_share(texts: Sequence[str], encoder: "Encoder") -> np.ndarray:
    """float64[texts], the share of each text's characters, blanks apart, that fall to the unknown token."""
    encodings = encoder.pieces(texts)
    shares, unknown = np.zeros(len(texts)), encoder.tokenizer.unk_token_id
    for i, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
        lost = sum(b - a for (a, b), token in zip(encoding.offsets, encoding.ids, strict=True) if token == unknown)
        shares[i] = lost / max(1, len("".join(text.split())))
    return shares


def _take(table: pa.Table, where: np.ndarray) -> pa.Table:
    keep = np.zeros(table.num_rows, bool)
    keep[where] = True
    return table.filter(pa.array(keep))
