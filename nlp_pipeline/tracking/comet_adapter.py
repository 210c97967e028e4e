"""Comet: online where there is an API key, else zip files that `comet upload` sends later."""

import json
import os
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comet_ml
from comet_ml.config.config_api import get_api_key, get_config

from .trackers import RunFacts, last_by_kind


class Adapter:
    """An experiment that is gone on with by its key. Offline every session is a zip, whole or not there at all."""

    def __init__(self, facts: RunFacts) -> None:
        self.id, self.is_new = facts.id or uuid.uuid4().hex, facts.id is None
        if facts.uri:
            os.environ["COMET_URL_OVERRIDE"] = facts.uri
        config = get_config()
        online = bool(get_api_key(None, config)) and not config.get_bool(None, "comet.offline")
        self.kept_at_end = not online
        self.folder = facts.folder / "comet"
        self.note = None if online else f"offline; send it with: comet upload {self.folder}/*.zip"
        self.aside = self.folder / ".writing"
        shutil.rmtree(self.aside, ignore_errors=True)  # a killed session's
        self.aside.mkdir(parents=True)
        # Nothing that Comet would gather by itself: code, console, command line, git, host, packages.
        gathered: dict[str, Any] = dict.fromkeys(
            "log_code log_graph parse_args log_git_metadata log_git_patch log_env_details log_env_gpu log_env_host "
            "log_env_cpu log_env_network log_env_disk auto_output_logging auto_param_logging auto_metric_logging "
            "auto_log_co2".split(),
            False,
        )
        usual, tempfile.tempdir = tempfile.tempdir, str(self.aside)  # where Comet keeps what isn't sent or zipped yet
        try:
            self.experiment = comet_ml.start(
                project_name=facts.project,
                experiment_key=self.id,
                mode="get_or_create",
                online=online,
                experiment_config=comet_ml.ExperimentConfig(
                    name=facts.name, offline_directory=str(self.aside), display_summary_level=0, **gathered
                ),
            )
        finally:
            tempfile.tempdir = usual
        if not self.experiment.alive:
            raise ConnectionError("Comet started no experiment; are COMET_API_KEY and the address right?")
        self.said = False
        self.experiment.log_parameters({name: str(value) for name, value in facts.params.items()})

    def last(self) -> dict[str, int] | None:
        """Steps as the service has them; offline as the zips do, None where they were moved away or are yet to be."""
        if not self.kept_at_end:
            return last_by_kind(self._last_at_service())
        steps: dict[str, int] = {}
        archives = list(self.folder.glob(f"{self.id}-*.zip"))
        for archive in archives:
            with zipfile.ZipFile(archive) as file, file.open("messages.json") as messages:
                for message in map(json.loads, messages):
                    if message["type"] == "metric_msg":
                        name = message["payload"]["metric"]["metricName"]
                        steps[name] = max(steps.get(name, 0), message["payload"]["metric"]["step"] or 0)
        return last_by_kind(steps) or None

    def _last_at_service(self) -> dict[str, int]:
        if self.is_new:
            return {}
        experiment = comet_ml.API().get_experiment_by_key(self.id)
        if experiment is None:
            raise ConnectionError(f"Comet shows no experiment {self.id} to this API key")
        found = experiment.get_metrics_summary() or []
        return {metric["name"]: int(metric["stepCurrent"] or 0) for metric in found}

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers of a step."""
        self.said = True
        self.experiment.log_metrics(dict(numbers), step=step)

    def flush(self) -> None:
        """Wait until the service has it. What can't be sent is an error: it is sent again later."""
        if self.kept_at_end:
            return
        streamer = self.experiment.streamer  # without a connection it would write a zip of its own
        if not self.experiment.flush() or streamer is None or not streamer.has_connection_to_server():
            raise ConnectionError("Comet has not got everything")

    def confusion(self, labels: list[str], counts: list[list[int]]) -> None:
        """Comet's own chart."""
        self.experiment.log_confusion_matrix(matrix=counts, labels=labels)

    def artifact(self, path: Path) -> None:
        """A folder as a model, a file as an asset."""
        self.said = True
        if path.is_dir():
            self.experiment.log_model(path.name, str(path))
        else:
            self.experiment.log_asset(str(path), file_name=path.name, overwrite=True, copy_to_tmp=True)

    def finish(self, finished: bool) -> None:
        """A zip is moved to its place when it is whole, if there is anything in it."""
        self.experiment.log_other("state", "finished" if finished else "stopped")
        self.experiment.end()  # says nothing of what went wrong
        archives = [*self.aside.glob("*.zip")] if self.said else []
        try:
            if self.said and self.kept_at_end and not (len(archives) == 1 and _is_whole(archives[0])):
                raise OSError("Comet wrote no whole zip of the run; is there room on the disk?")
            for archive in archives:
                os.replace(archive, self.folder / archive.name)
        finally:
            shutil.rmtree(self.aside, ignore_errors=True)


def _is_whole(archive: Path) -> bool:
    """Whether a zip can be read, with the messages in it."""
    try:
        with zipfile.ZipFile(archive) as file:
            return file.testzip() is None and "messages.json" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
