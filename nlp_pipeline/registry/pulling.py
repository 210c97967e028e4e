"""From a version to a folder that is whole: every file compared with its hash."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError, RegistryError
from ..run_directory import folder_hash, text_hash
from .address import is_address, parse
from .verification import check
from .versions import Registry, Version, open_registry


def find(text: str, place: str = "MODEL") -> tuple[Registry, Version]:
    """A version by its address.

    Raises:
        ConfigError, RegistryError: there is none.
    """
    address = parse(text, place)
    registry = open_registry(address.root)
    return registry, registry.find(address)


def pull(text: str, output: Path, verify: bool = False, trust_remote_code: bool = False) -> tuple[Version, int]:
    """Write a version's files into a new folder: the whole of it, or nothing.

    Args:
        verify: also load it in a clean process and compare the predictions of the version's sample.

    Returns:
        The version, and how many rows were compared.
    """
    registry, version = find(text)
    if output.exists():
        raise ConfigError(f"--output: {output} is there already; choose a folder that isn't")
    rows = 0
    with _aside(output) as aside:
        registry.fetch(version, aside / "model")
        if verify:
            registry.fetch_sample(version, aside / "sample.jsonl")
            rows = check(aside / "model", aside / "sample.jsonl", trust_remote_code)
        os.rename(aside / "model", output)
    return version, rows


def resolve(path: str | Path) -> Path:
    """A folder with the model: of a registry version the one in the cache, filled where needed; all else as it is.

    The files in the cache are compared with their hashes on every use.
    """
    text = str(path)
    if not is_address(text):
        return Path(path)
    registry, version = find(text)
    content = text_hash(json.dumps({name: entry["sha256"] for name, entry in sorted(version.files.items())}))
    folder = _cache() / f"{version.address.name}-{content[:16]}"
    expected = {name: entry["sha256"] for name, entry in version.files.items()}
    if folder.is_dir():
        if folder_hash(folder) == expected:
            return folder
        shutil.rmtree(folder)
    with _aside(folder) as aside:
        registry.fetch(version, aside / "model")
        try:
            os.rename(aside / "model", folder)
        except OSError:  # another process was faster
            if folder_hash(folder) != expected:
                raise RegistryError(f"{folder} is not the model that was pulled; remove it and try again") from None
    return folder


def _cache() -> Path:
    from ..data.tokenization import cache_root

    return cache_root().parent / "registry"


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A folder beside a target, on the same file system; gone at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
        (Path(folder) / "model").mkdir()
        yield Path(folder)
