"""`nlp-pipeline track`."""

from pathlib import Path
from typing import Annotated

import typer

from ..secrets import hide_password


def track(
    run: Annotated[Path, typer.Argument(help="A run directory")],
    to: Annotated[
        list[str], typer.Option("--to", help="comet, mlflow, tensorboard, trackio or wandb; may be repeated")
    ],
    uri: Annotated[
        list[str] | None,
        typer.Option(help="Where it is, if not as the recipe says: NAME=ADDRESS, or the address of a single tracker"),
    ] = None,
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
    places, found = _addresses(to, uri or [])
    problems += found
    if not RunDirectory(run).recipe.exists():
        problems.append(f"{run} is no run directory: it has no recipe.yaml")
    if problems:
        raise ConfigError(problems)
    codes = [send(run, name, uri=places.get(name)) for name in to]
    if any(codes):
        raise typer.Exit(1)
    print(f"{run}: sent to {', '.join(to)}")


def _addresses(to: list[str], given: list[str]) -> tuple[dict[str, str], list[str]]:
    """The address of each tracker that has one, and what is wrong with them."""
    from .trackers import PACKAGES, uri_problems

    places, problems = {}, []
    for text in given:
        name, equals, address = text.partition("=")
        if not equals or name not in PACKAGES:  # `=` may stand in an address
            name, address = (to[0] if len(set(to)) == 1 else "", text)
        if name not in to or not address:
            problems.append(f"--uri: found {hide_password(text)!r}, expected NAME=ADDRESS, NAME being one of --to")
        elif name in places:
            problems.append(f"--uri: {name} is given twice")
        else:
            places[name] = address
            problems += uri_problems(f"--uri {name}", address)
    return places, problems
