"""Tokenized rows: examples of one or several sequences, mostly memory-mapped."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

ROW = "row"
"""The column by which a task says of which row each example is, by position."""


class TokenTable:
    """Tokenized rows; sequences come out as views, never as Python lists.

    An entry is an example: what is drawn for training, and what a forward pass never splits. A row is one example,
    unless the column `row` says of which row each is. An example is one sequence, or several that belong together where
    token columns hold lists of sequences.

    Args:
        distinct: int64[n], every id in `input_ids`, where that is known already.
    """

    def __init__(self, table: "pa.Table", distinct: np.ndarray | None = None) -> None:
        self.columns: tuple[str, ...] = tuple(table.column_names)
        self._table = table
        self._ragged: dict[str, tuple[np.ndarray, list[_Chunk]]] = {}
        self._flat: dict[str, np.ndarray] = {}
        self._distinct = {} if distinct is None else {"input_ids": distinct}
        self.key: str | None = None
        """What the cache knows the token ids by; None for rows that aren't in it."""

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @cached_property
    def lengths(self) -> np.ndarray:
        """int[examples], tokens of each, of all its sequences together."""
        return self.numbers("length")

    @property
    def longest(self) -> np.ndarray:
        """int[examples], tokens of each one's longest sequence."""
        return self.numbers("longest") if "longest" in self.columns else self.lengths

    @property
    def sizes(self) -> np.ndarray | None:
        """int[examples], the sequences of each; None where each is one."""
        return self.numbers("sequences") if "sequences" in self.columns else None

    @property
    def truncated_share(self) -> float:
        """Share of examples that lost tokens to the maximum length."""
        return float(self.numbers("truncated").mean()) if len(self) and "truncated" in self.columns else 0.0

    def rows_of(self, examples: np.ndarray) -> np.ndarray:
        """int64[n], the row that each example comes from."""
        return self.numbers(ROW)[examples] if ROW in self.columns else np.asarray(examples)

    def examples_of(self, rows: np.ndarray) -> np.ndarray:
        """int64[n], the examples of some rows, those of a row one after another."""
        if ROW not in self.columns:
            return np.asarray(rows)
        starts, ends = (np.searchsorted(self.numbers(ROW), rows, side) for side in ("left", "right"))
        return np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)] or [np.zeros(0, np.int64)])

    def by_row(self, values: Sequence[Any], rows: np.ndarray) -> list[Any]:
        """What was found of `examples_of(rows)`, one entry a row: a list where rows may be several examples."""
        if ROW not in self.columns:
            return list(values)
        starts, ends = (np.searchsorted(self.numbers(ROW), rows, side) for side in ("left", "right"))
        edges = np.cumsum([0, *(ends - starts)])
        return [list(values[a:b]) for a, b in pairwise(edges)]

    def numbers(self, name: str) -> np.ndarray:
        """A column with one number an example."""
        if name not in self._flat:
            self._flat[name] = self._table.column(name).to_numpy()
        return self._flat[name]

    def distinct(self, name: str) -> np.ndarray:
        """int64[n], ascending: every id that occurs in a column of sequences."""
        if name not in self._distinct:
            seen = SeenIds()
            for chunk in self._chunks(name)[1]:
                seen.add(chunk.values)
            self._distinct[name] = seen.ids
        return self._distinct[name]

    def sequences(self, name: str, examples: np.ndarray) -> list[np.ndarray]:
        """The sequences of the given examples one after another, as views of the mapped file."""
        starts, chunks = self._chunks(name)
        where = np.searchsorted(starts, examples, side="right") - 1
        result = []
        for number, example in zip(where.tolist(), (examples - starts[where]).tolist(), strict=True):
            chunk = chunks[number]
            first, last = (example, example + 1) if chunk.outer is None else chunk.outer[example : example + 2]
            for i in range(first, last):
                result.append(chunk.values[chunk.edges[i] : chunk.edges[i + 1]])
        return result

    def with_columns(self, columns: "Mapping[str, pa.Array]") -> "TokenTable":
        """The same table with more columns, an entry an example: what another model said of each, and the like."""
        table = self._table
        for name, values in columns.items():
            table = table.append_column(name, values)
        made = TokenTable(table, self._distinct.get("input_ids"))
        made.key = self.key
        return made

    def with_sequences_of(self, others: Sequence[np.ndarray]) -> "TokenTable":
        """The same table, in memory, each example with some sequences of others after its own.

        Args:
            others: int64[n] an example, places among the sequences of all the examples.
        """
        import pyarrow as pa

        sizes = self.sizes
        assert sizes is not None, "examples are lists of sequences"
        edges = np.cumsum([0, *sizes])
        chosen = [np.concatenate([np.arange(a, b), more]) for (a, b), more in zip(pairwise(edges), others, strict=True)]
        offsets = pa.array(np.cumsum([0, *map(len, chosen)]).astype(np.int32))
        taken = pa.array(np.concatenate(chosen).astype(np.int64))
        made = {}
        for name in self.columns:
            column = self._table.column(name).combine_chunks()
            nested = pa.types.is_list(column.type)
            made[name] = pa.ListArray.from_arrays(offsets, column.flatten().take(taken)) if nested else column
        return TokenTable(pa.table(made | token_counts(made["input_ids"])), self._distinct.get("input_ids"))

    def _chunks(self, name: str) -> "tuple[np.ndarray, list[_Chunk]]":
        if name not in self._ragged:
            chunks = [c for c in self._table.column(name).chunks if len(c)]
            starts = np.cumsum([0, *(len(c) for c in chunks[:-1])]) if chunks else np.zeros(0, np.int64)
            self._ragged[name] = (starts, [_Chunk(c) for c in chunks])
        return self._ragged[name]


class _Chunk:
    """One chunk of a column of lists: list i of all is `values[edges[i]:edges[i + 1]]`.

    Where an entry holds several lists, those of entry k are number `outer[k]` to `outer[k + 1]`.
    """

    def __init__(self, chunk: "pa.ListArray") -> None:
        import pyarrow as pa

        nested = pa.types.is_list(chunk.type.value_type)
        self.outer: np.ndarray | None = chunk.offsets.to_numpy() if nested else None
        inner = chunk.values if nested else chunk
        self.edges: np.ndarray = inner.offsets.to_numpy()
        self.values: np.ndarray = inner.values.to_numpy(zero_copy_only=False)


def measured(columns: "Mapping[str, pa.Array]", rows: int, first: int) -> "pa.Table":
    """A task's columns for a batch of rows as a table, with the lengths that batching goes by.

    Args:
        rows: how many rows the examples come from, each of which must give at least one, in the rows' order.
        first: the first row's position in its split, from which `row` is counted there.
    """
    import pyarrow as pa

    made = dict(columns)
    if ROW in made:
        position = np.asarray(made[ROW])
        if not np.array_equal(np.unique(position), np.arange(rows)) or (np.diff(position) < 0).any():
            raise ValueError("preprocess: every row must give at least one example, in the order of the rows")
        made[ROW] = pa.array(position.astype(np.int64) + first)
    return pa.table({**token_counts(made["input_ids"]), **made})


def grouped(columns: "Mapping[str, pa.Array]", sizes: Sequence[int]) -> "dict[str, pa.Array]":
    """Columns with an entry a sequence as columns with an entry an example, of so many sequences each.

    `truncated` becomes whether any of an example's sequences was.
    """
    import pyarrow as pa

    offsets = np.cumsum([0, *sizes]).astype(np.int32)
    made = {k: pa.ListArray.from_arrays(pa.array(offsets), v) for k, v in columns.items() if k != "truncated"}
    if "truncated" in columns:
        made["truncated"] = pa.array(np.logical_or.reduceat(np.asarray(columns["truncated"]), offsets[:-1]))
    return made


def token_counts(ids: "pa.Array") -> "dict[str, pa.Array]":
    """`length` of each example; where one may be several sequences, also their number and the length of the longest."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_list(ids.type.value_type):
        return {"length": pc.list_value_length(ids)}
    counts = pc.list_value_length(ids).to_numpy()
    if not counts.all():
        raise ValueError("preprocess: every example needs at least one sequence")
    inner = pc.list_value_length(pc.list_flatten(ids)).to_numpy()
    starts = np.cumsum(counts) - counts
    lengths, longest = (
        (np.add.reduceat(inner, starts), np.maximum.reduceat(inner, starts)) if len(inner) else (inner,) * 2
    )
    return {"length": pa.array(lengths), "longest": pa.array(longest), "sequences": pa.array(counts)}


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
