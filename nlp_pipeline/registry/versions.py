"""The layout of a registry in a folder or an object store, the same in both.

    blobs/ab/abcd…                    files by the SHA-256 of their content: equal ones are there once
    models/NAME/versions/3.json       a version: which file is which blob, lineage, scores. Never changed
    models/NAME/aliases/production.json   a name that moves from version to version

A version is there when its manifest is, which is written last and whole. There are no stages beside aliases: what
MLflow once called a stage is an alias here (`@staging`, `@production`), of which a version may have several and each
belongs to one version at a time.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import RegistryError
from ..run_directory import finite, utc_now
from .address import Address
from .store import LocalStore, Store

FORMAT = 1
GRACE_SECONDS = 24 * 3600.0
"""How long what no version names is kept by `prune`: longer than any push takes."""
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


class Registry:
    """Models, their versions and aliases in a store."""

    def __init__(self, root: str, store: Store) -> None:
        self.root, self.store = root, store

    def models(self) -> list[str]:
        """The names of all models."""
        return [name for name in self.store.names("models") if self.numbers(name)]

    def numbers(self, name: str) -> list[int]:
        """The numbers of a model's versions, ascending."""
        found = (re.fullmatch(r"([1-9][0-9]*)\.json", file) for file in self.store.names(f"models/{name}/versions"))
        return sorted(int(match[1]) for match in found if match)

    def aliases(self, name: str) -> dict[str, int]:
        """The versions that aliases stand for."""
        files = [file for file in self.store.names(f"models/{name}/aliases") if file.endswith(".json")]
        found = {file.removesuffix(".json"): self._alias(name, file.removesuffix(".json")) for file in files}
        return {alias: version for alias, version in found.items() if version is not None}

    def find(self, address: Address) -> Version:
        """A version by number or alias, else the newest.

        Raises:
            RegistryError: there is none, or its manifest is damaged.
        """
        number = address.version
        if address.alias is not None:
            number = self._alias(address.name, address.alias)
        elif number is None:
            number = max(self.numbers(address.name), default=None)
        if number is None:
            raise RegistryError(
                f"{address}: there is no such {'alias' if address.alias else 'model'}{self._there(address)}"
            )
        aliases = tuple(sorted(alias for alias, of in self.aliases(address.name).items() if of == number))
        return Version(address.at(number), self.manifest(address.name, number), aliases)

    def publish(self, address: Address, manifest: dict[str, Any], sources: dict[str, Path]) -> Version:
        """Store what isn't there yet, then the manifest under the next free number.

        Args:
            sources: the files by SHA-256.
        """
        self.store.prepare()
        for sha256, source in sources.items():
            self.store.add_blob(source, sha256)
        content = json.dumps(finite({"format": FORMAT, **manifest}), indent=2, ensure_ascii=False).encode() + b"\n"
        number = max(self.numbers(address.name), default=0) + 1
        while not self.store.write_new(f"models/{address.name}/versions/{number}.json", content):
            number += 1
        # What a prune took in the moment before the manifest was there is stored again.
        for sha256 in self.store.missing(set(sources)):
            self.store.add_blob(sources[sha256], sha256)
        return Version(address.at(number), json.loads(content))

    def promote(self, version: Version, alias: str) -> int | None:
        """Let an alias stand for a version. Returns the version that it stood for."""
        name = version.address.name
        before = self._alias(name, alias)
        content = json.dumps({"version": version.number, "since": utc_now()}, indent=2).encode() + b"\n"
        self.store.replace(f"models/{name}/aliases/{alias}.json", content)
        return before

    def fetch(self, version: Version, folder: Path) -> None:
        """Write a version's files into an empty folder; every one is compared with its hash.

        Raises:
            RegistryError: a file is missing or damaged.
        """
        for name, entry in version.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self.store.fetch_blob(entry["sha256"], target)

    def prune(self, older_than: float = GRACE_SECONDS) -> dict[str, int]:
        """Remove blobs that no version names and nobody stored or used lately. Safe beside running pushes.

        Returns:
            `blobs` and `bytes` removed, and half-written `files`.
        """
        files = self.store.clean(older_than)
        stored = dict(self.store.blobs())  # before the manifests are read: what is stored later is left alone
        used = set()
        for name in self.models():
            for number in self.numbers(name):
                manifest = self.manifest(name, number)
                used |= {entry["sha256"] for entry in (*manifest["files"].values(), manifest["sample"])}
        gone = [sha256 for sha256 in stored if sha256 not in used and SHA256.fullmatch(sha256)]
        gone = [sha256 for sha256 in gone if self.store.remove_blob(sha256, older_than)]
        return {"blobs": len(gone), "bytes": sum(stored[sha256] for sha256 in gone), "files": files}

    def manifest(self, name: str, number: int) -> dict[str, Any]:
        """What a version says of itself; checked, as it may have been written by anybody.

        Raises:
            RegistryError: there is none, or it is damaged or malicious.
        """
        address = Address(self.root, name, number)
        try:
            content = self.store.read(f"models/{name}/versions/{number}.json")
        except FileNotFoundError:
            raise RegistryError(f"{address}: there is no such version{self._there(address)}") from None
        try:
            manifest = json.loads(content)
        except (ValueError, RecursionError):
            manifest = None
        if problems := manifest_problems(manifest):
            raise RegistryError(f"{address}: {problem}" for problem in problems)
        return dict(manifest)

    def _alias(self, name: str, alias: str) -> int | None:
        try:
            version = json.loads(self.store.read(f"models/{name}/aliases/{alias}.json"))["version"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RegistryError(f"the alias {alias} of {name} is damaged; promote a version anew") from None
        return version if isinstance(version, int) and version > 0 else None

    def _there(self, address: Address) -> str:
        numbers, aliases = self.numbers(address.name), self.aliases(address.name)
        there = [*(f"@{alias} is {version}" for alias, version in aliases.items())]
        return f"; there are versions 1 to {max(numbers)}" + "".join(f", {a}" for a in there) if numbers else ""


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


def confined(name: str) -> bool:
    """Whether a relative name stays in its folder on any system."""
    plain = bool(name) and not set("\\:\0") & set(name) and PurePosixPath(name).as_posix() == name
    return plain and not name.startswith("/") and not {"..", "."} & set(name.split("/"))


def open_registry(root: str) -> Registry:
    """The registry at a folder or URL.

    Raises:
        ConfigError, MissingExtraError: it can't be opened.
    """
    from .address import URL

    if URL.match(root):
        from .object_store import ObjectStore

        return Registry(root, ObjectStore(root))
    return Registry(root, LocalStore(Path(root)))
