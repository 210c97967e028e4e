"""What every tracker can do, and where each one's adapter is. An adapter's package is imported when it is started."""

import importlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..secrets import MissingVariableError, expand, public

PACKAGES = {
    "comet": "comet_ml", "mlflow": "mlflow", "tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"
}  # fmt: skip
"""The module that each tracker needs; its extra has the tracker's name."""
GONE = {"neptune": "Neptune's service was shut down in March 2026 and its client is no longer kept up"}
"""Trackers that people still look for, and why they are not here."""


@dataclass(frozen=True)
class RunFacts:
    """What a tracker is told of a run when it starts."""

    folder: Path
    """The tracker's own folder within the run directory, made."""
    project: str
    name: str
    id: str | None
    """The service's id of the run, where it was started before."""
    uri: str | None = None
    """Where the service is; None for its own default."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Settings, flat, without secrets."""


class Tracker(Protocol):
    """One run at one service. Any method may raise anything; the follower says so and ends."""

    id: str
    """The service's id of the run."""
    note: str | None
    """One line for the user, such as that the run is kept offline."""
    kept_at_end: bool
    """Nothing is kept before `finish`, whatever `flush` says: what a killed process sent is sent again."""

    def last(self) -> dict[str, int] | None:
        """Last step by kind (see `follower.KINDS`) that the service has; None where it can't say."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers of a step."""

    def flush(self) -> None:
        """Return when what was logged is kept, whatever becomes of this process."""

    def confusion(self, labels: list[str], counts: list[list[int]]) -> None:
        """How often each label (rows) was taken for each (columns); nothing where the tracker has no form for it."""

    def artifact(self, path: Path) -> None:
        """A file or a folder, by its own name."""

    def finish(self, finished: bool) -> None:
        """No more is coming: the run is finished, or stopped and may go on later."""


def not_gone(name: Any) -> Any:
    """The name itself, for a validator.

    Raises:
        ValueError: there is no such service any more.
    """
    if isinstance(name, str) and name in GONE:
        raise ValueError(f"one of {', '.join(PACKAGES)}: {GONE[name]}")
    return name


def missing_package(name: str) -> str | None:
    """The problem with a tracker whose package isn't installed."""
    if importlib.util.find_spec(PACKAGES[name]) is not None:
        return None
    return f"tracking.to: {name} needs the package `{PACKAGES[name]}`: pip install 'nlp-pipeline[{name}]'"


def uri_problems(place: str, uri: str) -> list[str]:
    """Everything wrong with an address of a tracker."""
    # A password would be written as *** where the tracker's process reads it.
    problems = [f"{place}: has a password; write ${{NAME}} for it and set that variable"] if public(uri) != uri else []
    try:
        expand(uri)
    except MissingVariableError as error:
        problems.append(f"{place}: {error}")
    return problems


def keep_to_themselves() -> None:
    """Have clients tell nobody of their use; before they are imported. What the environment says stands."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    comet = {"DISABLE_AUTO_LOGGING": "1", "DISABLE_ANNOUNCEMENT": "true", "LOGGING_CONSOLE": "CRITICAL"}
    comet |= {"ERROR_TRACKING_ENABLE": "false", "INTERNAL_REPORTING": "false"}
    for name, value in comet.items():
        os.environ.setdefault(f"COMET_{name}", value)


def start_tracker(name: str, facts: RunFacts) -> Tracker:
    """Start or go on with a run at a service."""
    keep_to_themselves()
    module = importlib.import_module(f"{__package__}.{name}_adapter")
    tracker: Tracker = module.Adapter(facts)
    return tracker


def last_by_kind(steps: Mapping[str, int]) -> dict[str, int]:
    """Last step by kind, from the last step of each metric."""
    kinds: dict[str, int] = {}
    for name, step in steps.items():
        kind = "validation" if name.startswith("validation/") else "loss" if name == "train/loss" else None
        if kind:
            kinds[kind] = max(step, kinds.get(kind, 0))
    return kinds
