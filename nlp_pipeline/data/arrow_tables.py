"""Rows that are Python objects, data frames or data sets, as Arrow tables."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Number
from typing import Any

import pyarrow as pa

from ..errors import DataError
from .problems import SHOWN, counted, listed, quoted

# What Arrow raises on values without a common type: ArrowInvalid and ArrowTypeError are among these, and a
# lone surrogate gives a UnicodeEncodeError, which is a ValueError.
NOT_UNIFORM = (ValueError, TypeError, NotImplementedError, OverflowError)


@dataclass
class Rows:
    """What a reader found: a table, and what can't be said in Arrow's types."""

    table: pa.Table
    classes: dict[str, list[str]] = field(default_factory=dict)
    """Label names of the columns that hold numbers standing for them (`ClassLabel`)."""
    mixed: dict[str, list[str]] = field(default_factory=dict)
    """Columns whose values are of several kinds: here as text, with the kind of each."""
    typed: bool = True
    """False where everything is text for want of types (CSV)."""
    lines: Callable[[Sequence[int]], list[int]] | None = None
    """The file's lines of some rows (from 0)."""
    notes: list[str] = field(default_factory=list)
    first: int = 0
    """Rows of the source before these."""


def from_memory(rows: Any) -> Rows:
    """A pandas or polars frame, a list of dicts, a dict of lists, an Arrow table or a `datasets.Dataset`.

    Raises:
        DataError: it is something else, or no table can be made of it.
    """
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    if isinstance(rows, pa.Table):
        return _distinct(Rows(rows, classes_of(rows.schema)))
    module = type(rows).__module__.partition(".")[0]
    name = type(rows).__name__
    if name in ("DatasetDict", "IterableDatasetDict"):
        raise DataError(f'is a {name}; pass its splits one by one, such as dataset["train"]')
    if module == "datasets" and name == "Dataset":
        return from_dataset(rows)
    if module == "pandas" and name == "DataFrame":
        return _from_pandas(rows)
    if module == "polars" and name in ("DataFrame", "LazyFrame"):
        return Rows((rows.collect() if name == "LazyFrame" else rows).to_arrow())
    if isinstance(rows, Mapping):
        return from_columns({str(column): values for column, values in rows.items()})
    if isinstance(rows, list | tuple):
        return from_rows(rows)
    raise DataError(
        f"is of type {module}.{name}; expected a pandas or polars DataFrame, a list of dicts, a dict of "
        "lists, a pyarrow Table or a datasets.Dataset"
    )


def from_rows(rows: Sequence[Any], row_name: Callable[[int], str] = lambda row: f"row {row + 1:,}") -> Rows:
    """Dicts, one a row; a key that a row lacks is missing there.

    Raises:
        DataError: rows that are no dicts.
    """
    if not rows:
        raise DataError("has no rows")
    try:
        structs = pa.array(rows, from_pandas=True)
        if pa.types.is_struct(structs.type) and structs.null_count == 0:
            return Rows(pa.Table.from_struct_array(structs))
    except NOT_UNIFORM:
        pass  # looked into below
    strangers = [(row, value) for row, value in enumerate(rows) if not isinstance(value, Mapping)]
    if strangers:
        found = listed((f"{row_name(row)} is {quoted(value)}" for row, value in strangers[:SHOWN]), len(strangers))
        raise DataError(
            f"{counted(len(strangers), 'row')} without named columns: {found}. "
            'Expected an object a row, such as {"text": "…", "label": "…"}'
        )
    names = {key: None for row in rows for key in row}
    return from_columns({str(name): [row.get(name) for row in rows] for name in names})


def from_columns(columns: Mapping[str, Any]) -> Rows:
    """Lists of equal length, by name.

    Raises:
        DataError: unequal lengths, or values that are no lists.
    """
    scalars = [name for name, values in columns.items() if isinstance(values, str) or not hasattr(values, "__len__")]
    if scalars:
        raise DataError(f"columns that are no lists: {listed(quoted(name) for name in scalars)}. Expected lists")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = listed(f"{quoted(name)} has {length:,}" for name, length in lengths.items())
        raise DataError(f"columns of different length: {found}")
    arrays, mixed = {}, {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values, from_pandas=True)
        except NOT_UNIFORM:
            arrays[name], mixed[name] = _as_text(list(values))
    return Rows(pa.table(arrays), mixed=mixed)


def from_dataset(dataset: Any) -> Rows:
    """A `datasets.Dataset`, with its selection applied; stays memory-mapped where there is none."""
    return Rows(table_of(dataset), _class_names(dataset.features))


def table_of(rows: Any) -> pa.Table:
    """A `datasets.Dataset` (or what is an Arrow table already) as an Arrow table, its selection applied.

    Where it has none, its own table: every `with_format` copies a data set's whole description, which takes longer
    than the answer to a single row.
    """
    if not hasattr(rows, "with_format"):
        return rows
    return rows.data.table if rows._indices is None else rows.with_format("arrow")[:]


def tables_of(rows: Any, size: int) -> Iterator[pa.Table]:
    """A `datasets.Dataset` as Arrow tables of so many rows."""
    if rows._indices is not None:
        yield from rows.with_format("arrow").iter(size)
        return
    table = rows.data.table
    yield from (table.slice(start, size) for start in range(0, len(table), size))


def classes_of(schema: pa.Schema) -> dict[str, list[str]]:
    """Label names that `datasets` wrote into the metadata of a schema."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    from datasets import Features

    return _class_names(Features.from_arrow_schema(schema))


def _class_names(features: Any) -> dict[str, list[str]]:
    names = {}
    for column, feature in features.items():
        inner = getattr(feature, "feature", feature)
        if type(inner).__name__ == "ClassLabel" and inner.names:
            names[column] = list(inner.names)
    return names


def _from_pandas(frame: Any) -> Rows:
    names = [str(name) for name in frame.columns]
    _check_distinct(names)
    try:
        return Rows(pa.Table.from_pandas(frame, preserve_index=False))
    except NOT_UNIFORM:
        return from_columns({str(name): frame[name].tolist() for name in frame.columns})


def _distinct(rows: Rows) -> Rows:
    _check_distinct(rows.table.column_names)
    return rows


def _check_distinct(names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        found = listed(quoted(name) for name in repeated)
        raise DataError(f"a column name occurs twice: {found}. Columns must have distinct names")


def _as_text(values: list[Any]) -> tuple[pa.Array, list[str]]:
    """Values of several kinds as text, and the kind of each."""
    kinds = [_kind(value) for value in values]
    return pa.array([_text(value) for value in values], pa.string()), kinds


def _kind(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return "text" if _text(value) == value else "text with a broken character"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, Number):
        return "a number"
    if isinstance(value, Mapping):
        return "an object"
    if hasattr(value, "__len__"):
        inner = {_kind(item) for item in value}
        if len(inner) > 1:
            return "a list of several kinds"
        return {"text": "a list of text", "a number": "a list of numbers"}.get("".join(inner), "a list")
    return type(value).__name__


def _text(value: Any) -> str | None:
    if _kind_is_missing(value):
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace").decode()


def _kind_is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
