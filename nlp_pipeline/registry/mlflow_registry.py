"""The model registry of MLflow: a version is one of a registered model, its files are artifacts of a run of its own.

`MLFLOW_TRACKING_URI` says where (`MLFLOW_REGISTRY_URI`, if the registry is elsewhere), by default `sqlite:///mlflow.db`
as for tracking. The version is made in one request, once every artifact was read back and compared with its hash; a
push that was killed before leaves a run that no version names. `models:/NAME@ALIAS` then works wherever MLflow does.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from ..errors import RegistryError
from ..tracking.mlflow_adapter import service_uri
from .address import MLFLOW, Address
from .mlflow_flavor import MODEL, write_flavor
from .versions import MANIFEST, SAMPLE, Registry, Version, check_files, manifest_text, read_manifest

EXPERIMENT = "nlp-pipeline"
ROOT = "model"
PAGE = 200
MISSING = "RESOURCE_DOES_NOT_EXIST"


class MlflowRegistry(Registry):
    """The registered models of an MLflow server or database."""

    root = MLFLOW

    def __init__(self) -> None:
        self.uri = service_uri()
        self.client = MlflowClient(self.uri, os.environ.get("MLFLOW_REGISTRY_URI") or self.uri)

    def models(self) -> list[str]:
        """As `Registry.models`."""
        with _said(self.root):
            found = _pages(lambda token: self.client.search_registered_models(max_results=PAGE, page_token=token))
        return sorted(model.name for model in found if self.numbers(model.name))

    def numbers(self, name: str) -> list[int]:
        """As `Registry.numbers`."""
        query = f"name='{name}'"
        with _said(f"{self.root}{name}"):
            found = _pages(lambda token: self.client.search_model_versions(query, max_results=PAGE, page_token=token))
        return sorted(int(version.version) for version in found)

    def aliases(self, name: str) -> dict[str, int]:
        """As `Registry.aliases`."""
        with _said(f"{self.root}{name}"):
            try:
                found = self.client.get_registered_model(name).aliases
            except MlflowException as error:
                if error.error_code != MISSING:
                    raise
                return {}
        return {alias: int(of) for alias, of in found.items()}

    def manifest(self, name: str, number: int) -> dict[str, Any]:
        """As `Registry.manifest`."""
        address = Address(self.root, name, number)
        if number not in self.numbers(name):
            raise RegistryError(f"{address}: there is no such version{self._there(address)}")
        with tempfile.TemporaryDirectory(prefix="nlp-pipeline-mlflow-") as folder, _said(address):
            source = self.client.get_model_version_download_uri(name, str(number))
            path = self._download(f"{source}/{MANIFEST}", folder)
            if path is None:
                raise RegistryError(f"{address} was not pushed by nlp-pipeline: there is no {MANIFEST} in it")
            return read_manifest(path.read_bytes(), address)

    def publish(self, address: Address, manifest: dict[str, Any], sources: dict[str, Path]) -> Version:
        """As `Registry.publish`: artifacts, compared when they have arrived, then the version."""
        files = {name: sources[entry["sha256"]] for name, entry in manifest["files"].items()}
        sample = sources[manifest["sample"]["sha256"]]
        with tempfile.TemporaryDirectory(prefix="nlp-pipeline-mlflow-") as folder, _said(address):
            staged = Path(folder) / "staged"
            (staged / MANIFEST).parent.mkdir(parents=True)
            (staged / MANIFEST).write_bytes(manifest_text(manifest))
            (staged / SAMPLE).symlink_to(sample.resolve())
            rows = [json.loads(line)["row"] for line in sample.read_text(encoding="utf-8").splitlines()]
            write_flavor(staged, manifest, files, rows)
            for name, path in files.items():
                (staged / MODEL / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / MODEL / name).symlink_to(path.resolve())
            run = self.client.create_run(self._experiment(), run_name=manifest["run"]["name"]).info
            self.client.log_artifacts(run.run_id, str(staged), ROOT)
            source = f"{run.artifact_uri}/{ROOT}"
            arrived = Path(folder) / "arrived"
            arrived.mkdir()
            self._fetch(source, manifest, address, arrived)
            self._log_scores(run.run_id, manifest)
            with suppress(MlflowException):  # there already; or the next request says what is wrong
                self.client.create_registered_model(address.name)
            made = self.client.create_model_version(address.name, source, run.run_id)
            self.client.update_run(run.run_id, "FINISHED")  # set_terminated prints
        return Version(address.at(int(made.version)), json.loads(manifest_text(manifest)))

    def promote(self, version: Version, alias: str) -> int | None:
        """As `Registry.promote`."""
        before = self.alias(version.address.name, alias)
        with _said(version.address):
            self.client.set_registered_model_alias(version.address.name, alias, str(version.number))
        return before

    def fetch(self, version: Version, folder: Path) -> None:
        """As `Registry.fetch`."""
        with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=folder.parent) as aside, _said(version.address):
            source = self.client.get_model_version_download_uri(version.address.name, str(version.number))
            self._fetch(source, version.manifest, version.address, Path(aside))
            for name in version.files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(aside) / MODEL / name, folder / name)

    def fetch_sample(self, version: Version, target: Path) -> None:
        """As `Registry.fetch_sample`."""
        with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=target.parent) as aside, _said(version.address):
            source = self.client.get_model_version_download_uri(version.address.name, str(version.number))
            if path := self._download(f"{source}/{SAMPLE}", aside):
                os.replace(path, target)
        check_files(target.parent, {target.name: version.manifest["sample"]}, version.address)

    def _fetch(self, source: str, manifest: dict[str, Any], address: Address, folder: Path) -> None:
        """Download a version's files and compare them with their hashes."""
        self._download(f"{source}/{MODEL}", str(folder))
        check_files(folder / MODEL, manifest["files"], address)

    def _download(self, uri: str, folder: str) -> Path | None:
        """Download a file or a folder; None where there is none."""
        try:
            return Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=self.uri))
        except MlflowException as error:
            if error.error_code != MISSING and "No such" not in str(error):
                raise
        except FileNotFoundError:
            pass
        return None

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            with suppress(MlflowException):  # another push was faster, or it can't be made: then the next line says so
                return str(self.client.create_experiment(EXPERIMENT))
            found = self.client.get_experiment_by_name(EXPERIMENT)
            assert found is not None
        return str(found.experiment_id)

    def _log_scores(self, run_id: str, manifest: dict[str, Any]) -> None:
        """The scores as metrics of the run, so that MLflow's tables show them."""
        evaluation = manifest.get("evaluation") or {}
        scores = {
            f"{evaluation.get('split')}/{name}": value for name, value in (evaluation.get("scores") or {}).items()
        }
        numbers = [Metric(name, value, 0, 0) for name, value in scores.items() if isinstance(value, int | float)]
        self.client.log_batch(run_id, numbers[:1000])


def _pages(search: Any) -> list[Any]:
    """All pages of a search."""
    found, token = [], None
    while True:
        page = search(token)
        found += page
        token = page.token
        if not token:
            return found


@contextmanager
def _said(where: object) -> Iterator[None]:
    """What the client raises, in a message."""
    try:
        yield
    except MlflowException as error:
        text = " ".join(str(error).split())[:300]
        raise RegistryError(f"{where}: MLflow said: {text}; is MLFLOW_TRACKING_URI right?") from None
