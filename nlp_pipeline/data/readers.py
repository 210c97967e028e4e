"""Reads sources of every kind into tables, as they are: columns are chosen and checked elsewhere."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ..config.schema import DataConfig
from ..errors import DataError
from .arrow_tables import Rows, classes_of, from_memory
from .containers import Container
from .csv_reader import CsvText
from .file_bytes import read_bytes, read_text
from .json_reader import read_json, read_json_lines
from .locations import Source
from .sql_reader import read_sql


class Reader:
    """Reads the sources of one recipe; a source that holds several splits is loaded once."""

    def __init__(self, data: DataConfig, in_memory: Mapping[str, Any] | None = None) -> None:
        self.data = data
        self.in_memory = in_memory or {}
        self._containers: dict[Source, Container] = {}

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

    def _read_file(self, source: Source) -> Rows:
        if source.format == "parquet":
            return _read_parquet(source)
        text = read_text(source, self.data.encoding)
        if source.format == "json":
            return read_json(text)
        if source.format == "jsonl":
            return read_json_lines(text)
        delimiter = self.data.delimiter or ("\t" if source.format == "tsv" else ",")
        table, parsed = CsvText(text, delimiter).read()
        return Rows(table, typed=False, lines=parsed.lines, notes=list(parsed.notes))


def _read_parquet(source: Source) -> Rows:
    try:
        with parquet.ParquetFile(pa.BufferReader(read_bytes(source))) as file:
            table = file.read()
        return Rows(table, classes_of(table.schema))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"is not a readable Parquet file: {' '.join(str(error).split())}") from error
