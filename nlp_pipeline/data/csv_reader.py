"""CSV and TSV: read by Arrow as text; only when that fails does a slower pass look for every faulty row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from ..errors import DataError
from .csv_records import LITERAL_QUOTES, NO_ROWS, CsvRecords
from .file_bytes import text_stream

LARGEST_BLOCK = 2**31 - 1


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
        # The start of the file is enough, unless its header is longer than a megabyte.
        header = CsvText(self.text, self.delimiter)._records(1 << 20).header()
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
        faults = plain._records().faults()
        if not failure and not faults.messages():
            return _nonempty(table), plain
        if plain._records().literal(faults):
            literal = replace(self, quoting=False, notes=(LITERAL_QUOTES,))
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

    def _records(self, end: int | None = None) -> CsvRecords:
        """The slower reading, up to some byte."""
        return CsvRecords(lambda: text_stream(self.text[:end]), self.delimiter, self.quoting)


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
