"""The data file: its encoding and delimiter, its rows, and the files beside it that hold the other splits."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..config.schema import DataConfig
from ..data.arrow_tables import Rows
from ..data.columns import find_column
from ..data.csv_records import DELIMITERS
from ..data.file_bytes import read_text
from ..data.locations import Source
from ..data.problems import listed, quoted
from ..data.readers import Reader
from ..data.sources import parse_sources
from ..errors import DataError

SAMPLE_ROWS = 20_000
"""Rows that the guess looks at, spread evenly over the file: files are often sorted by label."""
HEAD_BYTES = 100_000
SPLIT_NAMES = {"validation": ("validation", "valid", "val", "dev", "eval"), "test": ("test",)}
_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class DataFile:
    """A data file as it was read."""

    data: DataConfig
    """How it is read: its path as typed, encoding and delimiter."""
    rows: Rows
    sample: Rows
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a setting of `data` is what it is."""

    @property
    def path(self) -> Path:
        """As typed."""
        return Path(str(self.data.train))

    @property
    def count(self) -> int:
        """Rows in the whole file."""
        return int(self.rows.table.num_rows)


def open_file(path: Path) -> DataFile:
    """Reads a data file, trying encodings and delimiters.

    Raises:
        DataError: there is no such file, or it can't be read.
    """
    data, reasons = DataConfig(train=str(path)), {}
    source = find_source(data, path)
    try:
        if source.format != "parquet":
            encoding, reason = find_encoding(source)
            if encoding != "utf-8":
                data, reasons["encoding"] = data.model_copy(update={"encoding": encoding}), reason
        if source.format in ("csv", "tsv"):
            usual = "\t" if source.format == "tsv" else ","
            delimiter = find_delimiter(read_text(source, data.encoding), usual)
            if delimiter != usual:
                data = data.model_copy(update={"delimiter": delimiter})
                reasons["delimiter"] = f"the header line is divided by {quoted(delimiter)}"
        rows = Reader(data).read(source, "train")
    except DataError as error:
        raise DataError([f"{path} {problem}" for problem in error.problems]) from error
    return DataFile(data, rows, _thin(rows), reasons)


def find_source(data: DataConfig, path: Path) -> Source:
    """The one file that a path stands for."""
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.is_file())
        there = f" In it: {listed(inside)}" if inside else ""
        raise DataError(f"{path} is a folder; name the file with the training rows.{there}")
    sources, problems = parse_sources(str(path), data, "train", None)
    if problems:
        raise DataError(problems)
    if len(sources) != 1 or sources[0].kind != "file":
        raise DataError(f"{path} is no single file; `init` looks at a CSV, TSV, JSON, JSON Lines or Parquet file")
    return sources[0]


def find_encoding(source: Source) -> tuple[str, str]:
    """The encoding that fits the bytes, and why it was chosen.

    Files with a byte order mark count as UTF-8: the reader goes by each file's own mark.

    Raises:
        DataError: the file is blank, or fits none of them.
    """
    try:
        read_text(source, "utf-8")
        return "utf-8", ""
    except DataError as error:
        try:
            text = read_text(source, "cp1252").to_pybytes().decode()
        except DataError:
            raise error from None
    strange = re.search(r"[^\n]{0,20}[^\x00-\x7f][^\n]{0,20}", text)
    excerpt = f": {quoted(strange[0], 60)}" if strange else ""
    return "cp1252", f"the file is not UTF-8; check that this reads well{excerpt}"


def find_delimiter(text: pa.Buffer, usual: str) -> str:
    """The delimiter under which most rows have as many fields as the header, and the header more than one."""
    head = text[:HEAD_BYTES].to_pybytes().decode("utf-8", "ignore")
    best, best_fit = usual, (0.0, 0)
    for delimiter in (usual, *(char for char in DELIMITERS if char != usual)):
        widths = _widths(head, delimiter)
        if not widths or widths[0] < 2:
            continue
        fit = (widths.count(widths[0]) / len(widths), widths[0])
        if fit > best_fit:
            best, best_fit = delimiter, fit
    return best


def _widths(head: str, delimiter: str) -> list[int]:
    """Fields of each record; the last one is left out, as it may be cut."""
    widths = []
    try:
        for fields in csv.reader(StringIO(head, newline=""), delimiter=delimiter):
            if fields:
                widths.append(len(fields))
    except csv.Error:
        pass  # the rows before the fault tell enough
    return widths[:-1] if len(head) >= HEAD_BYTES // 2 else widths


def _thin(rows: Rows) -> Rows:
    """Every n-th row, so that at most SAMPLE_ROWS remain."""
    count = rows.table.num_rows
    if count <= SAMPLE_ROWS:
        return rows
    where = np.arange(SAMPLE_ROWS) * count // SAMPLE_ROWS
    keep = np.zeros(count, bool)
    keep[where] = True
    mixed = {name: [kinds[row] for row in where] for name, kinds in rows.mixed.items()}
    return Rows(rows.table.filter(pa.array(keep)), rows.classes, mixed, rows.typed)


def find_siblings(file: DataFile, columns: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Files of the other splits beside a `train` file, and why some that are there are not used.

    Args:
        columns: what they must have; a test file without labels is nothing to score.
    """
    found: dict[str, str] = {}
    notes: list[str] = []
    for split, names in SPLIT_NAMES.items():
        for name in names:
            path = file.path.with_name(_TRAIN.sub(name, file.path.name))
            if path == file.path or not path.is_file():
                continue
            problem = _sibling_problem(file.data, path, columns)
            if problem:
                notes.append(f"{path} is left out: {problem}")
            else:
                found[split] = str(path)
                break
    return found, notes


def _sibling_problem(data: DataConfig, path: Path, columns: Sequence[str]) -> str:
    try:
        rows = Reader(data).read(find_source(data, path), "train")
    except DataError as error:
        return "; ".join(error.problems)
    missing = [name for name in columns if find_column(name, rows.table.column_names) is None]
    return f"it has no column {listed(quoted(name) for name in missing)}" if missing else ""
