"""`nlp-pipeline track`."""

from pathlib import Path
from typing import Annotated

import typer


def track(
    run: Annotated[Path, typer.Argument(help="A run directory")],
    to: Annotated[
        list[str], typer.Option("--to", help="comet, mlflow, tensorboard, trackio or wandb; may be repeated")
    ],
) -> None:
    """Send a run's figures to a tracker: all of them, or those that it has missed."""
    from ..errors import ConfigError
    from ..run_directory import RunDirectory
    from .follower import send
    from .trackers import GONE, PACKAGES, missing_package

    problems = [
        f"--to: found {name}, expected one of {', '.join(PACKAGES)}" + (f": {GONE[name]}" if name in GONE else "")
        for name in to
        if name not in PACKAGES
    ]
    problems += [problem for name in to if name in PACKAGES and (problem := missing_package(name))]
    if not RunDirectory(run).recipe.exists():
        problems.append(f"{run} is no run directory: it has no recipe.yaml")
    if problems:
        raise ConfigError(problems)
    codes = [send(run, name) for name in to]
    if any(codes):
        raise typer.Exit(1)
    print(f"{run}: sent to {', '.join(to)}")
