"""Reads sources of every kind into tables, as they are: columns are chosen and checked elsewhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ..config.schema import DataConfig
from ..errors import DataError
from .arrow_tables import Rows, classes_of, from_memory
from .containers import Container
from .csv_reader import CsvText
from .csv_records import LITERAL_QUOTES, CsvRecords
from .file_bytes import open_lines, read_bytes, read_text
from .json_reader import is_line_wise, json_windows, read_json, read_json_lines
from .locations import Source
from .plain_text import read_plain
from .sql_reader import read_sql


class Reader:
    """Reads the sources of one recipe; a source that holds several splits is loaded once."""

    def __init__(self, data: DataConfig, in_memory: Mapping[str, Any] | None = None) -> None:
        self.data = data
        self.in_memory = in_memory or {}
        self._containers: dict[Source, Container] = {}
        self._parsings: dict[Source, tuple[CsvRecords, tuple[str, ...]]] = {}

    def read(self, source: Source, split: str) -> Rows:
        """The rows of a source.

        Raises:
            DataError: it can't be read, or has no rows. The problems don't name the source.
        """
        try:
            rows = self._read(source, split)
        except RecursionError:
            raise DataError("is nested too deeply to be read") from None
        except MemoryError:
            raise DataError("does not fit into memory, or is damaged and says that it is larger than it is") from None
        if rows.table.num_rows == 0:
            raise DataError("has no rows")
        return rows

    def _read(self, source: Source, split: str) -> Rows:
        if source.is_container:
            return self.container(source).rows(split, source.split)
        if source.kind == "memory":
            return from_memory(self.in_memory[source.value])
        return read_sql(source) if source.kind == "sql" else self._read_file(source)

    def container(self, source: Source) -> Container:
        """The splits of a Hub data set, folder or sample.

        Raises:
            DataError: it can't be loaded.
        """
        if source not in self._containers:
            self._containers[source] = Container(source, self.data)
        return self._containers[source]

    def windows(self, source: Source, split: str, size: int) -> Iterator[Rows]:
        """The rows of a source, at most `size` at a time. CSV, JSON Lines and Parquet are read as they are asked for.

        Raises:
            DataError: as `read`; what is wrong with a later row shows only when it is come to.
        """
        if source.kind != "file" or source.format in ("json", "txt"):
            yield from _slices(self.read(source, split), size)
        elif source.format == "parquet":
            yield from _parquet_windows(source, size)
        elif source.format != "jsonl":
            records, notes = self._records(source)
            for rows in records.windows(size):
                rows.notes = [] if rows.first else list(notes)
                yield rows
        elif is_line_wise(lines := partial(open_lines, source, self.data.encoding, "\n")):
            yield from json_windows(lines, size)
        else:
            yield from _slices(self.read(source, split), size)

    def column_names(self, source: Source, split: str, size: int) -> list[str]:
        """Every column of a source; JSON Lines are read to the end for it, `size` rows at a time.

        Raises:
            DataError: as `windows`.
        """
        if source.kind == "file" and source.format in ("csv", "tsv"):
            return self._records(source)[0].header()
        names: dict[str, None] = {}
        for rows in self.windows(source, split, size):
            names |= dict.fromkeys(rows.table.column_names)
            if source.format != "jsonl":
                break
        return list(names)

    def _records(self, source: Source) -> tuple[CsvRecords, tuple[str, ...]]:
        """How a CSV or TSV file is to be parsed, and what a user should know of it."""
        if source not in self._parsings:
            lines = partial(open_lines, source, self.data.encoding)
            records = CsvRecords(lines, self._delimiter(source))
            records.header()
            literal = records.literal(records.faults()) if records.delimiter == "\t" else None
            self._parsings[source] = (literal, (LITERAL_QUOTES,)) if literal else (records, ())
        return self._parsings[source]

    def _delimiter(self, source: Source) -> str:
        return self.data.delimiter or ("\t" if source.format == "tsv" else ",")

    def _read_file(self, source: Source) -> Rows:
        if source.format == "parquet":
            return _read_parquet(source)
        text = read_text(source, self.data.encoding)
        if source.format == "json":
            return read_json(text)
        if source.format == "txt":
            return read_plain(text)
        if source.format == "jsonl":
            return read_json_lines(text)
        table, parsed = CsvText(text, self._delimiter(source)).read()
        return Rows(table, typed=False, lines=parsed.lines, notes=list(parsed.notes))


def _slices(rows: Rows, size: int) -> Iterator[Rows]:
    """Rows that are in memory, at most `size` at a time."""
    for start in range(0, rows.table.num_rows, size):
        mixed = {name: kinds[start : start + size] for name, kinds in rows.mixed.items()}
        lines = partial(_lines_after, rows.lines, start) if rows.lines is not None else None
        notes = [] if start else rows.notes
        yield replace(rows, table=rows.table.slice(start, size), mixed=mixed, lines=lines, notes=notes, first=start)


def _lines_after(lines: Callable[[Sequence[int]], list[int]], start: int, rows: Sequence[int]) -> list[int]:
    return lines([start + row for row in rows])


def _read_parquet(source: Source) -> Rows:
    with _open_parquet(source) as file:
        table = file.read()
    return Rows(table, classes_of(table.schema))


def _parquet_windows(source: Source, size: int) -> Iterator[Rows]:
    with _open_parquet(source) as file:
        first = 0
        for batch in file.iter_batches(size):
            table = pa.Table.from_batches([batch])
            yield Rows(table, classes_of(file.schema_arrow), first=first)
            first += len(batch)
    if not first:
        raise DataError("has no rows")


@contextmanager
def _open_parquet(source: Source) -> Iterator[parquet.ParquetFile]:
    try:
        with parquet.ParquetFile(pa.BufferReader(read_bytes(source))) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"is not a readable Parquet file: {' '.join(str(error).split())}") from error
