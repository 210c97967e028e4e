"""Writing safetensors files past the page cache, hashed on the way: what a save costs the cores that train.

Copying some hundred megabytes into the page cache takes a core longer than hashing them does, and the library's own
writer leaves the hash to a second reading.
"""

import errno
import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CHUNK = 4 * 2**20
PAGE = 4096
"""What addresses, lengths and places in the file have to be multiples of for a write past the page cache."""


def write_tensors(path: Path, tensors: Mapping[str, Any]) -> str:
    """Write a new safetensors file and have it on the disk before returning.

    Args:
        tensors: by name, on any device, one after another brought to the host.

    Returns:
        Its SHA-256 (hex).

    Raises:
        OSError: it could not be written; what there is of it is of no use.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    with _Direct(path) as file:
        file.write(_header(ordered))
        for _, tensor in ordered:
            for part in _bytes_of(tensor):
                file.write(part)
        return file.finish()


def _header(tensors: list[tuple[str, Any]]) -> bytes:
    """The length of the JSON that follows (8 bytes, little-endian), and for each tensor its type, shape and place."""
    entries, end = {}, 0
    for name, tensor in tensors:
        start, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": _type_name(tensor), "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _type_name(tensor: Any) -> str:
    import torch

    short = {torch.bool: "BOOL", torch.bfloat16: "BF16", torch.uint8: "U8"}
    kind = "F" if tensor.is_floating_point() else "I"
    return short.get(tensor.dtype, f"{kind}{8 * tensor.element_size()}")


def _bytes_of(tensor: Any) -> Iterator[memoryview]:
    import torch

    whole = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
    if whole.numel():
        yield memoryview(whole.numpy())


class _Direct:
    """A new file, written in whole chunks of memory that the device can read by itself where the disk allows that."""

    def __init__(self, path: Path) -> None:
        self.sum = hashlib.sha256()
        self.chunk, self.used = mmap.mmap(-1, CHUNK), 0
        self.direct = getattr(os, "O_DIRECT", 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            self.file = os.open(path, flags | self.direct, 0o644)
        except OSError as error:
            if not self.direct or error.errno != errno.EINVAL:
                raise
            self.direct = 0
            self.file = os.open(path, flags, 0o644)

    def write(self, data: bytes | memoryview) -> None:
        left = memoryview(data)
        while len(left):
            some = left[: CHUNK - self.used]
            self.chunk[self.used : self.used + len(some)] = some
            self.used += len(some)
            left = left[len(some) :]
            if self.used == CHUNK:
                self._flush()

    def finish(self) -> str:
        """What is left, in its real length, and everything on the disk."""
        if self.used % PAGE:
            self._through_the_cache()
        self._flush()
        os.fsync(self.file)
        return self.sum.hexdigest()

    def _flush(self) -> None:
        left = memoryview(self.chunk)[: self.used]
        self.sum.update(left)
        while len(left):
            try:
                left = left[os.write(self.file, left) :]
            except OSError as error:
                if not self.direct or error.errno != errno.EINVAL:
                    raise
            else:
                if not len(left):
                    break
            # A file system that knows the flag but no such writes; or one that took a part which ends within a page.
            self._through_the_cache()
        self.used = 0

    def _through_the_cache(self) -> None:
        if self.direct:
            import fcntl

            fcntl.fcntl(self.file, fcntl.F_SETFL, fcntl.fcntl(self.file, fcntl.F_GETFL) & ~self.direct)
            self.direct = 0

    def __enter__(self) -> "_Direct":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.file)
