"""Weights & Biases: online where there is a login, else files that `wandb sync` sends later."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import wandb

from .trackers import RunFacts


class Adapter:
    """A run that is gone on with by its id. Steps are a metric of their own: wandb's never go back."""

    kept_at_end = False  # its own process outlives this one

    def __init__(self, facts: RunFacts) -> None:
        self.id, uri = facts.id or uuid.uuid4().hex[:8], facts.uri or service_url()
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if has_login(uri) else "offline")
        self.note = None if mode == "online" else f"{mode}; send it with: wandb sync {facts.folder / 'wandb'}/*"
        self.run = wandb.init(
            project=facts.project,
            name=facts.name,
            id=self.id,
            resume="allow",
            mode=mode,
            dir=str(facts.folder),
            config=dict(facts.params),
            settings=quiet_settings(uri),
        )
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def last(self) -> None:
        """Not known: offline there is nobody to ask."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One record a step."""
        self.run.log({**numbers, "step": step})

    def flush(self) -> None:
        """Nothing to do: records are with a process of wandb's own, which outlives this one."""

    def confusion(self, labels: list[str], counts: list[list[int]]) -> None:
        """The chart that `wandb.plot.confusion_matrix` makes, which counts single rows itself."""
        fields = {name: name for name in ("Actual", "Predicted", "nPredictions")}
        cells: list[list[Any]] = [
            [actual, predicted, count]
            for actual, row in zip(labels, counts, strict=True)
            for predicted, count in zip(labels, row, strict=True)
        ]
        table = wandb.Table(columns=[*fields], data=cells)
        chart = wandb.plot_table("wandb/confusion_matrix/v1", table, fields)
        self.run.log({"final/confusion": chart})

    def artifact(self, path: Path) -> None:
        """A folder as a model, a file as itself."""
        kind = "model" if path.is_dir() else "report"
        artifact = wandb.Artifact(f"{kind}-{self.id}-{path.name}", type=kind)
        artifact.add_dir(str(path)) if path.is_dir() else artifact.add_file(str(path))
        self.run.log_artifact(artifact)

    def finish(self, finished: bool) -> None:
        """A run that may go on ends with a code of its own."""
        self.run.finish(exit_code=0 if finished else 1)


def service_url() -> str:
    """Where the service is."""
    return os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"


def quiet_settings(uri: str, **more: Any) -> wandb.Settings:
    """Nothing that wandb would gather by itself: command line, program, host, packages, git, code, console."""
    return wandb.Settings(
        base_url=uri,
        console="off",
        disable_code=True,
        disable_git=True,
        program="nlp-pipeline",
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        **more,
    )


def has_login(uri: str) -> bool:
    """Whether there is a key for a service, in the environment or in the file that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        import netrc

        return any("wandb" in host or host == urlsplit(uri).hostname for host in netrc.netrc().hosts)
    except (OSError, SyntaxError):
        return False
