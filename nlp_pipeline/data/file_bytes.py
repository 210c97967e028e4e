"""The bytes of a file: decompressed, and as UTF-8 whatever the file's encoding."""

import codecs
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from ..errors import DataError
from .locations import Source, zip_members
from .problems import counted, listed, quoted

BLANK = "is empty: there is nothing but blanks in it"
BOMS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MOST_TRIED = 10_000
"""Undecodable lines that are tried in other encodings."""
SMALL = 2**28
"""Bytes that a compressed file may always grow to."""
LARGEST_RATIO = 200
"""Beyond that, times its own size; plain text packs to a tenth, logs and tables of zeros to a hundredth."""
OTHER_ENCODINGS = ("cp1252", "cp1251", "shift_jis", "gb18030", "latin-1")


def read_bytes(source: Source) -> pa.Buffer:
    """The file's content; a plain file is mapped into memory, not copied, a compressed one grows in memory only.

    Raises:
        DataError: the file can't be read, its compressed data is damaged, or it grows beyond all measure.
    """
    if source.compression:
        with open_bytes(source) as stream:
            return pa.py_buffer(stream.read())
    with _readable(source):
        return pa.memory_map(source.value).read_buffer()


@contextmanager
def open_bytes(source: Source) -> Iterator[BinaryIO]:
    """The file's content as a stream, decompressed as it is read.

    Raises:
        DataError: as `read_bytes`; also for what is met while reading.
    """
    import bz2
    import gzip
    import lzma
    import zipfile

    opened: Any
    with _readable(source), ExitStack() as stack:
        match source.compression:
            case ".gz":
                opened = stack.enter_context(gzip.open(source.value))
            case ".bz2":
                opened = stack.enter_context(bz2.open(source.value))
            case ".xz":
                opened = stack.enter_context(lzma.open(source.value))
            case ".zst":
                opened = stack.enter_context(pa.input_stream(source.value, compression="zstd"))
            case ".zip":
                (member,) = zip_members(Path(source.value))
                archive = stack.enter_context(zipfile.ZipFile(source.value))
                opened = stack.enter_context(archive.open(member))
            case _:
                yield stack.enter_context(open(source.value, "rb"))
                return
        yield io.BufferedReader(_Bounded(opened, source), 1 << 18)


class _Bounded(io.RawIOBase):
    """A decompressing stream, as long as it doesn't grow to what only a decompression bomb does."""

    def __init__(self, stream: Any, source: Source) -> None:
        self._stream = stream
        self._packed = os.path.getsize(source.value)
        self._limit = max(SMALL, self._packed * LARGEST_RATIO)
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        block = self._stream.read(len(into))
        into[: len(block)] = block
        self._read += len(block)
        if self._read > self._limit:
            raise DataError(
                f"grows from {self._packed:,} to more than {self._limit:,} bytes when it is decompressed; as no text "
                "or table does so, it was not read further. Decompress it yourself if it is what you want"
            )
        return len(block)


@contextmanager
def _readable(source: Source) -> Iterator[None]:
    """Words what goes wrong inside while the file is read."""
    import lzma
    import zipfile
    import zlib

    try:
        yield
    except (
        OSError,
        EOFError,
        lzma.LZMAError,
        zlib.error,
        zipfile.BadZipFile,
        RuntimeError,
        ValueError,
    ) as error:
        if not source.compression:
            raise DataError(f"cannot be read: {error}") from error
        name = source.compression.removeprefix(".")
        raise DataError(f"cannot be decompressed as {name} ({error}); was it cut short, or misnamed?") from error


@contextmanager
def open_lines(source: Source, encoding: str, newline: str = "") -> Iterator[Iterable[str]]:
    """The file's lines as text, read as they are asked for; what `read_text` gives at once.

    Raises:
        DataError: as `open_bytes`; its bytes are not in the encoding.
    """
    if _is_utf8_name(encoding):
        with open_bytes(source) as stream:
            encoding = _sniff(stream.read(1024))
    try:
        with open_bytes(source) as stream, io.TextIOWrapper(stream, encoding, newline=newline) as text:
            try:
                yield _without_mark(text)
            except UnicodeError as error:
                raise _Undecodable from error  # a ValueError would be taken for damage
    except _Undecodable:
        with open_bytes(source) as stream:
            raise DataError(_undecodable((line.removesuffix(b"\n") for line in stream), encoding)) from None


class _Undecodable(Exception):
    """Bytes that are not in the encoding; worded where they are met."""


def _without_mark(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix("\ufeff")


def read_text(source: Source, encoding: str) -> pa.Buffer:
    """The file's text as UTF-8 without a byte order mark. UTF-16 and UTF-32 are recognised.

    Raises:
        DataError: as `read_bytes`; the file is blank, or its bytes are not in the encoding.
    """
    raw = read_bytes(source)
    if _is_utf8_name(encoding):
        encoding = _sniff(raw[:1024].to_pybytes())
    if encoding == "utf-8-sig":
        raw, encoding = raw[len(codecs.BOM_UTF8) :], "utf-8"
    if codecs.lookup(encoding).name != "utf-8":
        raw = _transcode(raw, encoding)
    elif not _is_utf8(raw):
        raise DataError(_undecodable(raw.to_pybytes().split(b"\n"), encoding))
    if not raw[:1_000_000].to_pybytes().strip() and not raw.to_pybytes().strip():
        raise DataError(BLANK)
    return raw


def _is_utf8_name(encoding: str) -> bool:
    """With or without the mark, whatever was said."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def _sniff(start: bytes) -> str:
    """UTF-16 or UTF-32 if the first bytes say so, else UTF-8."""
    for bom, encoding in BOMS:
        if start.startswith(bom):
            return encoding
    # UTF-16 without a mark: every other byte of plain Latin text is zero.
    even, odd = start[::2].count(0), start[1::2].count(0)
    half = len(start) // 2
    if half > 2 and max(even, odd) > 0.4 * half and min(even, odd) < 0.05 * half:
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8"


def _is_utf8(raw: pa.Buffer) -> bool:
    """Arrow validates UTF-8 at memory speed, without a copy, if the whole file is made one string."""
    offsets = pa.py_buffer(np.array([0, raw.size], np.int64))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, raw]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _transcode(raw: pa.Buffer, encoding: str) -> pa.Buffer:
    data = raw.to_pybytes()
    try:
        text = data.decode(encoding)
    except (UnicodeDecodeError, UnicodeError):
        raise DataError(_undecodable(data.split(b"\n"), encoding)) from None
    return pa.py_buffer(text.removeprefix("\ufeff").encode())


def _undecodable(lines: Iterable[bytes], encoding: str) -> str:
    """Which lines can't be decoded, and how they would read in the encodings that are most likely."""
    bad: list[tuple[int, bytes, int]] = []
    count = 0
    for number, line in enumerate(lines, 1):
        try:
            line.decode(encoding)
        except UnicodeDecodeError as error:
            count += 1
            if len(bad) < MOST_TRIED:
                bad.append((number, line, error.start))
    where = listed((f"line {number} (byte 0x{line[at]:02x})" for number, line, at in bad[:10]), count)
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")) or not bad:
        return f"is not {encoding}. Set data.encoding to the encoding the file was saved in"
    fixes = []
    for other in OTHER_ENCODINGS:
        try:
            texts = [line.decode(other) for _, line, _ in bad]
        except UnicodeDecodeError:
            continue
        number, line, at = bad[0]
        before = len(line[:at].decode(other, "replace"))
        excerpt = texts[0][max(0, before - 12) : before + 12].strip()
        fixes.append(f"data.encoding={other} (line {number} reads {quoted(excerpt)})")
    return (
        f"{counted(count, 'line')} cannot be decoded as {encoding}: {where}. "
        f"Set the encoding the file was saved in: {' or '.join(fixes[:3])}"
    )


def text_stream(text: pa.Buffer, newline: str = "") -> io.TextIOWrapper:
    """UTF-8 bytes as a stream of text lines, for the slower passes that look for faults."""
    # A slice may end within a character.
    return io.TextIOWrapper(io.BytesIO(text.to_pybytes()), encoding="utf-8", errors="ignore", newline=newline)
