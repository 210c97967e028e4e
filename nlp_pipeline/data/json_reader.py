"""JSON and JSON Lines as tables."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import json as arrow_json

from ..errors import DataError
from .arrow_tables import Rows, from_columns, from_rows
from .file_bytes import text_stream
from .problems import counted, listed, quoted
from .squad import flattened, is_nested

LARGEST_BLOCK = 2**31 - 1
MOST_BRACKETS = 200
"""Opening brackets in a line that Arrow is given; Python's slower reader counts how deep the others go."""


def read_json(text: pa.Buffer) -> Rows:
    """An array of objects, `{"data": [...]}`, SQuAD's articles, an object of columns; JSON Lines too, by any ending.

    Raises:
        DataError: invalid JSON, or another shape.
    """
    try:
        content = json.loads(text.to_pybytes())
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text[:1].to_pybytes() == b"{":
            return read_json_lines(text)
        raise DataError(f"is not valid JSON: {error.msg} at line {error.lineno:,}, column {error.colno:,}") from error
    except ValueError as error:
        raise DataError(f"is not valid JSON: {error}") from None  # a number of thousands of digits
    return _from_content(content)


def read_json_lines(text: pa.Buffer) -> Rows:
    """One object a line, blank lines apart; a JSON array under this ending is read as such.

    Raises:
        DataError: with every line that is not valid JSON or no object.
    """
    if text[:1].to_pybytes() == b"[":
        return read_json(text)
    try:
        table = _parse(text) if _is_object_a_line(text) else None
    except pa.ArrowInvalid:
        table = None  # not uniform, or invalid: the slower pass tells
    if table is None:
        return _read_slowly(text)
    return Rows(table, lines=lambda rows: _lines(text, rows))


def json_windows(open_lines: Callable[[], AbstractContextManager[Iterable[str]]], size: int) -> Iterator[Rows]:
    """The rows of JSON Lines, at most `size` at a time.

    Raises:
        DataError: when it comes to a line that is not valid JSON, with every such line of the file; or no object.
    """
    first = 0
    with open_lines() as lines:
        numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        while part := list(islice(numbered, size)):
            rows = _window([line.rstrip("\r\n") for _, line in part], [number for number, _ in part], first)
            if rows is None:
                break
            yield rows
            first += len(part)
        else:
            return
    with open_lines() as lines:
        _, _, invalid, count = _parse_each(lines)
    raise _not_json(invalid, count)


def is_line_wise(open_lines: Callable[[], AbstractContextManager[Iterable[str]]]) -> bool:
    """Whether the first line is a row by itself, not the beginning of an array or of an object over several lines."""
    with open_lines() as lines:
        first = next((line for line in lines if line.strip()), "")
    try:
        return not isinstance(json.loads(first), list)
    except ValueError:
        return False


def _window(lines: list[str], numbers: list[int], first: int) -> Rows | None:
    """The rows of some lines; None if one of them is not valid JSON."""
    text = pa.py_buffer("".join(f"{line}\n" for line in lines).encode())
    table = None
    with suppress(pa.ArrowInvalid):  # not uniform, or invalid: the slower pass tells
        table = _parse(text) if _is_object_a_line(text) else None
    if table is not None and table.num_rows == len(lines):
        rows = Rows(table)
    else:
        try:
            values = [json.loads(line) for line in lines]
        except ValueError:
            return None
        rows = from_rows(values, lambda row: f"row {first + row + 1:,} (line {numbers[row]:,})")
    rows.first, rows.lines = first, lambda wanted: [numbers[row] for row in wanted]
    return rows


def parse_lines(text: pa.Buffer, schema: pa.Schema | None = None) -> pa.Table:
    """Arrow's reading of JSON Lines.

    Raises:
        pa.ArrowInvalid: anything wrong; Arrow tells of the first fault only.
    """
    if not _is_shallow(text):
        raise pa.ArrowInvalid("too many brackets in a line")
    block = 1 << 23
    while True:
        try:
            return arrow_json.read_json(
                pa.BufferReader(text),
                read_options=arrow_json.ReadOptions(block_size=block),
                parse_options=arrow_json.ParseOptions(explicit_schema=schema),
            )
        except pa.ArrowInvalid as error:
            # A row longer than a block: try again with larger blocks.
            if "straddl" not in str(error) or block >= min(text.size, LARGEST_BLOCK):
                raise
            block = min(block * 16, LARGEST_BLOCK)


def _parse(text: pa.Buffer) -> pa.Table:
    table = parse_lines(text)
    schema = pa.schema([column.with_type(_without_times(column.type)) for column in table.schema])
    # Arrow takes "2024-05-01" for a time; text has to stay as it was written.
    return table if schema == table.schema else parse_lines(text, schema)


def _without_times(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_temporal(type_):
        return pa.string()
    if pa.types.is_list(type_):
        return pa.list_(_without_times(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([inner.with_type(_without_times(inner.type)) for inner in type_])
    return type_


def _is_object_a_line(text: pa.Buffer) -> bool:
    """Whether every line begins with `{` or is empty. Arrow 26 crashes on a line that is `null`."""
    data = np.frombuffer(text, np.uint8)
    first = np.concatenate([data[:1], data[_positions(data[:-1], b"\n") + 1]])
    return bool(np.isin(first, np.frombuffer(b"{\r\n", np.uint8)).all())


def _is_shallow(text: pa.Buffer) -> bool:
    """Whether no line can be nested deeply. Arrow 26 crashes on thousands of brackets within one another."""
    data = np.frombuffer(text, np.uint8)
    breaks = _positions(data, b"\n")
    opened = _positions(data, b"{[")
    return int(np.bincount(np.searchsorted(breaks, opened), minlength=1).max()) <= MOST_BRACKETS


def _positions(data: np.ndarray, characters: bytes) -> np.ndarray:
    """int64[n], where any of some bytes stands; in blocks, for the sake of memory."""
    wanted = np.zeros(256, bool)
    wanted[list(characters)] = True
    step = 1 << 24
    found = [np.flatnonzero(wanted[data[start : start + step]]) + start for start in range(0, len(data), step)]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _read_slowly(text: pa.Buffer) -> Rows:
    rows, lines, invalid, count = _parse_each(text_stream(text, "\n"), keep=True)
    if invalid:
        try:
            return _from_content(json.loads(text.to_pybytes()))  # one object or array over several lines
        except ValueError:
            raise _not_json(invalid, count) from None
    found = from_rows(rows, lambda row: f"row {row + 1:,} (line {lines[row]:,})")
    found.lines = lambda wanted: [lines[row] for row in wanted]
    return found


def _parse_each(lines: Iterable[str], keep: bool = False) -> tuple[list[Any], list[int], list[str], int]:
    """(rows, their lines, what is wrong with each invalid one, count of all); rows and lines only if they are kept."""
    rows: list[Any] = []
    numbers: list[int] = []
    invalid = []
    count = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        count += 1
        try:
            row = json.loads(line.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            where = f"row {count:,} (line {number:,}), column {error.colno:,}"
            invalid.append(f"{where}: {error.msg}: {quoted(line.strip())}")
            continue
        except ValueError as error:  # a number of thousands of digits
            invalid.append(f"row {count:,} (line {number:,}): {error}: {quoted(line.strip())}")
            continue
        if keep:
            rows.append(row)
            numbers.append(number)
    return rows, numbers, invalid, count


def _not_json(invalid: list[str], count: int) -> DataError:
    return DataError(
        f"{counted(len(invalid), 'line')} of {count:,} not valid JSON: {listed(invalid)}. Expected one object a line; "
        "for another layout set data.format=json"
    )


def _lines(text: pa.Buffer, rows: Sequence[int]) -> list[int]:
    numbers = [number for number, line in enumerate(text_stream(text, "\n"), 1) if line.strip()]
    return [numbers[row] for row in rows]


def _from_content(content: Any) -> Rows:
    """The rows of a parsed file, in any of the shapes."""
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        rows = content["data"]
        if not rows or isinstance(rows[0], dict):
            content = rows
    if isinstance(content, list):
        return from_rows(flattened(content) if is_nested(content) else content)
    if isinstance(content, dict) and content and all(isinstance(values, list) for values in content.values()):
        columns = from_columns(content)
        return columns if columns.table.num_rows else from_rows([])
    if isinstance(content, dict) and content:
        return from_rows([content])
    raise DataError(
        f"holds {quoted(content)}; expected an array of objects, an object with such an array under "
        '"data", or an object with a list for each column'
    )
