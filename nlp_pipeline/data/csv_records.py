"""The records of a CSV or TSV file one by one: slower than Arrow, with the line of each and what is wrong with it."""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import pyarrow as pa

from ..errors import DataError
from .arrow_tables import Rows
from .file_bytes import BLANK
from .problems import counted, listed, quoted

LITERAL_QUOTES = "double quotes were taken as plain characters, as they don't pair up"
NO_ROWS = "has a header line but no rows"
DELIMITERS = {
    ";": "data.delimiter=';'",
    "\t": "data.format=tsv",
    "|": "data.delimiter='|'",
    ",": "data.delimiter=,",
}


@dataclass(frozen=True)
class Record:
    """One record of a CSV file: the line it begins on, its fields, or what is wrong with its quotes."""

    line: int
    fields: list[str]
    fault: Literal["", "stray", "unclosed"] = ""
    text: str = ""
    """Of a faulty record on a single line: the line."""


@dataclass(frozen=True)
class CsvRecords:
    """Iterating gives every record that isn't blank, the header first; it may be done any number of times.

    Args:
        open: opens the file's lines, from the first on.
        quoting: whether a double quote is more than a character like any other.
    """

    open: Callable[[], AbstractContextManager[Iterable[str]]]
    delimiter: str
    quoting: bool = True

    def __iter__(self) -> Iterator[Record]:
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE
        with self.open() as lines, _any_field_size():
            read: list[str] = []  # the lines of the record at hand
            reader = csv.reader(_noted(lines, read), delimiter=self.delimiter, strict=True, quoting=quoting)
            while True:
                line = reader.line_num + 1
                read.clear()
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    fault: Literal["stray", "unclosed"] = "unclosed" if "end of data" in str(error) else "stray"
                    yield Record(line, [], fault, read[0] if len(read) == 1 else "")
                else:
                    if fields:
                        yield Record(line, fields)

    def header(self) -> list[str]:
        """The column names.

        Raises:
            DataError: none, not distinct, or a single one that tells of another delimiter.
        """
        first = next(iter(self), None)
        if first is None or not any("".join(record.fields).strip() for record in self):
            raise DataError(BLANK)
        header = first.fields
        others = [char for char in DELIMITERS if char != self.delimiter and char in "".join(header)]
        if len(header) == 1 and others:
            raise DataError(
                f"only one column, {quoted(header[0])}, was found with the delimiter "
                f"{quoted(self.delimiter)}; set {DELIMITERS[others[0]]}"
            )
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            names = listed(quoted(name) for name in repeated)
            raise DataError(f"the header names a column twice: {names}. Columns must have distinct names")
        return header

    def faults(self) -> "Faults":
        """Every row with a wrong number of fields or a stray quote."""
        records = iter(self)
        width = len(next(records).fields)
        faults = Faults(width, self.delimiter)
        for row, record in enumerate(records, 1):
            faults.rows = row
            where = f"row {row:,} (line {record.line:,})"
            if record.fault:
                (faults.stray if record.fault == "stray" else faults.unclosed).append(where)
            elif len(record.fields) != width:
                faults.ragged.append(f"{where} has {len(record.fields)}")
        return faults

    def literal(self, faults: "Faults") -> "CsvRecords | None":
        """The same without quoting, if that is what the faults tell of: many TSV files know none."""
        if self.delimiter != "\t" or not (faults.stray or faults.unclosed):
            return None
        literal = replace(self, quoting=False)
        return None if literal.faults().messages() else literal

    def windows(self, size: int) -> Iterator[Rows]:
        """The rows, at most `size` at a time, all columns as strings.

        Raises:
            DataError: when it comes to a row that doesn't fit the header, with every such row of the file.
        """
        header = self.header()
        first, fields, lines = 0, list[list[str]](), list[int]()
        for record in islice(self, 1, None):
            found = record.fields
            if record.fault == "stray" and record.text:
                # Text after a closing quote that swallows no line is taken as it stands, as Arrow does.
                found = next(csv.reader([record.text], delimiter=self.delimiter))
            elif record.fault:
                found = []
            if len(found) != len(header):
                raise DataError(self.faults().messages())
            fields.append(found)
            lines.append(record.line)
            if len(fields) == size:
                yield _window(header, fields, lines, first)
                first, fields, lines = first + size, [], []
        if fields:
            yield _window(header, fields, lines, first)
        elif not first:
            raise DataError(NO_ROWS)


@dataclass
class Faults:
    """What is wrong with the rows of a CSV file."""

    width: int
    delimiter: str
    rows: int = 0
    ragged: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)

    def messages(self) -> list[str]:
        """One message a kind of fault, with the rows."""
        texts = []
        if self.rows == 0:
            texts.append(NO_ROWS)
        if self.ragged:
            texts.append(
                f"{counted(len(self.ragged), 'row')} without exactly the {counted(self.width, 'field')} "
                f"of the header: {listed(self.ragged)}. Put double quotes around text that holds the "
                f"delimiter {quoted(self.delimiter)}"
            )
        if self.stray:
            texts.append(
                f"{counted(len(self.stray), 'row')} with text after a closing double quote: "
                f"{listed(self.stray)}. "
                'Inside quotes, write a double quote twice: ""'
            )
        texts += [f"the double quote opened in {where} is never closed; close or remove it" for where in self.unclosed]
        return texts


def _noted(lines: Iterable[str], read: list[str]) -> Iterator[str]:
    """The same lines, each noted as it is read."""
    for line in lines:
        read.append(line)
        yield line


def _window(header: list[str], fields: list[list[str]], lines: list[int], first: int) -> Rows:
    columns = {
        name: pa.array(values, pa.string()) for name, values in zip(header, zip(*fields, strict=True), strict=True)
    }
    return Rows(pa.table(columns), typed=False, lines=lambda rows: [lines[row] for row in rows], first=first)


@contextmanager
def _any_field_size() -> Iterator[None]:
    """Lifts the csv module's limit on the length of a field, which is process-wide."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
