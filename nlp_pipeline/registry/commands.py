"""The commands of registries: parse, call, print. Heavy packages are imported where they are used."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .versions import Registry, Version

MODEL = "MODEL, MODEL:VERSION or MODEL@ALIAS, e.g. file:models/topics@production"
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run Python code that the model brings or names")]
Named = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)]

registry = typer.Typer(no_args_is_help=True, help="List, show, promote, pull and compare pushed models.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(push)
    app.add_typer(registry, name="registry")


def push(
    run: Annotated[Path, typer.Argument(help="A finished run directory")],
    target: Annotated[
        str,
        typer.Argument(
            help="file:FOLDER/NAME, hub:USER/NAME, mlflow:NAME, wandb:PROJECT/NAME, or a URL: s3://BUCKET/FOLDER/NAME"
        ),
    ],
    alias: Annotated[str | None, typer.Option(help="A name that moves to the new version, e.g. production")] = None,
    verify: Annotated[bool, typer.Option(help="Load the packed model in a clean process and compare first")] = True,
    as_json: AsJson = False,
    trust_remote_code: Trust = False,
) -> None:
    """Push a run's model to a registry as its next version, once a clean process has checked it."""
    from .pushing import push as push_run

    version = push_run(run, target, alias, verify, trust_remote_code)
    if as_json:
        print(json.dumps(_entry(version)))
        return
    checked = f", {version.manifest['verified_rows']} rows checked in a clean process" if verify else ", not checked"
    print(f"{version.address}{''.join(f' @{name}' for name in version.aliases)}{checked}")
    print(f"use it: echo 'your text' | nlp-pipeline predict {version.address}")


@registry.command("list")
def list_(
    place: Annotated[
        str,
        typer.Argument(
            help="A registry (file:FOLDER, hub:USER, mlflow:, wandb:PROJECT, s3://BUCKET/FOLDER/) or a model in it"
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """List the models of a registry, or the versions of a model."""
    from .address import Address, parse_root
    from .versions import open_registry

    root, address = parse_root(place, "PLACE")
    opened = open_registry(root)
    names = opened.models() if address is None else [address.name]
    versions = [v for name in names for v in _versions(opened, Address(root, name))]
    if as_json:
        print(json.dumps([_entry(version) for version in versions], ensure_ascii=False))
    elif not versions:
        print(f"{place}: there is no version yet; nlp-pipeline push RUN {address or place.rstrip('/') + '/NAME'}")
    else:
        _print_table(versions)


@registry.command()
def show(model: Named, as_json: AsJson = False) -> None:
    """Show a version: files, lineage, scores."""
    from .pulling import find

    _, version = find(model)
    if as_json:
        print(json.dumps(_entry(version) | version.manifest, ensure_ascii=False))
        return
    print(f"{version.address}{''.join(f' @{name}' for name in version.aliases)}")
    for name, value in _facts(version):
        print(f"  {name:<12}{value}")
    for name, entry in version.files.items():
        print(f"  {entry['sha256'][:12]}  {entry['size']:>14,}  {name}")


@registry.command()
def promote(
    model: Named,
    alias: Annotated[str, typer.Option(help="The name that is to stand for the version")] = "production",
    as_json: AsJson = False,
) -> None:
    """Let an alias stand for a version: `promote file:models/topics:3 --alias production`."""
    from .address import check_alias
    from .pulling import find

    check_alias(alias)
    opened, version = find(model)
    before = opened.promote(version, alias)
    if as_json:
        print(json.dumps({"model": version.address.model, "alias": alias, "version": version.number, "before": before}))
    else:
        print(f"{version.address.model}@{alias} is version {version.number}" + (f", was {before}" if before else ""))


@registry.command()
def pull(
    model: Named,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make")],
    verify: Annotated[bool, typer.Option("--verify", help="Also compare the predictions of its sample")] = False,
    trust_remote_code: Trust = False,
) -> None:
    """Write a version's files into a new folder; every file is compared with its hash."""
    from .pulling import pull as pull_version

    version, rows = pull_version(model, output, verify, trust_remote_code)
    print(f"{version.address} is in {output}" + (f"; {rows} rows predicted as in its run" if verify else ""))


@registry.command()
def diff(
    one: Annotated[str, typer.Argument(help=MODEL)],
    other: Annotated[str, typer.Argument(help=MODEL)],
    as_json: AsJson = False,
) -> None:
    """Compare two versions: files, scores, data, packages."""
    from .comparing import compare, lines
    from .pulling import find

    found = compare(find(one, "ONE")[1], find(other, "OTHER")[1])
    print(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(lines(found)))


@registry.command()
def prune(
    place: Annotated[str, typer.Argument(help="A registry: file:FOLDER, s3://BUCKET/FOLDER/")],
    hours: Annotated[float, typer.Option(help="Leave alone what was stored or used in so many hours", min=0)] = 24,
    as_json: AsJson = False,
) -> None:
    """Remove what killed pushes left behind. Safe beside pushes that take less than --hours."""
    from .address import parse_root
    from .versions import open_registry

    gone = open_registry(parse_root(place, "PLACE")[0]).prune(hours * 3600)
    text = f"removed {gone['blobs']} unused files ({gone['bytes']:,} bytes), {gone['files']} half-written ones"
    print(json.dumps(gone) if as_json else text)


def _versions(opened: "Registry", address: Any) -> "list[Version]":
    """A model's versions; those that can't be read are left to `show`."""
    return [opened.find(address.at(number)) for number in opened.numbers(address.name)]


def _entry(version: "Version") -> dict[str, Any]:
    evaluation = version.manifest.get("evaluation") or {}
    return {
        "model": version.address.model,
        "version": version.number,
        "aliases": list(version.aliases),
        "created": version.manifest.get("created"),
        "task": version.manifest.get("task"),
        "bytes": sum(entry["size"] for entry in version.files.values()),
        "scores": evaluation.get("scores"),
    }


def _print_table(versions: "list[Version]") -> None:
    from rich.console import Console
    from rich.table import Table

    from ..evaluation.report import interval, number

    table = Table("model", "version", "aliases", "score", "interval", "rows", "MB", "created")
    for version in versions:
        evaluation = version.manifest.get("evaluation") or {}
        best = evaluation.get("best_metric")
        score = f"{best} {number((evaluation.get('scores') or {}).get(best))}"
        table.add_row(
            version.address.model,
            str(version.number),
            " ".join(version.aliases),
            score,
            interval((evaluation.get("intervals") or {}).get(best)),
            str(evaluation.get("rows")),
            f"{_entry(version)['bytes'] / 1e6:,.1f}",
            str(version.manifest.get("created")),
        )
    Console().print(table)


def _facts(version: "Version") -> list[tuple[str, str]]:
    from ..evaluation.report import interval, number

    manifest = version.manifest
    evaluation, run = manifest.get("evaluation") or {}, manifest.get("run") or {}
    parent, data = manifest.get("parent") or {}, manifest.get("data") or {}
    facts = [("created", manifest.get("created")), ("task", manifest.get("task"))]
    facts += [("run", f"{run.get('name')}, recipe {str(run.get('recipe_sha256'))[:12]}, ended {run.get('ended')}")]
    facts += [("parent", f"{parent.get('name')} ({str(parent.get('sha256'))[:12]})")]
    facts += [("data", f"{split}: {part.get('rows')} rows, {part.get('fingerprint')}") for split, part in data.items()]
    intervals = evaluation.get("intervals") or {}
    for name, value in (evaluation.get("scores") or {}).items():
        if "/" not in name:
            facts.append((name, number(value) + (f" ({interval(intervals[name])})" if intervals.get(name) else "")))
    checked = manifest.get("verified_rows")
    facts += [("checked", f"{checked} rows in a clean process" if checked else "not checked before it was published")]
    return [(name, str(value)) for name, value in facts]
