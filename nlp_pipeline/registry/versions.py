"""Versions of models, and what every registry can do.

There are no stages beside aliases: what MLflow once called a stage is an alias here (`@staging`, `@production`), of
which a version may have several and each belongs to one version at a time.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ConfigError, MissingExtraError, RegistryError
from ..run_directory import file_hash, finite
from .address import HUB, MLFLOW, WANDB, Address
from .store import LocalStore, check_hash

FORMAT = 1
MANIFEST, SAMPLE = "nlp-pipeline/version.json", "nlp-pipeline/sample.jsonl"
"""Where services have what belongs to a version beside the model's files."""
SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Version:
    """A published version."""

    address: Address
    manifest: dict[str, Any]
    aliases: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """Its number, from 1 on."""
        return self.address.version or 0

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """`sha256` and `size` of its files by name."""
        files: dict[str, dict[str, Any]] = self.manifest["files"]
        return files


class Registry(ABC):
    """Models, their versions and aliases; `root` is where."""

    root: str

    @abstractmethod
    def models(self) -> list[str]:
        """The names of all models."""

    @abstractmethod
    def numbers(self, name: str) -> list[int]:
        """The numbers of a model's versions, ascending."""

    @abstractmethod
    def aliases(self, name: str) -> dict[str, int]:
        """The versions that aliases stand for."""

    @abstractmethod
    def manifest(self, name: str, number: int) -> dict[str, Any]:
        """What a version says of itself; checked, as it may have been written by anybody.

        Raises:
            RegistryError: there is none, or it is damaged or malicious.
        """

    @abstractmethod
    def publish(self, address: Address, manifest: dict[str, Any], sources: dict[str, Path]) -> Version:
        """Store what isn't there yet, then make the next version of it.

        Args:
            sources: the files by SHA-256.
        """

    @abstractmethod
    def promote(self, version: Version, alias: str) -> int | None:
        """Let an alias stand for a version. Returns the version that it stood for."""

    @abstractmethod
    def fetch(self, version: Version, folder: Path) -> None:
        """Write a version's files into an empty folder; every one is compared with its hash.

        Raises:
            RegistryError: a file is missing or damaged.
        """

    @abstractmethod
    def fetch_sample(self, version: Version, target: Path) -> None:
        """Write the rows that a version is checked with; as `fetch`."""

    def prune(self, older_than: float) -> dict[str, int]:
        """Remove what killed pushes left; only where this package keeps the files itself.

        Returns:
            `blobs` and `bytes` removed, and half-written `files`.
        """
        raise ConfigError(f"PLACE: {self.root} is a service that keeps its files itself; there is nothing to prune")

    def alias(self, name: str, alias: str) -> int | None:
        """The version that an alias stands for."""
        return self.aliases(name).get(alias)

    def find(self, address: Address) -> Version:
        """A version by number or alias, else the newest.

        Raises:
            RegistryError: there is none, or its manifest is damaged.
        """
        number = address.version
        if address.alias is not None:
            number = self.alias(address.name, address.alias)
        elif number is None:
            number = max(self.numbers(address.name), default=None)
        if number is None:
            raise RegistryError(
                f"{address}: there is no such {'alias' if address.alias else 'model'}{self._there(address)}"
            )
        aliases = tuple(sorted(alias for alias, of in self.aliases(address.name).items() if of == number))
        return Version(address.at(number), self.manifest(address.name, number), aliases)

    def _there(self, address: Address) -> str:
        numbers, aliases = self.numbers(address.name), self.aliases(address.name)
        there = [f"@{alias} is {version}" for alias, version in aliases.items()]
        return f"; there are versions 1 to {max(numbers)}" + "".join(f", {a}" for a in there) if numbers else ""


def manifest_text(manifest: dict[str, Any]) -> bytes:
    """A manifest as it is stored."""
    return json.dumps(finite({"format": FORMAT, **manifest}), indent=2, ensure_ascii=False).encode() + b"\n"


def read_manifest(content: bytes, address: Address) -> dict[str, Any]:
    """A manifest as it was stored.

    Raises:
        RegistryError: it is damaged or malicious.
    """
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError):
        manifest = None
    if problems := manifest_problems(manifest):
        raise RegistryError(f"{address}: {problem}" for problem in problems)
    return dict(manifest)


def manifest_problems(manifest: Any) -> list[str]:
    """Everything wrong with a manifest, which may come from anywhere: no name in it may lead out of a folder."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict) or not manifest["files"]:
        return ["the manifest is not what a push writes; is it damaged?"]
    if manifest.get("format") != FORMAT:
        return [f"found a manifest of format {manifest.get('format')!r}, expected {FORMAT}; use a newer nlp-pipeline"]
    entries: Iterable[tuple[str, Any]] = [*manifest["files"].items(), ("the sample", manifest.get("sample"))]
    problems = [
        f"{name!r} has no SHA-256 and size in the manifest"
        for name, entry in entries
        if not isinstance(entry, dict)
        or not SHA256.fullmatch(str(entry.get("sha256")))
        or not isinstance(entry.get("size"), int)
    ]
    problems += [f"the file name {name!r} leads out of the folder" for name in manifest["files"] if not confined(name)]
    return problems


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]], address: Address) -> None:
    """Compare files that were read with their hashes.

    Raises:
        RegistryError: one is missing or damaged.
    """
    if missing := [name for name in files if not (folder / name).is_file() or (folder / name).is_symlink()]:
        raise RegistryError(f"{address}: {name} is missing there; push the run again" for name in missing)
    for name, entry in files.items():
        check_hash(file_hash(folder / name), entry["sha256"], f"{address}: {name}")


def confined(name: str) -> bool:
    """Whether a relative name stays in its folder on any system."""
    plain = bool(name) and not set("\\:\0") & set(name) and PurePosixPath(name).as_posix() == name
    return plain and not name.startswith("/") and not {"..", "."} & set(name.split("/"))


def open_registry(root: str) -> Registry:
    """The registry at a folder or URL, or a service.

    Raises:
        ConfigError, MissingExtraError: it can't be opened.
    """
    from .address import URL

    if root.startswith((MLFLOW, WANDB)):
        from ..tracking.trackers import keep_to_themselves

        keep_to_themselves()
    if root == MLFLOW:
        try:
            from .mlflow_registry import MlflowRegistry
        except ImportError:
            raise MissingExtraError("mlflow:", "mlflow", "mlflow") from None
        return MlflowRegistry()
    if root.startswith(WANDB):
        try:
            from .wandb_registry import WandbRegistry
        except ImportError:
            raise MissingExtraError("wandb:", "wandb", "wandb") from None
        return WandbRegistry(root)
    if root.startswith(HUB):
        from .hub import HubRegistry

        return HubRegistry(root)
    from .store_registry import StoreRegistry

    if URL.match(root):
        from .object_store import ObjectStore

        return StoreRegistry(root, ObjectStore(root))
    return StoreRegistry(root, LocalStore(Path(root)))
