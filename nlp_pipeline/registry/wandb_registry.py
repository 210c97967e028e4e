"""The artifacts of Weights & Biases: a version is one of an artifact of type `model` in a project.

W&B counts from `v0`: its `v0` is version 1 here, `v1` is 2, and so on. Aliases are W&B's own, so that
`wandb.Api().artifact("ENTITY/PROJECT/NAME:production")` finds the same version without this package. The artifact holds
the model's files as `from_pretrained` wants them, and beside them `nlp-pipeline/version.json` and the sample.

A version is one only once W&B has committed it, in one request after all files: its storage takes none whose MD5 isn't
the one announced. A push that was killed before leaves an artifact that is pending for ever, and a run without an end.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import wandb

from ..errors import NlpPipelineError, RegistryError
from ..run_directory import finite
from ..tracking.wandb_adapter import has_login, quiet_settings, service_url
from .address import RESERVED, WANDB, Address
from .versions import MANIFEST, SAMPLE, Registry, Version, check_files, manifest_text, read_manifest

TYPE = "model"
MARK = "nlp_pipeline"
"""The key in an artifact's metadata that tells those of this package from others of its type."""


class WandbRegistry(Registry):
    """The artifacts of type `model` of a project."""

    def __init__(self, root: str) -> None:
        self.root, self.path = root, root.removeprefix(WANDB)

    @cached_property
    def api(self) -> wandb.Api:
        """The client, with a login that W&B has taken."""
        if (mode := os.environ.get("WANDB_MODE", "online")) != "online":
            raise RegistryError(
                f"{self.root}: found WANDB_MODE={mode}; a registry is read and written online: unset it"
            )
        if not has_login(service_url()):
            raise RegistryError(
                f"{self.root}: there is no login at {service_url()}; run `wandb login`, or set WANDB_API_KEY: a "
                "registry is read and written online"
            )
        return wandb.Api({"base_url": service_url()})

    def models(self) -> list[str]:
        """As `Registry.models`: those of which this package pushed a version."""
        with _said(self.root):
            try:
                names = [collection.name for collection in self.api.artifact_collections(self.path, TYPE)]
            except ValueError:  # the client's word for no such project, or none with a model
                return []
        return sorted(name for name in names if any(MARK in found.metadata for found in self._artifacts(name).values()))

    def numbers(self, name: str) -> list[int]:
        """As `Registry.numbers`."""
        return sorted(self._artifacts(name))

    def aliases(self, name: str) -> dict[str, int]:
        """As `Registry.aliases`."""
        found = self._artifacts(name)
        return {a: number for number in found for a in found[number].aliases if not RESERVED.fullmatch(a)}

    def manifest(self, name: str, number: int) -> dict[str, Any]:
        """As `Registry.manifest`."""
        address = Address(self.root, name, number)
        with tempfile.TemporaryDirectory(prefix="nlp-pipeline-wandb-") as folder:
            self._download(address, Path(folder), [MANIFEST])
            path = Path(folder) / MANIFEST
            if not path.is_file():
                raise RegistryError(f"{address} was not pushed by nlp-pipeline: there is no {MANIFEST} in it")
            return read_manifest(path.read_bytes(), address)

    def publish(self, address: Address, manifest: dict[str, Any], sources: dict[str, Path]) -> Version:
        """As `Registry.publish`: a run that sends the files and commits them as a version."""
        entity, _, project = self.path.rpartition("/")
        files = {name: sources[entry["sha256"]] for name, entry in manifest["files"].items()}
        with tempfile.TemporaryDirectory(prefix="nlp-pipeline-wandb-") as folder, _said(address):
            self.api  # noqa: B018  a login that isn't taken is said first
            about = Path(folder) / "version.json"
            about.write_bytes(manifest_text(manifest))
            artifact = wandb.Artifact(address.name, TYPE, metadata=finite({MARK: _facts(manifest)}))
            files |= {MANIFEST: about, SAMPLE: sources[manifest["sample"]["sha256"]]}
            for name, path in sorted(files.items()):
                artifact.add_file(str(path), name, skip_cache=True, policy="immutable")
            run = wandb.init(
                entity=entity or None, project=project, name=manifest["run"]["name"], job_type="push", mode="online",
                dir=folder, settings=quiet_settings(service_url(), reinit="create_new"),
            )  # fmt: skip
            number = None
            try:
                number = _number(run.log_artifact(artifact).wait())
            finally:  # the run's own `with` would print a traceback
                run.finish(exit_code=1 if number is None else 0)
        return Version(address.at(number), json.loads(manifest_text(manifest)))

    def promote(self, version: Version, alias: str) -> int | None:
        """As `Registry.promote`, in one request: W&B takes the alias from the version that had it."""
        before = self.alias(version.address.name, alias)
        if before != version.number:
            artifact = self._artifact(version.address)
            with _said(version.address):
                artifact.aliases.append(alias)
                artifact.save()
        return before

    def fetch(self, version: Version, folder: Path) -> None:
        """As `Registry.fetch`."""
        self._download(version.address, folder, list(version.files))
        check_files(folder, version.files, version.address)

    def fetch_sample(self, version: Version, target: Path) -> None:
        """As `Registry.fetch_sample`."""
        with tempfile.TemporaryDirectory(prefix=".wandb-", dir=target.parent) as aside:
            self._download(version.address, Path(aside), [SAMPLE])
            check_files(Path(aside), {SAMPLE: version.manifest["sample"]}, version.address)
            os.replace(Path(aside) / SAMPLE, target)

    def _artifacts(self, name: str) -> dict[int, Any]:
        """The committed versions of an artifact, by number."""
        path = f"{self.path}/{name}"
        with _said(f"{self.root}/{name}"):
            if not self.api.artifact_collection_exists(path, TYPE):
                return {}
            return {_number(artifact): artifact for artifact in self.api.artifacts(TYPE, path)}

    def _artifact(self, address: Address) -> Any:
        """The artifact that is a version."""
        artifact = self._artifacts(address.name).get(address.version or 0)
        if artifact is None:
            raise RegistryError(f"{address}: there is no such version{self._there(address)}")
        return artifact

    def _download(self, address: Address, folder: Path, names: list[str]) -> None:
        """Download files of a version, those of them that are there."""
        artifact = self._artifact(address)
        # One by one and past wandb's cache: `Artifact.download(skip_cache=True)` of 0.31 has its threads share the
        # path that they write to, and `skip_cache=False` takes what the cache holds for right.
        with _said(address):
            for file in artifact.files(names):
                if file.name in names:
                    file.download(str(folder)).close()

    def _there(self, address: Address) -> str:
        return super()._there(address) or ", or the login may not read it (WANDB_API_KEY, or `wandb login`)"


def _number(artifact: Any) -> int:
    return int(artifact.version.removeprefix("v")) + 1


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What W&B's own pages are to show of a version."""
    evaluation = manifest.get("evaluation") or {}
    return {"task": manifest.get("task"), "split": evaluation.get("split"), "scores": evaluation.get("scores")}


@contextmanager
def _said(where: object) -> Iterator[None]:
    """What the client raises, in a message."""
    try:
        yield
    except NlpPipelineError:
        raise
    except Exception as error:  # the client has several kinds, and falls over its own None where an answer is empty
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise RegistryError(
            f"{where}: W&B said: {text}; are the login (`wandb login`) and WANDB_BASE_URL right?"
        ) from None
