"""Tokenized rows as they lie in the cache, mapped into memory."""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


class TokenTable:
    """Tokenized rows, mostly memory-mapped; sequences come out as views, never as Python lists.

    Args:
        distinct: int64[n], every id in `input_ids`, where that is known already.
    """

    def __init__(self, table: "pa.Table", distinct: np.ndarray | None = None) -> None:
        self.columns: tuple[str, ...] = tuple(table.column_names)
        self._table = table
        self._ragged: dict[str, tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]] = {}
        self._flat: dict[str, np.ndarray] = {}
        self._distinct = distinct

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @cached_property
    def lengths(self) -> np.ndarray:
        """int32[rows], tokens a row."""
        return self.numbers("length")

    @property
    def truncated_share(self) -> float:
        """Share of rows that lost tokens to the maximum length."""
        return float(self.numbers("truncated").mean()) if len(self) else 0.0

    def numbers(self, name: str) -> np.ndarray:
        """A column with one number a row."""
        if name not in self._flat:
            self._flat[name] = self._table.column(name).to_numpy()
        return self._flat[name]

    @property
    def distinct_ids(self) -> np.ndarray:
        """int64[n], ascending: every id that occurs in `input_ids`."""
        if self._distinct is None:
            seen = SeenIds()
            for chunk in self._chunks("input_ids")[1]:
                seen.add(chunk)
            self._distinct = seen.ids
        return self._distinct

    def sequences(self, name: str, rows: np.ndarray) -> list[np.ndarray]:
        """The sequences of the given rows, as views of the mapped file."""
        starts, values, offsets = self._chunks(name)
        where = np.searchsorted(starts, rows, side="right") - 1
        result = []
        for chunk, row in zip(where.tolist(), (rows - starts[where]).tolist(), strict=True):
            edges = offsets[chunk]
            result.append(values[chunk][edges[row] : edges[row + 1]])
        return result

    def _chunks(self, name: str) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        if name not in self._ragged:
            chunks = [c for c in self._table.column(name).chunks if len(c)]
            starts = np.cumsum([0, *(len(c) for c in chunks[:-1])]) if chunks else np.zeros(0, np.int64)
            values = [c.values.to_numpy(zero_copy_only=False) for c in chunks]
            self._ragged[name] = (starts, values, [c.offsets.to_numpy() for c in chunks])
        return self._ragged[name]


class SeenIds:
    """Which ids have occurred, collected part by part: a mark an id, which takes a fifteenth of sorting them."""

    def __init__(self) -> None:
        self._seen = np.zeros(0, np.bool_)

    def add(self, ids: np.ndarray) -> None:
        """Count these in."""
        beyond = int(ids.max(initial=-1)) + 1 - len(self._seen)
        if beyond > 0:
            self._seen = np.pad(self._seen, (0, beyond))
        self._seen[ids] = True

    @property
    def ids(self) -> np.ndarray:
        """int64[n], ascending."""
        return np.flatnonzero(self._seen)


def read_table(folder: Path) -> TokenTable:
    """A tokenized split, mapped into memory from its folder in the cache."""
    import datasets

    distinct = np.array(json.loads((folder / "distinct.json").read_text()), np.int64)
    return TokenTable(datasets.Dataset.from_file(str(folder / "rows.arrow")).data.table, distinct)
