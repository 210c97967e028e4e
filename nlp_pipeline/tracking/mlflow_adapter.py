"""MLflow: a server, or a database such as `sqlite:///mlflow.db`."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from .trackers import RunFacts, last_by_kind

LONGEST_VALUE = 500
BATCH = 100  # the service takes as many parameters in one request, and 1000 metrics


def service_uri(given: str | None = None) -> str:
    """Where MLflow is: as given, as the environment says, or a database in the working folder."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


class Adapter:
    """A run of an MLflow experiment, which is the project."""

    note, kept_at_end = None, False

    def __init__(self, facts: RunFacts) -> None:
        self.client = MlflowClient(service_uri(facts.uri))
        self.waiting: list[Metric] = []
        self.id = facts.id or self._create(facts)
        self.run: Run = self.client.get_run(self.id)
        self.client.update_run(self.id, "RUNNING")
        self._params(facts.params)

    def _create(self, facts: RunFacts) -> str:
        experiment = self.client.get_experiment_by_name(facts.project)
        number = experiment.experiment_id if experiment else self.client.create_experiment(facts.project)
        run_id: str = self.client.create_run(number, run_name=facts.name).info.run_id
        return run_id

    def _params(self, params: Mapping[str, object]) -> None:
        """Parameters can't be changed at the service: those that it has stay."""
        known = self.run.data.params
        new = [Param(name, str(value)[:LONGEST_VALUE]) for name, value in params.items() if name not in known]
        for start in range(0, len(new), BATCH):
            self.client.log_batch(self.id, params=new[start : start + BATCH])

    def last(self) -> dict[str, int]:
        """Steps as the service has them."""
        steps = {}
        for name in self.run.data.metrics:
            if name == "train/loss" or name.startswith("validation/"):
                steps[name] = max(metric.step for metric in self.client.get_metric_history(self.id, name))
        return last_by_kind(steps)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Kept until `flush`, which sends whole batches."""
        now = int(time.time() * 1000)
        self.waiting += [Metric(name, value, now, step) for name, value in numbers.items()]

    def flush(self) -> None:
        """One request a hundred numbers; those of a step go together."""
        while self.waiting:
            self.client.log_batch(self.id, metrics=self.waiting[:BATCH])
            del self.waiting[:BATCH]

    def confusion(self, labels: list[str], counts: list[list[int]]) -> None:
        """No form for it; it is in results.json, among the artifacts."""

    def artifact(self, path: Path) -> None:
        """Into the run's artifacts."""
        if path.is_dir():
            self.client.log_artifacts(self.id, str(path), path.name)
        else:
            self.client.log_artifact(self.id, str(path))

    def finish(self, finished: bool) -> None:
        """A run that may go on is `KILLED` until it does."""
        self.client.set_terminated(self.id, "FINISHED" if finished else "KILLED")
