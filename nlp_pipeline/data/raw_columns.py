"""A column as it was read: in plain Arrow types, with the words to speak of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .arrow_tables import Rows
from .problems import SHOWN, RowProblem, counted, listed, quoted

WORDS = (  # Arrow's types in plain words
    (pa.types.is_boolean, "true/false"),
    (pa.types.is_integer, "whole numbers"),
    (pa.types.is_floating, "numbers"),
    (pa.types.is_decimal, "numbers"),
    (pa.types.is_temporal, "dates or times"),
    (pa.types.is_struct, "nested objects"),
    (pa.types.is_map, "nested objects"),
    (pa.types.is_list, "lists"),
    (pa.types.is_binary, "bytes"),
)


@dataclass
class Cells:
    """A column in the task's type."""

    values: pa.ChunkedArray
    missing: np.ndarray
    """Rows (bool) without a value."""
    problems: list[str] = field(default_factory=list)


class RawColumn:
    """One column of what was read, with the words to speak of its rows."""

    def __init__(self, rows: Rows, name: str) -> None:
        self.rows = rows
        self.name = name
        self.values = plain(rows.table.column(name))
        self.classes = rows.classes.get(name)
        self.kinds = rows.mixed.get(name)
        self.typed = rows.typed

    def found(self, where: np.ndarray | Sequence[int], show: pa.ChunkedArray | None = None) -> str:
        """`row 3 (line 4): "abc", row 7 …`: some rows, with their values if wanted."""
        where = np.asarray(where)
        names = row_names(self.rows, where[:SHOWN])
        if show is not None:
            shown = show.take(pa.array(where[:SHOWN], pa.int64())).to_pylist()
            names = [f"{name}: {quoted(value)}" for name, value in zip(names, shown, strict=True)]
        return listed(names, len(where))

    def wrong(self, where: np.ndarray | Sequence[int], what: str, expected: str, show: bool = True) -> str:
        """The message for rows whose values don't fit."""
        found = self.found(where, self.values if show else None)
        message = f"{quoted(self.name)} holds {what} in {counted(len(where), 'row')}: {found}. {expected}"
        return RowProblem(message, "values", {"": [int(row) for row in where]})

    def wrong_type(self, expected: str) -> Cells:
        """The result for a column that can't be what the task needs at all."""
        missing = mask(pc.is_null(self.values))
        sample = listed(quoted(value) for value in self.values.drop_null()[:3].to_pylist())
        words = next((words for fits, words in WORDS if fits(self.values.type)), str(self.values.type))
        message = f"{quoted(self.name)} holds {words} ({sample}); {expected}"
        return Cells(pa.chunked_array([pa.nulls(len(self.values), pa.string())]), missing & False, [message])


def row_names(rows: Rows, where: Sequence[int] | np.ndarray) -> list[str]:
    """`row 3 (line 4)` for rows counted from 0."""
    numbers = [int(row) for row in where]
    names = [f"row {rows.first + row + 1:,}" for row in numbers]
    if rows.lines is None:
        return names
    return [f"{name} (line {line:,})" for name, line in zip(names, rows.lines(numbers), strict=True)]


def mask(values: Any) -> np.ndarray:
    """An Arrow column of true and false in numpy; null is false."""
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), bool)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values without Arrow's variants: dictionaries, large and view types become plain ones."""
    type_ = column.type
    if isinstance(type_, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], type_.storage_type)
        return plain(column)
    if pa.types.is_run_end_encoded(type_):
        decoded = [pc.run_end_decode(chunk) for chunk in column.chunks]
        return plain(pa.chunked_array(decoded, type_.value_type))
    target = _plain_type(type_)
    if target == type_:
        return column
    if _has_list_view(type_):  # Arrow 26 loses values when it casts these
        return pa.chunked_array([pa.array(column.to_pylist(), target)])
    # A plain array holds 2 GB at most: cast in slices.
    slices = [chunk[start : start + 65_536] for chunk in column.chunks for start in range(0, len(chunk), 65_536)]
    return pa.chunked_array([pc.cast(part, target) for part in slices], target)


def _plain_type(type_: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_dictionary(type_):
        return _plain_type(type_.value_type)
    if types.is_large_string(type_) or types.is_string_view(type_) or types.is_null(type_):
        return pa.string()
    if _is_list(type_):
        # Lists of nothing but null fit as lists of text.
        return pa.list_(_plain_type(type_.value_type))
    return type_


def _is_list(type_: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(type_)
        or types.is_large_list(type_)
        or types.is_fixed_size_list(type_)
        or types.is_list_view(type_)
        or types.is_large_list_view(type_)
    )


def _has_list_view(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(type_) or pa.types.is_large_list_view(type_))
