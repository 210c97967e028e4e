"""Reads the sources of one split, chooses the task's columns, and checks every value in them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..config.schema import DataConfig
from ..errors import DataError
from .arrow_tables import Rows
from .columns import Column, Resolved, find_column, resolve_columns
from .list_values import as_label_list, as_references, as_texts, as_tokens, indicator_labels, length_mismatch
from .locations import Source
from .messages import as_messages
from .problems import SHOWN, Problems, RowProblem, counted, listed, quoted
from .raw_columns import Cells, RawColumn, mask, row_names
from .readers import Reader
from .squad import as_answers
from .values import as_label, as_number, as_text, joined_text

ROW_ID = "row_id"
NO_ROW_IDS = 'the column "id" does not name rows one by one; row numbers are used'


@dataclass(frozen=True)
class Assembler:
    """What stays the same over all splits."""

    reader: Reader
    columns: Sequence[Column]
    problems: Problems
    require_labels: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def data(self) -> DataConfig:
        """The recipe's section."""
        return self.reader.data

    def split(self, name: str, sources: Sequence[Source]) -> pa.Table | None:
        """The rows of a split in the task's types; None if there are problems (now among `problems`)."""
        pieces = [piece for source in sources if (piece := self._piece(name, source)) is not None]
        if len(pieces) < len(sources) or not self.agree(pieces):
            return None
        ids = self.row_ids(name, pieces)
        starts = np.cumsum([0, *map(len, pieces)])
        tables = [self.table(name, piece, int(start), ids) for piece, start in zip(pieces, starts, strict=False)]
        if any(table is None for table in tables):
            return None
        table = pa.concat_tables(tables)
        keep = np.concatenate([piece.keep for piece in pieces])
        if ids is None:
            return None
        if not keep.any():
            self.problems.add(name, "no rows are left: every one lacks a label or a text")
            return None
        table = table.append_column(ROW_ID, ids)
        # filter works chunk by chunk; take would join them all, which fails beyond 2 GB.
        return table if keep.all() else table.filter(pa.array(keep))

    def _piece(self, split: str, source: Source) -> "Piece | None":
        """One source, read whole."""
        try:
            return self.piece(source.shown, self.reader.read(source, split))
        except DataError as error:
            self.problems.add(source.shown, *error.problems)
            return None

    def piece(self, origin: str, rows: Rows, like: "Piece | None" = None) -> "Piece":
        """Rows with the task's columns found among theirs; or in the columns where `like` has them.

        Raises:
            DataError: the columns to be looked at are damaged.
        """
        self.notes.extend(f"{origin}: {note}" for note in rows.notes)
        if like is not None:
            rows = replace(rows, table=_with_columns(rows.table, like.rows.table.column_names))
            resolved = like.resolved
        else:
            resolved = resolve_columns(self.columns, rows.table.column_names, self.data.columns, self.require_labels)
            self.problems.add(origin, *resolved.problems)
        piece = Piece(origin, rows, resolved, np.ones(rows.table.num_rows, bool))
        if damaged := _damaged(rows.table, self._names_in(piece)):
            raise DataError(damaged)
        return piece

    def agree(self, pieces: "list[Piece]") -> bool:
        """Whether the task's columns have the same names in all files of a split."""
        if any(piece.resolved.problems for piece in pieces):
            return False
        first = pieces[0]
        others = [piece for piece in pieces if piece.resolved.found != first.resolved.found]
        for piece in others:
            self.problems.add(
                piece.origin,
                f"its columns are not those of {first.origin}: {_describe(piece.resolved)} here, "
                f"{_describe(first.resolved)} there. Name the columns alike in all files",
            )
        return not others

    def table(self, split: str, piece: "Piece", start: int = 0, ids: pa.ChunkedArray | None = None) -> pa.Table | None:
        """The task's columns in its types; rows to leave out are marked in `piece.keep`.

        Args:
            start: where the piece begins among the rows of its split.
            ids: the ids of all these rows, by which problems name them; by default their numbers.
        """
        kinds = {column.name: column for column in self.columns}
        cells = {name: self._cells(piece, kinds[name], given) for name, given in piece.resolved.found.items()}
        problems = [problem for cell in cells.values() for problem in cell.problems]
        if not problems:
            problems += self._check_lengths(piece, cells)
        for name, cell in cells.items():
            if cell.missing.any() and (self.require_labels or not kinds[name].is_label):
                found = self._missing(split, piece, kinds[name], cell)
                if self.data.missing_labels == "drop":
                    piece.keep &= ~cell.missing
                    self.notes.append(_by_id(found, split, start, ids))
                else:
                    problems.append(found)
        self.problems.add(piece.origin, *(_by_id(problem, split, start, ids) for problem in problems))
        return None if problems else pa.table({name: cell.values for name, cell in cells.items()})

    def _names_in(self, piece: "Piece") -> list[str]:
        """The columns that will be looked at: the task's, and those that may name rows."""
        names = piece.rows.table.column_names
        used = {name for given in piece.resolved.found.values() for name in given}
        ids = {find_column(name, names) for name in (self.data.id_column, "id") if name}
        return sorted(used | {name for name in ids if name})

    def _cells(self, piece: "Piece", column: Column, given: tuple[str, ...]) -> Cells:
        raw = [RawColumn(piece.rows, name) for name in given]
        optional = not column.required and not column.is_label
        if column.kind == "text":
            return as_text(raw[0], optional) if len(raw) == 1 else joined_text(raw, optional)
        if column.kind == "texts":
            return as_texts(raw, optional)
        if column.kind in ("messages", "reply"):
            return as_messages(raw[0], "user" if column.kind == "messages" else "assistant", optional)
        if column.kind == "label_list":
            return as_label_list(raw[0]) if len(raw) == 1 else indicator_labels(raw)
        convert = {
            "label": as_label,
            "number": as_number,
            "tokens": as_tokens,
            "tags": as_tokens,
            "answers": as_answers,
            "references": as_references,
        }
        return convert[column.kind](raw[0])

    def _check_lengths(self, piece: "Piece", cells: dict[str, Cells]) -> list[str]:
        there = [column for column in self.columns if column.name in cells]
        tokens = [column.name for column in there if column.kind == "tokens"][:1]
        tags = [column.name for column in there if column.kind == "tags"]
        raw = {name: RawColumn(piece.rows, piece.resolved.found[name][0]) for name in tokens}
        return [
            problem
            for first in tokens
            for other in tags
            for problem in length_mismatch(cells[first], cells[other], (first, other), raw[first])
        ]

    def _missing(self, split: str, piece: "Piece", column: Column, cell: Cells) -> RowProblem:
        """Rows without a value: a note, where the recipe says to leave them out, else a problem."""
        where = np.flatnonzero(cell.missing)
        name = " and ".join(quoted(given) for given in piece.resolved.found[column.name])
        found = listed(row_names(piece.rows, where[:SHOWN]), len(where))
        rows = counted(len(where), "row")
        if self.data.missing_labels == "drop":
            note = f"{split}: left out {rows} of {piece.origin} where {name} is empty: {found}"
            return RowProblem(note, "missing", {"": where.tolist()})
        several = len(piece.resolved.found[column.name]) > 1
        empty = "are empty" if several else "is empty"
        none = ", or write [] where no label applies" if column.kind == "label_list" and not several else ""
        message = (
            f"{name} {empty} in {rows}: {found}. Fill them in{none}, or leave these rows out with "
            "data.missing_labels=drop"
        )
        return RowProblem(message, "missing", {"": where.tolist()})

    def row_ids(self, split: str, pieces: "list[Piece]", before: int = 0) -> pa.ChunkedArray | None:
        """The id column's values, else row numbers over all the sources of a split.

        Args:
            before: rows of the split before these.
        """
        wanted = self.data.id_column
        if wanted is None and not all(piece.has_id for piece in pieces):
            return row_numbers(pieces, before)
        faults = Problems()
        ids = ids_of(pieces, wanted or "id", faults, before)
        if ids is None and wanted is None:
            # An `id` that nobody asked for may well name something else than rows.
            self.notes.append(f"{split}: {NO_ROW_IDS}")
            return row_numbers(pieces, before)
        self.problems.add("", *(_by_id(problem, split, 0, None) for problem in faults.messages()))
        return ids


@dataclass
class Piece:
    """One source as it was read."""

    origin: str
    rows: Rows
    resolved: Resolved
    keep: np.ndarray
    """Rows (bool) that are used."""

    def __len__(self) -> int:
        return int(self.rows.table.num_rows)

    @property
    def has_id(self) -> bool:
        """Whether there is a column `id` that the task doesn't use otherwise."""
        used = {name for given in self.resolved.found.values() for name in given}
        column = find_column("id", self.rows.table.column_names)
        return column is not None and column not in used


def _by_id(problem: str, split: str, start: int, ids: pa.ChunkedArray | None) -> str:
    """The same message with row ids in place of the row numbers within one file."""
    if not isinstance(problem, RowProblem):
        return problem
    where = np.array(problem.rows.pop(""), np.int64) + start
    rows = ids.take(pa.array(where)).to_pylist() if ids is not None else [str(row + 1) for row in where]
    return RowProblem(problem, problem.check, {split: rows})


def _moved(problem: str, by: int) -> str:
    """The same message with row numbers that count from another row."""
    if not isinstance(problem, RowProblem):
        return problem
    return RowProblem(problem, problem.check, {"": [row + by for row in problem.rows[""]]})


def _damaged(table: pa.Table, names: Sequence[str]) -> list[str]:
    """Columns whose buffers contradict one another, as in a damaged file: Arrow itself would crash on them."""
    problems = []
    for name in names:
        try:
            table.column(name).validate(full=True)
        except pa.ArrowException as error:
            problems.append(f"{quoted(name)} is damaged: {' '.join(str(error).split())[:200]}")
    return problems


def _describe(resolved: Resolved) -> str:
    return listed(" + ".join(quoted(name) for name in given) for given in resolved.found.values())


def row_numbers(pieces: "list[Piece]", before: int = 0) -> pa.ChunkedArray:
    """Numbers from 1 on over all the rows of a split, as text."""
    count = sum(map(len, pieces))
    return pa.chunked_array([pc.cast(pa.array(np.arange(before + 1, before + count + 1)), pa.string())])


def _with_columns(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The same table with empty columns for the names that it lacks."""
    for name in names:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
    return table


def ids_of(pieces: "list[Piece]", wanted: str, faults: Problems, before: int) -> pa.ChunkedArray | None:
    """The id column as text; None if it is absent, or doesn't name every row differently, as `faults` then say."""
    chunks = []
    starts = np.cumsum([0, *map(len, pieces)])
    for piece, start in zip(pieces, starts, strict=False):
        column = find_column(wanted, piece.rows.table.column_names)
        if column is None:
            there = listed(quoted(name) for name in piece.rows.table.column_names)
            missing = f"data.id_column names {quoted(wanted)}, which is not there"
            faults.add(piece.origin, f"{missing}. Columns there: {there}")
            continue
        raw = RawColumn(piece.rows, column)
        raw.typed = True  # an id "1.0" stays as it is
        cells = as_label(raw)
        faults.add(piece.origin, *(_moved(problem, before + int(start)) for problem in cells.problems))
        where = np.flatnonzero(cells.missing)
        if len(where):
            rows = f"{counted(len(where), 'row')}: {listed(row_names(piece.rows, where[:SHOWN]), len(where))}"
            empty = f"{quoted(column)} is empty in {rows}. Every row needs an id"
            faults.add(piece.origin, RowProblem(empty, "ids", {"": where + before + int(start)}))
        chunks += cells.values.chunks
    if faults:
        return None
    ids = pa.chunked_array(chunks, pa.string())
    origins = listed(dict.fromkeys(piece.origin for piece in pieces))
    faults.add(origins, *repeated_ids(ids, np.arange(before, before + len(ids)), wanted))
    return None if faults else ids


def repeated_ids(ids: pa.ChunkedArray, rows: np.ndarray, column: str) -> list[str]:
    """The problem with ids that occur more than once, if any do.

    Args:
        rows: int[ids], the row of each, from 0.
    """
    counts = pc.value_counts(ids)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if not len(repeated):
        return []
    where = np.flatnonzero(mask(pc.is_in(ids, repeated)))
    at: dict[str, list[str]] = {}
    for row, value in zip(where, ids.take(pa.array(where)).to_pylist(), strict=True):
        at.setdefault(value, []).append(f"{rows[row] + 1:,}")
    found = listed(f"{quoted(value)} (rows {listed(numbers)})" for value, numbers in at.items())
    often = f"{'1 id occurs' if len(at) == 1 else f'{len(at):,} ids occur'} repeatedly"
    message = f"the ids in {quoted(column)} must be distinct, but {often}: {found}"
    return [RowProblem(message, "ids", {"": rows[where]})]
