"""The layout of a registry in a folder or an object store, the same in both.

    blobs/ab/abcd…                    files by the SHA-256 of their content: equal ones are there once
    models/NAME/versions/3.json       a version: which file is which blob, lineage, scores. Never changed
    models/NAME/aliases/production.json   a name that moves from version to version

A version is there when its manifest is, which is written last and whole.
"""

import json
import re
from pathlib import Path
from typing import Any

from ..errors import RegistryError
from ..run_directory import utc_now
from .address import Address
from .store import Store
from .versions import SHA256, Registry, Version, manifest_text, read_manifest

GRACE_SECONDS = 24 * 3600.0
"""How long what no version names is kept by `prune`: longer than any push takes."""


class StoreRegistry(Registry):
    """Models, their versions and aliases in a store."""

    def __init__(self, root: str, store: Store) -> None:
        self.root, self.store = root, store

    def models(self) -> list[str]:
        """As `Registry.models`."""
        return [name for name in self.store.names("models") if self.numbers(name)]

    def numbers(self, name: str) -> list[int]:
        """As `Registry.numbers`."""
        found = (re.fullmatch(r"([1-9][0-9]*)\.json", file) for file in self.store.names(f"models/{name}/versions"))
        return sorted(int(match[1]) for match in found if match)

    def aliases(self, name: str) -> dict[str, int]:
        """As `Registry.aliases`."""
        files = [file for file in self.store.names(f"models/{name}/aliases") if file.endswith(".json")]
        found = {file.removesuffix(".json"): self.alias(name, file.removesuffix(".json")) for file in files}
        return {alias: version for alias, version in found.items() if version is not None}

    def publish(self, address: Address, manifest: dict[str, Any], sources: dict[str, Path]) -> Version:
        """As `Registry.publish`: what isn't there yet, then the manifest under the next free number."""
        self.store.prepare()
        for sha256, source in sources.items():
            self.store.add_blob(source, sha256)
        content = manifest_text(manifest)
        number = max(self.numbers(address.name), default=0) + 1
        while not self.store.write_new(f"models/{address.name}/versions/{number}.json", content):
            number += 1
        # What a prune took in the moment before the manifest was there is stored again.
        for sha256 in self.store.missing(set(sources)):
            self.store.add_blob(sources[sha256], sha256)
        return Version(address.at(number), json.loads(content))

    def promote(self, version: Version, alias: str) -> int | None:
        """As `Registry.promote`."""
        name = version.address.name
        before = self.alias(name, alias)
        content = json.dumps({"version": version.number, "since": utc_now()}, indent=2).encode() + b"\n"
        self.store.replace(f"models/{name}/aliases/{alias}.json", content)
        return before

    def fetch(self, version: Version, folder: Path) -> None:
        """As `Registry.fetch`."""
        for name, entry in version.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self.store.fetch_blob(entry["sha256"], target)

    def fetch_sample(self, version: Version, target: Path) -> None:
        """As `Registry.fetch_sample`."""
        self.store.fetch_blob(version.manifest["sample"]["sha256"], target)

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
        """As `Registry.manifest`."""
        address = Address(self.root, name, number)
        try:
            content = self.store.read(f"models/{name}/versions/{number}.json")
        except FileNotFoundError:
            raise RegistryError(f"{address}: there is no such version{self._there(address)}") from None
        return read_manifest(content, address)

    def alias(self, name: str, alias: str) -> int | None:
        """As `Registry.alias`."""
        try:
            version = json.loads(self.store.read(f"models/{name}/aliases/{alias}.json"))["version"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RegistryError(f"the alias {alias} of {name} is damaged; promote a version anew") from None
        return version if isinstance(version, int) and version > 0 else None
