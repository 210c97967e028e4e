"""What a registry lies in, as a few operations; here on a file system.

No lock is held at any time, so a process that is killed leaves none behind: every file appears whole, under a name that
nobody else has (a link that fails where the name is taken) or in place of an older one (a rename).
"""

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from ..errors import ConfigError, RegistryError, StorageError
from ..run_directory import file_hash

ASIDE, TRASH, BLOBS = ".writing", ".trash", "blobs"
CHUNK = 1 << 20


class Store(Protocol):
    """Named small files and blobs that are called by the SHA-256 of their content."""

    def prepare(self) -> None:
        """Make the place, before the first write."""

    def read(self, name: str) -> bytes:
        """The content of a small file; FileNotFoundError where there is none."""

    def write_new(self, name: str, content: bytes) -> bool:
        """Publish a small file under a name of its own. False where the name is taken; then nothing has changed."""

    def replace(self, name: str, content: bytes) -> None:
        """Write a small file; readers see the old content or the whole new one."""

    def names(self, folder: str) -> list[str]:
        """What lies in a folder, without what starts with a dot."""

    def add_blob(self, source: Path, sha256: str) -> None:
        """Store a file unless its content is there already, whole."""

    def fetch_blob(self, sha256: str, target: Path) -> None:
        """Write a blob into a new file; RegistryError where it is missing or not what its name says."""

    def missing(self, hashes: set[str]) -> set[str]:
        """Those of some blobs that aren't there."""

    def blobs(self) -> Iterator[tuple[str, int]]:
        """(SHA-256, bytes) of every blob."""

    def remove_blob(self, sha256: str, older_than: float) -> bool:
        """Remove a blob that nobody has stored or used again for so many seconds. Returns whether it is gone."""

    def clean(self, older_than: float) -> int:
        """Remove what killed processes left half written so many seconds ago; returns how many files."""


class LocalStore:
    """A folder on a file system that can link and rename, NFS among them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the folders."""
        try:
            for name in (BLOBS, "models", ASIDE, TRASH):
                self._path(f"{name}/x").parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"registry: {self.root} can't be made: {error.strerror}") from None

    def read(self, name: str) -> bytes:
        """As `Store.read`; a link is not followed."""
        with _open_plain(self._path(name)) as file:
            return file.read()

    def write_new(self, name: str, content: bytes) -> bool:
        """As `Store.write_new`: written aside, then linked, which fails where the name is taken."""
        target = self._path(name)
        with self._aside(content) as aside:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(aside, target)
            except FileExistsError:
                return False
            _sync_folder(target.parent)
        return True

    def replace(self, name: str, content: bytes) -> None:
        """As `Store.replace`: written aside, then renamed."""
        target = self._path(name)
        with self._aside(content) as aside:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(aside, target)
            _sync_folder(target.parent)

    def names(self, folder: str) -> list[str]:
        """As `Store.names`."""
        try:
            return sorted(name for name in os.listdir(self._path(folder)) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def add_blob(self, source: Path, sha256: str) -> None:
        """As `Store.add_blob`. A damaged blob is replaced; one that is there becomes young again, see `remove_blob`."""
        target = self._blob(sha256)
        with suppress(FileNotFoundError):
            os.utime(target, follow_symlinks=False)
            if target.is_file() and not target.is_symlink() and file_hash(target) == sha256:
                return
        with open(source, "rb") as file, self._aside(file, sha256) as aside:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.chmod(aside, 0o444)
            os.replace(aside, target)
            _sync_folder(target.parent)

    def fetch_blob(self, sha256: str, target: Path) -> None:
        """As `Store.fetch_blob`."""
        try:
            with _open_plain(self._blob(sha256)) as file, open(target, "xb") as out:
                found = copy_hashed(file, out)
        except FileNotFoundError:
            raise RegistryError(f"{self.root}: the blob {sha256} is missing; push the run again") from None
        check_hash(found, sha256, str(self.root))

    def missing(self, hashes: set[str]) -> set[str]:
        """As `Store.missing`."""
        return {sha256 for sha256 in hashes if not self._blob(sha256).is_file()}

    def blobs(self) -> Iterator[tuple[str, int]]:
        """As `Store.blobs`."""
        for folder in self.names(BLOBS):
            for name in self.names(f"{BLOBS}/{folder}"):
                with suppress(FileNotFoundError):
                    yield name, os.lstat(self._path(f"{BLOBS}/{folder}/{name}")).st_size

    def remove_blob(self, sha256: str, older_than: float) -> bool:
        """As `Store.remove_blob`.

        A push that finds a blob makes it young first. So the blob is taken out of its place before its age is looked
        at: a push that comes later doesn't find it and stores it anew, one that came earlier made it young, and then
        it goes back.
        """
        path, trash = self._blob(sha256), self._path(f"{TRASH}/{sha256}")
        with suppress(FileNotFoundError):
            if _age(path) < older_than:
                return False
            os.replace(path, trash)
            if _age(trash) < older_than:
                with suppress(FileExistsError):
                    os.link(trash, path)
                trash.unlink()
                return False
            trash.unlink()
        return True

    def clean(self, older_than: float) -> int:
        """As `Store.clean`. A blob that a killed prune took out of its place goes back."""
        for name in self.names(TRASH):
            with suppress(FileNotFoundError):
                with suppress(FileExistsError):
                    os.link(self._path(f"{TRASH}/{name}"), self._blob(name))
                self._path(f"{TRASH}/{name}").unlink()
        old = [self._path(f"{ASIDE}/{name}") for name in self.names(ASIDE)]
        old = [path for path in old if _age(path) >= older_than]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _blob(self, sha256: str) -> Path:
        return self._path(f"{BLOBS}/{sha256[:2]}/{sha256}")

    def _path(self, name: str) -> Path:
        """Where a name lies; no folder on the way may be a link that leads out."""
        path = self.root / name
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise RegistryError(f"{path.parent} is a symbolic link that leads out of the registry; nothing was touched")
        return path

    @contextmanager
    def _aside(self, content: "bytes | BinaryIO", sha256: str | None = None) -> Iterator[Path]:
        """Content on the disk under a name that nobody reads; gone at the end, unless it was renamed."""
        path = self._path(f"{ASIDE}/{uuid.uuid4().hex}")
        try:
            with open(path, "xb") as out:
                if isinstance(content, bytes):
                    out.write(content)
                else:
                    check_hash(copy_hashed(content, out), sha256 or "", "the run's model folder")
                out.flush()
                os.fsync(out.fileno())
            yield path
        except OSError as error:
            raise StorageError(f"the registry {self.root} can't be written: {error.strerror}") from None
        finally:
            path.unlink(missing_ok=True)


def copy_hashed(source: BinaryIO, target: BinaryIO) -> str:
    """Copy a stream; returns the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def check_hash(found: str, expected: str, where: str) -> None:
    """Raises RegistryError where a content isn't what it should be."""
    if found != expected:
        raise RegistryError(
            f"{where}: found a file with the SHA-256 {found}, expected {expected}; it was damaged or changed. "
            "Push the run again: damaged files are replaced"
        )


def _open_plain(path: Path) -> BinaryIO:
    """A file to read; a symbolic link is taken for none."""
    try:
        return open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RegistryError(f"{path} can't be read ({error.strerror}); links in a registry are not followed") from None


def _age(path: Path) -> float:
    """Seconds since a file was written or used; endless where it is gone."""
    try:
        return time.time() - os.lstat(path).st_mtime
    except FileNotFoundError:
        return float("inf")


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system lets folders be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
