"""CSV and TSV: read by Arrow as text; only when that fails does a slower pass look for every faulty row."""

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from ..errors import DataError
from .file_bytes import text_stream
from .problems import counted, listed, quoted

LITERAL_QUOTES = "double quotes were taken as plain characters, as they don't pair up"
NO_ROWS = "has a header line but no rows"
LARGEST_BLOCK = 2**31 - 1
DELIMITERS = {
    ";": "data.delimiter=';'",
    "\t": "data.format=tsv",
    "|": "data.delimiter='|'",
    ",": "data.delimiter=,",
}


@dataclass(frozen=True)
class CsvText:
    """The text of a CSV file and how it is to be parsed."""

    text: pa.Buffer
    delimiter: str
    quoting: bool = True
    notes: tuple[str, ...] = ()
    """What a user should know of the way the file was parsed."""

    def read(self) -> "tuple[pa.Table, CsvText]":
        """All columns as strings (so "007" and "NA" stay what they are), and the parsing that fitted.

        Raises:
            DataError: faults of the header, or every row that doesn't fit it.
        """
        header = self._header()
        has_quotes, lines = _scan(self.text)
        plain = replace(self, quoting=has_quotes)
        failure = ""
        try:
            table = plain._parse(header)
        except pa.ArrowInvalid as error:
            failure = str(error)
        # Without line breaks inside quotes, every line but the header is a row. If there are fewer rows, a
        # stray quote may have swallowed some: look closer.
        if not failure and (not has_quotes or table.num_rows + 1 == lines):
            return _nonempty(table), plain
        faults = plain._faults()
        if not failure and not faults.messages():
            return _nonempty(table), plain
        if (faults.stray or faults.unclosed) and self.delimiter == "\t":
            # Many TSV files know no quoting: a quote is a character like any other.
            literal = replace(self, quoting=False, notes=(LITERAL_QUOTES,))
            if not literal._faults().messages():
                return _nonempty(literal._parse(header)), literal
        raise DataError(faults.messages() or [f"cannot be parsed: {failure}"])

    def lines(self, rows: Sequence[int]) -> list[int]:
        """The line that each row (from 0, ascending) begins on."""
        wanted, found = set(rows), {}
        for row, record in enumerate(islice(self._records(), 1, None)):
            if row in wanted:
                found[row] = record.line
        return [found[row] for row in rows]

    def _parse(self, header: list[str]) -> pa.Table:
        block = 1 << 23
        while True:
            try:
                return arrow_csv.read_csv(
                    pa.BufferReader(self.text),
                    read_options=arrow_csv.ReadOptions(block_size=block),
                    parse_options=arrow_csv.ParseOptions(
                        delimiter=self.delimiter,
                        quote_char='"' if self.quoting else False,
                        newlines_in_values=self.quoting,
                    ),
                    convert_options=arrow_csv.ConvertOptions(
                        column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
                    ),
                )
            except pa.ArrowInvalid as error:
                # A row longer than a block: try again with larger blocks.
                if "straddl" not in str(error) or block >= min(self.text.size, LARGEST_BLOCK):
                    raise
                block = min(block * 16, LARGEST_BLOCK)

    def _header(self) -> list[str]:
        """The column names.

        Raises:
            DataError: not distinct, or a single one that tells of another delimiter.
        """
        # The start of the file is enough, unless its header is longer than a megabyte.
        header = next(CsvText(self.text[: 1 << 20], self.delimiter)._records()).fields
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

    def _records(self) -> "Iterator[_Record]":
        """Every record that isn't blank, the header first."""
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE
        with _any_field_size():
            reader = csv.reader(text_stream(self.text), delimiter=self.delimiter, strict=True, quoting=quoting)
            while True:
                line = reader.line_num + 1
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield _Record(line, [], "unclosed" if "end of data" in str(error) else "stray")
                else:
                    if fields:
                        yield _Record(line, fields)

    def _faults(self) -> "_Faults":
        """Every row with a wrong number of fields or a stray quote."""
        records = self._records()
        width = len(next(records).fields)
        faults = _Faults(width, self.delimiter)
        for row, record in enumerate(records, 1):
            faults.rows = row
            where = f"row {row:,} (line {record.line:,})"
            if record.fault:
                (faults.stray if record.fault == "stray" else faults.unclosed).append(where)
            elif len(record.fields) != width:
                faults.ragged.append(f"{where} has {len(record.fields)}")
        return faults


@dataclass(frozen=True)
class _Record:
    """One record of a CSV file: the line it begins on, its fields, or what is wrong with its quotes."""

    line: int
    fields: list[str]
    fault: Literal["", "stray", "unclosed"] = ""


@dataclass
class _Faults:
    """What the slower pass found."""

    width: int
    delimiter: str
    rows: int = 0
    ragged: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)

    def messages(self) -> list[str]:
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


def _scan(text: pa.Buffer) -> tuple[bool, int]:
    """Whether there are double quotes, and the number of lines."""
    data = np.frombuffer(text, np.uint8)
    step = 1 << 24
    blocks = [data[start : start + step] for start in range(0, len(data), step)]
    breaks = sum(int(np.count_nonzero(block == ord("\n"))) for block in blocks)
    return any(bool((block == ord('"')).any()) for block in blocks), breaks + (data[-1] != ord("\n"))


def _nonempty(table: pa.Table) -> pa.Table:
    if table.num_rows == 0:
        raise DataError(NO_ROWS)
    return table


@contextmanager
def _any_field_size() -> Iterator[None]:
    """Lifts the csv module's limit on the length of a field, which is process-wide."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
