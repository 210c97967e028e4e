"""Rows from standard input: as many at a time as are there, so that a person or a slow program gets answers at once."""

import json
import os
import select
from collections.abc import Iterator
from typing import Any, TextIO

from .errors import DataError

CHUNK_BYTES = 1 << 16
PAUSE_SECONDS = 0.05
"""How long to wait for more lines before those that came are worked on."""


def row_windows(stream: TextIO, size: int) -> Iterator[tuple[list[int], list[Any]]]:
    """(line numbers, rows): JSON objects or strings or lists, else each line as a text. Blank lines are passed over.

    Args:
        stream: lines; of one with a file descriptor no more is waited for than there is.
        size: most rows at a time.

    Raises:
        DataError: when some lines are JSON objects and some are not.
    """
    number, first = 0, None
    for lines in line_windows(stream, size):
        numbers: list[int] = []
        rows: list[Any] = []
        for number, line in enumerate(lines, number + 1):  # noqa: B020 (the count goes on)
            if not line.strip():
                continue
            value = _value(line)
            first = isinstance(value, dict) if first is None else first
            if isinstance(value, dict) != first:
                raise DataError(
                    "standard input: some lines are JSON objects and some are not; give one kind "
                    f"(line {number:,} is the first of another kind)"
                )
            numbers.append(number)
            rows.append(value)
        if rows:
            yield numbers, rows


def line_windows(stream: TextIO, size: int) -> Iterator[list[str]]:
    """Lines without their ends, at most `size` at a time, at least one."""
    lines: list[str] = []
    for chunk in _chunks(stream):
        if chunk:
            lines += chunk
        whole = len(lines) // size * size
        for start in range(0, whole, size):
            yield lines[start : start + size]
        lines = lines[whole:]
        if not chunk and lines:  # no more is waiting
            yield lines
            lines = []
    if lines:
        yield lines


def _chunks(stream: TextIO) -> Iterator[list[str]]:
    """Lists of whole lines as they come; an empty one when no more is waiting for now."""
    try:
        descriptor = stream.fileno()
        select.select([descriptor], [], [], 0)
    except (OSError, ValueError, AttributeError):  # no file behind it, or a system that can't tell
        yield from ([line.rstrip("\n")] for line in stream)
        return
    encoding = stream.encoding or "utf-8"
    rest = b""
    while True:
        if not select.select([descriptor], [], [], PAUSE_SECONDS)[0]:
            yield []
            select.select([descriptor], [], [])
        part = os.read(descriptor, CHUNK_BYTES)
        if not part:
            break
        *whole, rest = (rest + part).split(b"\n")
        yield [_decoded(line, encoding) for line in whole]
    if rest:
        yield [_decoded(rest, encoding)]


def _decoded(line: bytes, encoding: str) -> str:
    try:
        return line.decode(encoding).removesuffix("\r")
    except UnicodeDecodeError as error:
        shown = line.decode(encoding, "replace")[:40]
        raise DataError(f"standard input: a line is not {encoding} ({error.reason}): {shown!r}") from None


def _value(line: str) -> Any:
    try:
        return json.loads(line) if line.lstrip()[0] in '{["' else line
    except (ValueError, RecursionError):
        return line
