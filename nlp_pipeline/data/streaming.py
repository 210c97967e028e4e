"""Rows to predict or to score, window after window: files larger than memory, and rows that come as they come."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..config.schema import DataConfig
from ..errors import DataError
from .arrow_tables import Rows, from_rows
from .assembly import NO_ROW_IDS, ROW_ID, Assembler, Piece, ids_of, repeated_ids, row_numbers
from .batching import windows
from .columns import Column
from .locations import Source
from .problems import SHOWN, Problems
from .readers import Reader
from .splits import as_dataset, find_sources, load_rows, names_sources

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)
SPLIT = "rows"
STREAMED = ("csv", "tsv", "jsonl", "parquet")
"""Formats that are read piece by piece; what is in another one is loaded whole."""


def open_rows(
    source: Any,
    data: DataConfig,
    columns: Sequence[Column],
    size: int,
    base_dir: Path | None = None,
    require_labels: bool = False,
) -> "TableRows | FileRows":
    """What `load_rows` gives, at most `size` rows at a time; arguments and errors are the same.

    Everything wrong with a file is found here, before its first row is given.
    """
    if names_sources(source):
        sources, faults = find_sources(source, data, base_dir)
        if sources and not faults and all(s.kind == "file" and s.format in STREAMED for s in sources):
            return FileRows(sources, data, columns, size, require_labels)
    return TableRows(load_rows(source, data, columns, base_dir, require_labels), size)


class TableRows:
    """Rows that are loaded, cut into windows."""

    def __init__(self, rows: "datasets.Dataset", size: int) -> None:
        self.rows = rows
        self.size = size

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> "Iterator[datasets.Dataset]":
        return (self.rows.select(window) for window in windows(len(self.rows), self.size))


class FileRows:
    """Rows of files, of which one window is in memory, and a number a row where ids name the rows.

    The files are read once to find everything that is wrong with them (JSON Lines before that for the names of their
    columns), and again each time that the rows are asked for. A column is taken for text, lists, … window by window: a
    file that mixes them may pass here.

    Raises:
        DataError: with what is wrong, ten findings at most.
    """

    def __init__(
        self, sources: Sequence[Source], data: DataConfig, columns: Sequence[Column], size: int, require_labels: bool
    ) -> None:
        self.sources = sources
        self.size = size
        self._settings = (Reader(data), columns)
        self._require_labels = require_labels
        self._rows = 0
        assembler = self._assembler()
        self._heads = self._find_columns(assembler)
        self._named = data.id_column is not None or all(head.has_id for head in self._heads)
        self._look_through(assembler)
        for note in assembler.notes[:SHOWN]:
            logger.warning("%s", note)

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> "Iterator[datasets.Dataset]":
        assembler = self._assembler()
        for before, piece in self._pieces(assembler):
            table = assembler.table(SPLIT, piece)
            assembler.problems.raise_if_any()  # only if the file has changed since it was looked through
            ids = assembler.row_ids(SPLIT, [piece], before) if self._named else row_numbers([piece], before)
            assembler.problems.raise_if_any()
            if table is not None and ids is not None and piece.keep.any():
                yield as_dataset(table.append_column(ROW_ID, ids).filter(pa.array(piece.keep)))[0]

    def _assembler(self) -> Assembler:
        reader, columns = self._settings
        return Assembler(reader, columns, Problems(), self._require_labels)

    def _find_columns(self, assembler: Assembler) -> list[Piece]:
        """A piece without rows for each source, with all the columns that it has anywhere."""
        heads = []
        for source in self.sources:
            try:
                names = assembler.reader.column_names(source, SPLIT, self.size)
            except DataError as error:
                assembler.problems.add(source.shown, *error.problems)
            else:
                empty = pa.table({name: pa.array([], pa.string()) for name in names})
                heads.append(assembler.piece(source.shown, Rows(empty)))
        if heads:
            assembler.agree(heads)
        assembler.problems.raise_if_any()
        return heads

    def _pieces(self, assembler: Assembler) -> Iterator[tuple[int, Piece]]:
        """(rows before it, piece) of every window. A source that can't be read on is noted, and the next one begun."""
        before = 0
        for source, head in zip(self.sources, self._heads, strict=True):
            try:
                for rows in assembler.reader.windows(source, SPLIT, self.size):
                    yield before, assembler.piece(source.shown, rows, like=head)
                    before += rows.table.num_rows
            except DataError as error:
                assembler.problems.add(source.shown, *error.problems)

    def _look_through(self, assembler: Assembler) -> None:
        """Check every value and count the rows that are used; settle whether ids name them."""
        hashes = []
        for before, piece in self._pieces(assembler):
            whole = assembler.table(SPLIT, piece) is not None
            self._rows += int(piece.keep.sum())
            if self._named and whole:
                hashes.append(self._look_at_ids(assembler, piece, before))
            if len(assembler.problems.messages()) >= SHOWN:
                break
        assembler.problems.raise_if_any()
        if not self._rows:
            raise DataError("no rows are left: every one lacks a label or a text")
        if self._named:
            values, counts = np.unique(np.concatenate(hashes), return_counts=True)
            if (counts > 1).any():
                self._refuse_repeated(assembler, values[counts > 1][:SHOWN])

    def _look_at_ids(self, assembler: Assembler, piece: Piece, before: int) -> np.ndarray:
        """Hashes of a window's ids, problems noted."""
        wanted, faults = assembler.data.id_column, Problems()
        ids = ids_of([piece], wanted or "id", faults, before)
        if ids is None and wanted is None:
            self._go_by_number(assembler)
        assembler.problems.add("", *faults.messages() if wanted else ())
        return _hashes(ids)

    def _go_by_number(self, assembler: Assembler) -> None:
        self._named = False
        assembler.notes.append(f"{SPLIT}: {NO_ROW_IDS}")

    def _refuse_repeated(self, assembler: Assembler, repeated: np.ndarray) -> None:
        """Ids that occur in several windows: an error if the recipe names their column, else rows go by number."""
        wanted = assembler.data.id_column
        if wanted is None:
            return self._go_by_number(assembler)
        found: list[str] = []
        rows: list[int] = []
        for before, piece in self._pieces(assembler):
            ids = ids_of([piece], wanted, Problems(), before)
            where = np.flatnonzero(np.isin(_hashes(ids), repeated))
            found += ids.take(pa.array(where)).to_pylist() if ids is not None else []
            rows += (where + before).tolist()
        problems = repeated_ids(pa.chunked_array([pa.array(found, pa.string())]), np.array(rows), wanted)
        assembler.problems.add(", ".join(source.shown for source in self.sources), *problems)
        return assembler.problems.raise_if_any()


class RecordRows:
    """Rows that arrive as records, such as from standard input: none is looked at before those before it are done.

    The first window tells which columns there are. A row is named by its own id, else by its number.

    Args:
        parts: (numbers, records) of each window.
        origin: what messages call the source.
    """

    def __init__(
        self,
        parts: Iterable[tuple[Sequence[int], Sequence[Mapping[str, Any]]]],
        data: DataConfig,
        columns: Sequence[Column],
        origin: str,
    ) -> None:
        self.parts = parts
        self.origin = origin
        self.key = data.id_column or "id"
        self._settings = (Reader(data), columns)

    def __iter__(self) -> "Iterator[datasets.Dataset]":
        reader, columns = self._settings
        assembler = Assembler(reader, columns, Problems(), require_labels=False)
        head, before = None, 0
        for numbers, records in self.parts:
            rows = _of_records(records, numbers, before)
            piece = assembler.piece(self.origin, rows, head)
            assembler.problems.raise_if_any()
            head = head or piece
            table = assembler.table(SPLIT, piece)
            assembler.problems.raise_if_any()
            assert table is not None
            table = table.append_column(ROW_ID, pa.array(self._names(head, numbers, records), pa.string()))
            before += len(records)
            if piece.keep.any():
                yield as_dataset(table.filter(pa.array(piece.keep)))[0]

    def _names(self, head: Piece, numbers: Sequence[int], records: Sequence[Mapping[str, Any]]) -> list[str]:
        if any(self.key in names for names in head.resolved.found.values()):  # it is a text or the like
            return [str(number) for number in numbers]
        own = [record.get(self.key) for record in records]
        return [str(number if name is None else name) for number, name in zip(numbers, own, strict=True)]


def _of_records(records: Sequence[Mapping[str, Any]], numbers: Sequence[int], before: int) -> Rows:
    rows = from_rows(records, lambda row: f"row {before + row + 1:,} (line {numbers[row]:,})")
    rows.first, rows.lines = before, lambda wanted: [numbers[row] for row in wanted]
    return rows


def _hashes(ids: pa.ChunkedArray | None) -> np.ndarray:
    """int64[ids]; the same on every pass of one process."""
    return np.fromiter(map(hash, ids.to_pylist()), np.int64, len(ids)) if ids is not None else np.zeros(0, np.int64)
