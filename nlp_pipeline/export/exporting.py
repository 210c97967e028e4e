"""From a finished run to its exports: make, check, measure; each is whole and checked, or isn't there."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..progress import Reporter
from ..run_directory import folder_hash
from . import folder as folders
from .checking import Check, Judged, judge
from .making import Source, make
from .measuring import Variant, show, speeds
from .rows import find_rows
from .targets import ONNX, TARGETS, TRACED, graph_problems, target_problems

if TYPE_CHECKING:
    from ..recipe import Recipe


def export(
    run: str | Path,
    targets: Sequence[str],
    output: Path | None = None,
    *,
    rows: str | None = None,
    most_rows: int = 5000,
    tolerance: float = 1e-4,
    score_tolerance: float = 0.01,
    trust_remote_code: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Export a finished run's model.

    Args:
        run: a run directory, a saved model folder or a registry version.
        targets: names in `targets.TARGETS`.
        output: the folder that gets a folder for each target; by default `export` in the run directory.
        rows: a data file to check on, in place of the run's test rows.
        most_rows: most rows to check on.
        tolerance: largest difference of an output in float32.
        score_tolerance: how much worse the score may be with weights of 8 bits.

    Returns:
        `variants`, a record for the model itself and for each target, with the `metric` of their scores, the `rows`
        that were checked, the `threads` of the speeds, and the `folder`.

    Raises:
        ConfigError: before the model loads, with everything that is wrong.
        ExportError: an export isn't what the model is; it is not left on the disk, nor are those after it.
    """
    from ..recipe import Recipe

    targets = list(dict.fromkeys(targets))
    problems = target_problems(targets) + _number_problems(tolerance, score_tolerance, most_rows)
    if problems:
        raise ConfigError(problems)
    import torch

    recipe = Recipe.from_pretrained(run, trust_remote_code)
    assert recipe._model_folder is not None
    if problems := graph_problems(targets, recipe.auto_model):
        raise ConfigError(problems)
    home = _run_of(recipe._model_folder)
    place = _place(recipe._model_folder, home, output)
    if problems := [problem for target in targets for problem in folders.check_place(place / target)]:
        raise ConfigError(problems)
    reporter = Reporter(active=progress)
    source = prepare(
        recipe, home, rows, most_rows, tolerance, score_tolerance, reporter, any(t in TRACED for t in targets)
    )
    models, variants = _itself(source)
    for target in targets:
        reporter.say(f"{target}: making and checking it")
        models[target], variant = _make(source, target, place / target)
        variants.append(variant)
    if not recipe.generates:
        reporter.say("measuring the speed of each")
        found = speeds(recipe, models, source.rows)
        for variant in variants:
            variant.rows_per_second = found[variant.name]
    threads = torch.get_num_threads()
    show(variants, recipe.best_metric, source.rows.source, threads, reporter)
    for variant in variants[-len(targets) :]:
        reporter.say(f"{variant.name:<18}{variant.folder}" + (f" ({variant.note})" if variant.note else ""))
    return {
        "variants": [asdict(variant) for variant in variants],
        "metric": recipe.best_metric,
        "rows": source.rows.source,
        "threads": threads,
        "folder": str(place),
    }


def _number_problems(tolerance: float, score_tolerance: float, most_rows: int) -> list[str]:
    given = {"--tolerance": tolerance, "--score-tolerance": score_tolerance}
    problems = [f"{name}: found {value:g}, expected 0 or more" for name, value in given.items() if not value >= 0]
    return problems + ([] if most_rows >= 1 else [f"--most-rows: found {most_rows}, expected 1 or more"])


def _run_of(model: Path) -> Path | None:
    """The run directory that a model folder belongs to."""
    parent = model.resolve().parent
    return parent if model.name == "model" and (parent / "recipe.yaml").is_file() else None


def _place(model: Path, run: Path | None, output: Path | None) -> Path:
    if target := folders.facts_of(model).get("target"):
        raise ConfigError(f"{model} is an export itself, to {target}; name the run that it was made of")
    if output is not None:
        return output
    if run is None:
        raise ConfigError(f"--output: {model} is in no run directory; say where the export goes: --output FOLDER")
    return run / "export"


@contextmanager
def _on_cpu() -> Iterator[None]:
    """Where Accelerate is asked for its device meanwhile, it is the CPU: there the forms are compared."""
    before = os.environ.get("ACCELERATE_USE_CPU")
    os.environ["ACCELERATE_USE_CPU"] = "true"
    try:
        yield
    finally:
        os.environ.pop("ACCELERATE_USE_CPU")
        if before is not None:
            os.environ["ACCELERATE_USE_CPU"] = before


def prepare(
    recipe: "Recipe",
    run: Path | None,
    rows: str | None,
    most_rows: int,
    tolerance: float,
    score_tolerance: float,
    reporter: Reporter,
    traced: bool = True,
) -> Source:
    """The saved model of a recipe in PyTorch, the rows to check on, and what it says of them; on the CPU.

    Args:
        traced: inputs for tracing are wanted, too.
    """
    from ..stages.predicting import loaded_model, plain_model
    from ..stages.scoring import refuse_foreign_metrics
    from .tracing import examples_to_trace, model_inputs, trace_inputs

    folder = recipe._model_folder
    assert folder is not None
    refuse_foreign_metrics(recipe)
    with _on_cpu():
        loaded_model(recipe)
    model = plain_model(recipe, folder).eval()
    found = find_rows(recipe, run, rows, most_rows, reporter)
    reporter.say(f"checking on {found.source}")
    expected = Judged([], None) if recipe.generates else judge(recipe, model, found)
    inputs = {}
    if traced:
        inputs = trace_inputs(model_inputs(recipe, model, found.table, examples_to_trace(found.table)))
    return Source(recipe, folder, run, model, found, expected, inputs, tolerance, score_tolerance, reporter)


def _itself(source: Source) -> tuple[dict[str, Any], list[Variant]]:
    """The PyTorch model as prediction runs it, and padded as others run it."""
    from ..stages.predicting import loaded_model

    forms = {"PyTorch": loaded_model(source.recipe)[0]}
    if source.recipe.padded_because is None:
        forms["PyTorch, padded"] = source.model
    size, score = folders.megabytes(source.folder), source.expected.score
    return forms, [Variant(name, str(source.folder), size, score) for name in forms]


def _make(source: Source, target: str, place: Path) -> tuple[Any, Variant]:
    """Make one export aside, check it, give it its name."""
    with folders.written_aside(place) as aside:
        made = make(source, target, aside)
        folders.copy_beside(source.folder, aside)
        if target in ONNX:
            folders.write_readme(aside, source.recipe.task, target)
        weights = {name: digest for name, digest in folder_hash(source.folder).items() if name.endswith(".safetensors")}
        facts = {"target": target, "about": TARGETS[target], **made.facts, "checked": _checked(made.check)}
        folders.write_facts(aside, facts | {"made_of": weights})
    check = made.check
    variant = Variant(target, str(place), folders.megabytes(place), check.judged.score, check.largest)
    variant.differing, variant.compared, variant.note = check.differing, check.compared, made.note
    return made.answers, variant


def _checked(check: Check) -> dict[str, Any]:
    """For `export.json`: what was compared, and how far apart it was."""
    return {
        "rows": check.rows,
        "largest_difference": check.largest,
        "at": check.where,
        "smallest_and_largest_batch": check.shapes,
        "predictions_that_differ": check.differing,
        "predictions": check.compared,
        "score": check.judged.score,
    }
