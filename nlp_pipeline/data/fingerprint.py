"""A content hash of rows: the same for the same values, however they were stored or chunked."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from .arrow_tables import table_of

if TYPE_CHECKING:
    import datasets


def fingerprint(rows: "pa.Table | datasets.Dataset") -> str:
    """XXH3-128 (hex) over names, types and values of every column.

    Values are hashed column by column as streams (lengths with what is missing, bytes, items), so that
    neither chunks nor padding nor file format show.
    """
    table = table_of(rows)
    whole = xxhash.xxh3_128(b"rows 1")
    for name in sorted(table.column_names):
        column = table.column(name)
        whole.update(f"{len(name)}:{name}:{column.type}:{len(column)}:".encode())
        streams = _Streams()
        for chunk in column.chunks:
            streams.update(chunk)
        whole.update(streams.digest())
    return whole.hexdigest()


class _Streams:
    """Hashes of one column, of the items of its lists, and of the fields of its objects."""

    def __init__(self) -> None:
        self._lengths = xxhash.xxh3_128()  # -1 for what is missing
        self._bytes = xxhash.xxh3_128()
        self._items: _Streams | None = None
        self._fields: list[_Streams] = []

    def update(self, values: pa.Array) -> None:
        type_ = values.type
        if pa.types.is_list(type_):
            self._lengths.update(_integers(pc.fill_null(pc.list_value_length(values), -1)))
            self._items = self._items or _Streams()
            self._items.update(values.flatten())
        elif pa.types.is_string(type_):
            self._lengths.update(_integers(pc.fill_null(pc.binary_length(values), -1)))
            # What lies behind a missing value is undefined.
            values = pc.fill_null(values, "") if values.null_count else values
            offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
            if len(values) and values.buffers()[2] is not None:
                self._bytes.update(values.buffers()[2][int(offsets[0]) : int(offsets[-1])])
        elif pa.types.is_floating(type_):
            self._lengths.update(_integers(pc.cast(pc.is_valid(values), pa.int8())))
            numbers = pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False)
            self._bytes.update((numbers + 0.0).astype("<f8").tobytes())  # -0.0 is 0.0
        elif pa.types.is_integer(type_):
            self._lengths.update(_integers(pc.cast(pc.is_valid(values), pa.int8())))
            self._bytes.update(_integers(pc.fill_null(values, 0)))
        elif pa.types.is_struct(type_):
            self._lengths.update(_integers(pc.cast(pc.is_valid(values), pa.int8())))
            self._fields = self._fields or [_Streams() for _ in range(type_.num_fields)]
            for streams, field in zip(self._fields, values.flatten(), strict=True):
                streams.update(field)
        else:
            raise TypeError(f"no content hash for {type_}")

    def digest(self) -> bytes:
        items = self._items.digest() if self._items else b"".join(field.digest() for field in self._fields)
        return self._lengths.digest() + self._bytes.digest() + items


def _integers(values: pa.Array) -> bytes:
    return values.to_numpy(zero_copy_only=False).astype("<i8").tobytes()
