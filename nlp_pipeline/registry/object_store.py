"""A registry in whatever fsspec can reach: the same layout as in a folder.

A version is one small object, written last, under the condition that there is none of its name. How much that promises
is up to the store: S3 checks and writes at once (`If-None-Match: *`), so two pushes never get the same number; so does
fsspec's memory within one process. Where fsspec asks first and writes then (its default), two pushes at the same moment
could get the same number: push from one place at a time there.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, RegistryError
from ..secrets import hide_password
from .store import BLOBS, CHUNK, check_hash, copy_hashed

EXTRAS = {"s3": ("s3fs", "s3")}
"""The package and the extra of this one behind a protocol."""


class ObjectStore:
    """A prefix of an object store."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.shown = hide_password(url)
        protocol = url.partition("://")[0]
        try:
            # Others push too: what was listed a moment ago may not be all.
            self.files, self.root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            if protocol in EXTRAS:
                raise MissingExtraError(f"{protocol}://", *EXTRAS[protocol]) from None
            raise RegistryError(f"{self.shown}: {error}") from None
        except ValueError as error:
            raise RegistryError(f"{self.shown}: fsspec knows no such store: {error}") from None
        self.root = self.root.rstrip("/")

    def prepare(self) -> None:
        """Nothing: objects need no folders."""

    def read(self, name: str) -> bytes:
        """As `Store.read`."""
        content: bytes = self.files.cat_file(self._path(name))
        return content

    def write_new(self, name: str, content: bytes) -> bool:
        """As `Store.write_new`, as far as the store can."""
        try:
            self._make_folder(name)
            self.files.pipe_file(self._path(name), content, mode="create")
        except FileExistsError:
            return False
        return True

    def replace(self, name: str, content: bytes) -> None:
        """As `Store.replace`: stores put an object whole or not at all."""
        self._make_folder(name)
        self.files.pipe_file(self._path(name), content)

    def names(self, folder: str) -> list[str]:
        """As `Store.names`."""
        try:
            found = self.files.ls(self._path(folder), detail=False, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        last = [str(path).rstrip("/").rpartition("/")[2] for path in found]
        return sorted(name for name in last if name and not name.startswith("."))

    def add_blob(self, source: Path, sha256: str) -> None:
        """As `Store.add_blob`. What is there already is read back; if it is whole it stays, and becomes young again."""
        path = self._blob(sha256)
        with open(source, "rb") as file:
            check_hash(hashlib.file_digest(file, "sha256").hexdigest(), sha256, "the run's model folder")
        with suppress(FileNotFoundError):
            if self._hash(path) == sha256 and self._age(sha256) < 3600:
                return
        self._make_folder(path.removeprefix(self.root + "/"))
        self.files.put_file(str(source), path)
        check_hash(self._hash(path), sha256, self.shown)

    def fetch_blob(self, sha256: str, target: Path) -> None:
        """As `Store.fetch_blob`."""
        try:
            with self.files.open(self._blob(sha256), "rb", block_size=CHUNK) as file, open(target, "xb") as out:
                found = copy_hashed(file, out)
        except FileNotFoundError:
            raise RegistryError(f"{self.shown}: the blob {sha256} is missing; push the run again") from None
        check_hash(found, sha256, self.shown)

    def missing(self, hashes: set[str]) -> set[str]:
        """As `Store.missing`."""
        return {sha256 for sha256 in hashes if not self.files.exists(self._blob(sha256))}

    def blobs(self) -> Iterator[tuple[str, int]]:
        """As `Store.blobs`."""
        for folder in self.names(BLOBS):
            for entry in self.files.ls(self._path(f"{BLOBS}/{folder}"), detail=True, refresh=True):
                yield str(entry["name"]).rpartition("/")[2], int(entry["size"] or 0)

    def remove_blob(self, sha256: str, older_than: float) -> bool:
        """As `Store.remove_blob`.

        A push stores again what is older than an hour, and looks once more when it has published; so what a prune
        takes between the two is stored again, unless the prune stands still for as long as it leaves blobs alone.
        """
        if self._age(sha256) < older_than:
            return False
        self.files.rm_file(self._blob(sha256))
        return True

    def clean(self, older_than: float) -> int:
        """Nothing: an upload that was cut short is no object."""
        return 0

    def _age(self, sha256: str) -> float:
        """Seconds since a blob was stored."""
        modified: datetime = self.files.modified(self._blob(sha256))
        return time.time() - modified.timestamp()

    def _hash(self, path: str) -> str:
        with self.files.open(path, "rb", block_size=CHUNK) as file:
            digest = hashlib.sha256()
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def _make_folder(self, name: str) -> None:
        """Parents, where the store has real folders."""
        parent = self._path(name).rpartition("/")[0]
        with suppress(FileExistsError, NotImplementedError, PermissionError):
            if not _is_flat(self.files):
                self.files.makedirs(parent, exist_ok=True)

    def _blob(self, sha256: str) -> str:
        return self._path(f"{BLOBS}/{sha256[:2]}/{sha256}")

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"


def _is_flat(files: Any) -> bool:
    """Whether a store has keys and no folders."""
    protocols = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
    return bool(protocols & {"s3", "s3a", "gs", "gcs", "abfs", "az"})
