"""The rows on which an export is checked: those it was tested on, else its sample, else what the user gives."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, NlpPipelineError
from ..progress import Reporter
from ..run_directory import RunDirectory
from ..stages.predicting import as_source, open_source

if TYPE_CHECKING:
    import datasets

    from ..data.token_table import TokenTable
    from ..recipe import Recipe


@dataclass(frozen=True)
class CheckRows:
    """Rows with their token ids."""

    rows: "datasets.Dataset"
    table: "TokenTable"
    labelled: bool
    """Whether they can be scored."""
    source: str
    """What they are, for people."""


def find_rows(recipe: "Recipe", run: Path | None, given: str | None, most: int, reporter: Reporter) -> CheckRows:
    """Rows for a saved model, at most so many, at even distances.

    Args:
        run: the run directory that it comes from, if that is known.
        given: a data file named by the user, in place of the run's own rows.

    Raises:
        DataError: there are none, or what was given can't be used.
    """
    if given is not None:
        return _from_file(recipe, given, most)
    if run is None:
        raise DataError(
            "--rows: a model folder brings no rows to check an export on; give a data file with --rows FILE"
        )
    try:
        name, rows = _split_of(recipe, run)
        return _tokenized(recipe, _spread(rows, most), True, f"{name} rows of the run")
    except NlpPipelineError as error:
        reporter.say(f"the run's data can't be read again: {error.problems[0]}")
    sample = RunDirectory(run).sample
    if not sample.is_file():
        raise DataError(f"--rows: neither the run's data nor {sample} is there; give a file with --rows FILE")
    rows = [json.loads(line)["row"] for line in sample.read_text(encoding="utf-8").splitlines()]
    return _unlabelled(recipe, rows, most, "rows of the run's sample, without labels")


def _split_of(recipe: "Recipe", run: Path) -> "tuple[str, datasets.Dataset]":
    """The split that the run was scored on, read again; of its `recipe.yaml` only `data` is used.

    Raises:
        NlpPipelineError: its data isn't there any more.
    """
    from pydantic import ValidationError

    from ..config.loading import read_recipe
    from ..config.schema import DataConfig
    from ..data.splits import load_splits

    try:
        data = DataConfig.model_validate(read_recipe(RunDirectory(run).recipe)[0]["data"])
    except (ValidationError, KeyError) as error:
        raise DataError(f"{RunDirectory(run).recipe} is not what a run writes: {error}") from None
    splits = load_splits(data, recipe.columns(), {}, stratify=recipe.stratify(), gather=recipe.gather)
    return list(splits.parts.items())[-1]


def _from_file(recipe: "Recipe", given: str, most: int) -> CheckRows:
    from ..data.streaming import open_rows

    try:
        source = open_rows(given, recipe.config.data, recipe.columns(), recipe.config.batch.window, None, True)
        rows = _first(source, most)
    except DataError as error:
        try:
            return _unlabelled(recipe, given, most, f"rows of {given}, without labels")
        except DataError:
            raise error from None
    if problems := recipe.check_labels(rows, "rows"):
        raise DataError(problems)
    return _tokenized(recipe, rows, True, f"rows of {given}")


def _unlabelled(recipe: "Recipe", rows: Any, most: int, source: str) -> CheckRows:
    found = _first(open_source(recipe, as_source(recipe, rows)), most)
    return _tokenized(recipe, found, False, source)


def _first(windows: Any, most: int) -> "datasets.Dataset":
    import datasets

    parts: list[datasets.Dataset] = []
    for window in windows:
        parts.append(window)
        if sum(map(len, parts)) >= most:
            break
    if not parts:
        raise DataError("--rows: there are no rows to check the export on")
    rows = datasets.concatenate_datasets(parts)
    return rows.select(range(min(most, len(rows))))


def _spread(rows: "datasets.Dataset", most: int) -> "datasets.Dataset":
    total = len(rows)
    return rows if total <= most else rows.select([i * total // most for i in range(most)])


def _tokenized(recipe: "Recipe", rows: "datasets.Dataset", labelled: bool, source: str) -> CheckRows:
    from ..data.tokenization import tokenize_window

    made = recipe.preprocess if labelled else recipe.preprocess_inputs
    table = recipe.complete(tokenize_window(rows, lambda part: made(part, recipe.encoder)))
    return CheckRows(rows, table, labelled, f"{len(rows):,} {source}")
