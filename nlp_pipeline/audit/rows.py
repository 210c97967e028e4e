"""The rows of a split as the checks see them: which columns are read, which are to be predicted, by their kinds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..data.arrow_tables import table_of
from ..data.assembly import ROW_ID
from ..data.columns import Column
from ..data.messages import contents

if TYPE_CHECKING:
    from ..data.splits import Splits

READ = ("text", "texts", "references", "tokens", "messages", "reply")
"""Kinds of columns that hold something to read."""
WRITTEN = ("reply", "references")
"""Kinds of labels that are texts."""
NAMED = ("label", "label_list", "tags")
"""Kinds of columns that hold names out of a set."""


@dataclass(frozen=True)
class SplitRows:
    """One split: its table, and the columns of the task that are there."""

    split: str
    table: pa.Table
    columns: tuple[Column, ...]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def ids(self) -> np.ndarray:
        """Row ids, str objects [rows]."""
        return np.array([*self.table.column(ROW_ID).to_pylist(), None], object)[:-1]

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns that a model reads."""
        return tuple(c for c in self.columns if not c.is_label and c.kind in READ)

    @property
    def encoded(self) -> tuple[Column, ...]:
        """Those whose text becomes tokens: replies to learn, too."""
        return self.inputs + tuple(c for c in self.columns if c.is_label and c.kind in WRITTEN)

    @property
    def predicts_text(self) -> bool:
        """Whether what is to be predicted is a text, of which several may be right."""
        return any(c.is_label and c.kind in ("text", *WRITTEN) for c in self.columns)

    @property
    def named(self) -> tuple[Column, ...]:
        """The columns of names to predict."""
        return tuple(c for c in self.columns if c.is_label and c.kind in NAMED)

    @cached_property
    def texts(self) -> pa.ChunkedArray:
        """string[rows]: what a model reads of each row, a line an input column, words joined by blanks."""
        return self.lines(self.inputs)

    def lines(self, columns: Sequence[Column]) -> pa.ChunkedArray:
        """string[rows]: what some columns say, a line a column."""
        lines = [as_strings(self.table.column(c.name), c.kind) for c in columns]
        return pc.binary_join_element_wise(*lines, "\n") if len(lines) > 1 else lines[0]

    @cached_property
    def keys(self) -> pa.ChunkedArray:
        """string[rows], equal where the inputs are: the blanks at the ends and repeated ones apart."""
        columns = [as_strings(self.table.column(c.name), c.kind) for c in self.inputs]
        squeezed = [pc.replace_substring_regex(pc.utf8_trim_whitespace(values), r"\s+", " ") for values in columns]
        return pc.binary_join_element_wise(*squeezed, "\x1f") if len(squeezed) > 1 else squeezed[0]

    def named_items(self, column: Column) -> "Items":
        """The names in a label column; of entity tags their types."""
        values = self.table.column(column.name)
        if column.kind == "label":
            owners, flat = np.arange(len(self)), values
        else:
            owners, flat = pc.list_parent_indices(values).to_numpy(), pc.list_flatten(values)
        distinct = flat.unique()
        codes = pc.index_in(flat, distinct).to_numpy()
        names = [bare_name(name, column.kind) for name in distinct.to_pylist()]
        merged = list(dict.fromkeys(names))
        place = np.array([merged.index(name) for name in names], np.int64)
        return Items(merged, place[codes] if len(codes) else np.zeros(0, np.int64), owners.astype(np.int64))

    def rows(self, where: np.ndarray | Sequence[int]) -> tuple[str, ...]:
        """The ids of some rows."""
        return tuple(self.ids[np.asarray(where, np.int64)].tolist())


@dataclass(frozen=True)
class Items:
    """Names of many rows, flat: item i is `names[codes[i]]` and belongs to row `owners[i]`, ascending."""

    names: list[str]
    codes: np.ndarray
    owners: np.ndarray

    def rows_with(self, wanted: Collection[str]) -> np.ndarray:
        """int64[n], the rows that have one of some names, ascending."""
        chosen = np.array([name in wanted for name in self.names], bool)
        return np.unique(self.owners[chosen[self.codes]]) if len(self.codes) else np.zeros(0, np.int64)

    def counts(self) -> dict[str, int]:
        """How many rows have each name."""
        pairs = np.unique(np.stack([self.codes, self.owners]), axis=1)[0]
        return dict(zip(self.names, np.bincount(pairs, minlength=len(self.names)).tolist(), strict=True))

    def by_row(self, rows: int) -> list[list[str]]:
        """The names of each row."""
        edges = np.searchsorted(self.owners, np.arange(rows + 1))
        flat = [self.names[code] for code in self.codes.tolist()]
        return [flat[start:end] for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]


def bare_name(name: str, kind: str) -> str:
    """The entity type of an IOB tag; any other name as it is."""
    return name[2:] if kind == "tags" and name[:2] in ("B-", "I-") and len(name) > 2 else name


def as_strings(values: pa.ChunkedArray, kind: str) -> pa.ChunkedArray:
    """Texts as they are; words and lists of texts joined by blanks, messages by line breaks."""
    if kind in ("messages", "reply"):
        return contents(values)
    return pc.binary_join(values, " ") if kind in ("texts", "references", "tokens") else values


def split_rows(splits: "Splits", columns: Sequence[Column]) -> dict[str, SplitRows]:
    """Every split that there is."""
    found = {}
    for split, rows in splits.parts.items():
        table = table_of(rows)
        there = tuple(column for column in columns if column.name in table.column_names)
        found[split] = SplitRows(split, table, there)
    return found
