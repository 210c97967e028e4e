"""A finished run made again from its manifest and recipe, and compared with what it left."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import build_config
from ..config.keywords import SPLITS
from ..config.loading import read_recipe
from ..errors import NlpPipelineError, ReproductionError
from ..modeling.comparison import compare_weights, unreadable
from ..progress import Reporter
from ..run_directory import RunDirectory, folder_hash, read_json, text_hash
from ..secrets import literal
from .directory import make_manifest
from .tokenizing import make_encoder

if TYPE_CHECKING:
    from ..recipe import Recipe

CONDITIONS = ("python", "platform", "packages", "git_commit", "processes", "precision", "device", "arithmetic")
"""Parts of the manifest that the last bit may depend on, though not what the run is made from."""


def reproduce(
    path: Path, output: Path | None = None, strict: bool = False, fresh: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Check everything the run was made from, train it again, compare weights and scores.

    Args:
        path: a finished run directory.
        output: where the new run goes; by default the old one's name with `-reproduced`, beside it. A reproduction
            that was interrupted there goes on.
        strict: refuse other versions and conditions too, which are a warning otherwise.
        fresh: start anew beside an earlier reproduction.

    Returns:
        `equal` (every bit of the weights and every score), `tensors` (how many there are), `different` (those that
        differ, in the model's order), `scores` (then and now, where they differ), `notes` and both folders; also
        written as `reproduction.json`. Empty on all but the main process.

    Raises:
        ReproductionError: before training, with every difference in data, model, recipe, and versions.
    """
    from ..devices import launched_rank

    old = RunDirectory(path)
    manifest = _read_manifest(old)
    reporter = Reporter(active=progress and launched_rank() == 0)
    with _threads(manifest):
        recipe = _rebuild(old, output or old.path.with_name(f"{old.path.resolve().name}-reproduced"), manifest)
        notes = _check(recipe, old, manifest, strict)
        for note in notes:
            reporter.say(f"warning: {note}")
        recipe.run(fresh=fresh, progress=progress)
        if recipe.state is None:
            notes.append(
                f"{recipe.run_directory.path} was finished before and only compared now; --fresh trains it anew"
            )
        return _compare(recipe, old, notes) if recipe.is_main_process else {}


def describe(outcome: Mapping[str, Any]) -> list[str]:
    """The outcome in words, a line each."""
    different, scores = outcome["different"], outcome["scores"]
    if outcome["equal"]:
        return [f"bit-equal: all {outcome['tensors']} tensors and every score are those of {outcome['run']}"]
    lines = [f"different: {len(different)} of {outcome['tensors']} tensors, {len(scores)} scores"]
    if different:
        lines.append(f"the first in the model's order is {different[0]['text']}")
    return lines + [f"{name}: {then} then, {now} now" for name, (then, now) in scores.items()]


def _read_manifest(old: RunDirectory) -> dict[str, Any]:
    """The manifest of a run that is finished and whole."""
    files = [old.recipe, old.manifest, old.results, old.model]
    if missing := [file.name for file in files if not file.exists()]:
        raise ReproductionError(
            f"{old.path} is no finished run: there is no {', '.join(missing)} in it; expected the folder that "
            "`nlp-pipeline train` filled to its end"
        )
    manifest = read_json(old.manifest)
    whole = {old.manifest: _is_manifest(manifest), old.results: isinstance(read_json(old.results).get("scores"), dict)}
    problems = [f"{file} is not what a run writes; is it damaged?" for file, good in whole.items() if not good]
    problems += [f"{file} is damaged: its tensors can't be read" for file in unreadable(old.model)]
    if problems:
        raise ReproductionError(problems)
    return manifest


def _is_manifest(found: Mapping[str, Any]) -> bool:
    """Whether everything has the form in which it is read here."""
    arithmetic, inputs = found.get("arithmetic", {}), found.get("inputs")
    if not isinstance(inputs, dict) or not isinstance(arithmetic, dict) or "tokenizer" not in found:
        return False
    if not all(isinstance(part, dict) for part in (inputs.get("data"), found.get("model_files"))):
        return False
    threads = arithmetic.get("threads", 1)
    rows = [part.get("rows") if isinstance(part, dict) else None for part in inputs["data"].values()]
    return all(isinstance(number, int) for number in (threads, *rows)) and 1 <= threads <= 2**16


def _rebuild(old: RunDirectory, output: Path, manifest: Mapping[str, Any]) -> "Recipe":
    """The recipe of the run, in a folder of its own."""
    from ..tasks import recipe_class

    problems = []
    if output.resolve() == old.path.resolve():
        problems.append(f"--output: {output} is the run itself; choose another folder")
    if manifest.get("recipe_sha256") not in (None, text_hash(old.recipe.read_text("utf-8", "replace"))):
        problems.append(f"{old.recipe} was edited since the run wrote it; put it back, or train it as a run of its own")
    try:
        raw, faults = read_recipe(old.recipe)
        problems += faults
        for split in SPLITS:
            if str((raw.get("data") or {}).get(split) or "").startswith("memory:"):
                problems.append(
                    f"data.{split}: the rows were given in memory (a DataFrame, a list, …) and are nowhere to be read "
                    "again; write them to a file and train from that to have a run that can be reproduced"
                )
        if problems:
            raise ReproductionError(problems)
        raw["output"] = {**(raw.get("output") or {}), "dir": literal(output)}
        raw.pop("tracking", None)  # a comparison is no run to be shown to others
        raw["registry"] = None  # what is made again to be compared is nobody's new version
        config = build_config(raw)
    except ReproductionError:
        raise
    except NlpPipelineError as error:
        here = "; relative paths count from this folder: was the run started in another?"
        raise ReproductionError([*problems, *(f"{problem}{here}" for problem in error.problems)]) from None
    return recipe_class(config).from_config(config)


def _check(recipe: "Recipe", old: RunDirectory, manifest: Mapping[str, Any], strict: bool) -> list[str]:
    """Compare what the run was made from with what is there now. Returns the differences that don't stop it."""
    problems = []
    now: dict[str, Any] = {}
    try:
        recipe.load()
        make_encoder(recipe)
        now = json.loads(json.dumps(make_manifest(recipe)))
    except NlpPipelineError as error:
        problems += error.problems
    else:
        problems += _input_differences(manifest, now)
    conditions = _condition_differences(manifest, now) if now else []
    if problems or (strict and conditions):
        raise ReproductionError([*problems, *conditions])
    notes = conditions
    if manifest.get("recipe_sha256") is None:
        notes.append("the manifest is of an older version: whether recipe.yaml was edited can't be told")
    if manifest.get("earlier"):
        notes.append(
            "the run went on from checkpoints made with other settings or conditions; from its start it differs"
        )
    recorded = manifest.get("model_files", {})
    changed = [name for name, found in folder_hash(old.model).items() if recorded.get(name, found) != found]
    return notes + [f"model/{name} is not as the run wrote it" for name in changed]


def _input_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What the run was made from, and isn't as it was."""
    problems = []
    before, after = then["inputs"], now["inputs"]
    for split in SPLITS:
        old, new = before["data"].get(split), after["data"].get(split)
        if old != new:
            rows = " and ".join(f"{part['rows']:,} rows {when}" for part, when in ((old, "then"), (new, "now")) if part)
            problems.append(f"{split}: the rows are not those of the run ({rows or 'none'}, other content)")
    made_from = {
        "model": "the model's weights",
        "teacher": "the teacher",
        "models_beside": "the models beside it",
        "recipe_class": "the recipe class's file",
    }
    for key, name in made_from.items():
        if before.get(key) != after.get(key):
            problems.append(f"{name}: expected {before.get(key)}, found {after.get(key)}")
    if then["tokenizer"] != now["tokenizer"]:
        problems.append(f"the tokenizer: expected {then['tokenizer']}, found {now['tokenizer']}")
    return problems


def _condition_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Versions, devices and arithmetic that are not as they were, a line each."""
    lines = []
    for key in CONDITIONS:
        before, after = then.get(key), now.get(key)
        if key == "device":  # the number of threads stands under arithmetic
            before, after = (str(value).partition(",")[0] for value in (before, after))
        if not isinstance(before, Mapping) or not isinstance(after, Mapping):
            pairs = {key: (before, after)}
        else:
            pairs = {name: (before.get(name), after.get(name)) for name in [*before, *(after.keys() - before.keys())]}
        lines += [f"{name}: {a} in the run, {b} now" for name, (a, b) in pairs.items() if a != b]
    return lines


@contextmanager
def _threads(manifest: Mapping[str, Any]) -> Iterator[None]:
    """As many threads as the run had: sums over parts depend on how many parts there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(int(manifest.get("arithmetic", {}).get("threads") or before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _compare(recipe: "Recipe", old: RunDirectory, notes: list[str]) -> dict[str, Any]:
    """Both runs' weights and scores."""
    from .predicting import loaded_model

    new = recipe.run_directory
    tensors, different = compare_weights(old.model, new.model, list(loaded_model(recipe)[0].state_dict()))
    then, now = (json.loads(run.results.read_text(encoding="utf-8"))["scores"] for run in (old, new))
    scores = {name: [then.get(name), now.get(name)] for name in {**then, **now} if then.get(name) != now.get(name)}
    outcome = {
        "equal": not different and not scores,
        "tensors": tensors,
        "different": [asdict(difference) | {"text": str(difference)} for difference in different],
        "scores": scores,
        "notes": notes,
        "run": str(old.path),
        "reproduction": str(new.path),
    }
    new.write_json(new.path / "reproduction.json", outcome)
    return outcome
