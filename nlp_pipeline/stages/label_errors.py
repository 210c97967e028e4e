"""Likely label errors of the training rows, from the predictions of models that were trained without them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.batching import windows
from ..data.labels import column, shown
from ..errors import ConfigError
from ..evaluation.confident_learning import (
    Prune,
    calibrated_joint,
    confident_joint,
    likely_errors,
    self_confidence,
    suggested_classes,
)
from ..progress import Reporter
from ..run_directory import RunDirectory, lines_file
from .folds import fold_recipes, folds_of, training_rows
from .predicting import loaded_model, predict_window

if TYPE_CHECKING:
    import datasets

    from ..recipe import Recipe

SHOWN = 20
"""Rows in the printed table; the file has them all."""


def find_label_errors(
    recipe: "Recipe",
    folds: int = 5,
    progress: bool = True,
    output: Path | None = None,
    fresh: bool = False,
    prune: Prune = "class",
) -> dict[str, Any]:
    """Train one model a fold, predict each row by the model that never saw it, and judge the labels.

    Each fold is a run directory under `runs/NAME-folds`: the same call goes on where one was interrupted.

    Args:
        folds: more of them make better models and take longer.
        output: where the list goes; by default `label-errors.jsonl` in the folds' folder.
        fresh: train the folds anew beside earlier ones.
        prune: see `evaluation.confident_learning.likely_errors`.

    Returns:
        `label_errors`: `row_id`, `text` (and `text_pair`), `given`, `suggested` and `score`, the probability of the
        given label, lowest first; `rows` judged; `not_judged`, ids of rows whose label no other row has;
        `agreement`, the share of labels that the models would have given too; `estimated_errors`, how many wrong
        labels the joint of given and true labels estimates; `file`.

    Raises:
        ConfigError: the task is not the classification of texts, the number of folds is impossible, or the list or
            the folds' folder can't be written.
        DataError: with every error that the audit finds.
    """
    if problems := _problems(recipe, folds, output):
        raise ConfigError(problems)
    recipe.reporter = Reporter(active=progress and recipe.is_main_process)
    recipe.load()
    fold = folds_of(recipe, folds)
    folder = recipe.run_directory.path.with_name(f"{recipe.run_directory.path.name}-folds")
    RunDirectory(folder).create()
    if recipe.config.audit.enabled:
        _audit_once(recipe, RunDirectory(folder))
    probabilities = _out_of_fold(recipe, fold, folder, progress, fresh)
    rows, judged = training_rows(recipe), np.flatnonzero(fold >= 0)
    find = _single_label if recipe.kind == "single_label" else _multi_label
    estimated, agreement, records = find(recipe, rows.select(judged), probabilities[judged], prune)
    file = output or folder / "label-errors.jsonl"
    if recipe.is_main_process:
        with lines_file(file) as write:
            write(records)
    return {
        "rows": len(judged),
        "not_judged": [row_id for row_id, k in zip(column(rows, "row_id"), fold, strict=True) if k < 0],
        "folds": folds,
        "agreement": agreement,
        "estimated_errors": estimated,
        "label_errors": records,
        "file": str(file),
    }


def error_table(found: Mapping[str, Any]) -> Any:
    """A rich table of the worst rows."""
    from rich.table import Table
    from rich.text import Text

    records = found["label_errors"]
    more = f", the worst {SHOWN} of them" if len(records) > SHOWN else ""
    table = Table(title=f"{len(records):,} labels that are likely wrong{more}", title_justify="left")
    for name, justify in (
        ("row", "left"),
        ("score", "right"),
        ("given", "left"),
        ("suggested", "left"),
        ("text", "left"),
    ):
        whole = name in ("row", "score")
        table.add_column(name, justify=justify, no_wrap=whole, overflow="fold")  # type: ignore[arg-type]
    for record in records[:SHOWN]:
        cells = [record["row_id"], f"{record['score']:.3f}"]
        cells += [v if isinstance(v, str) else ", ".join(v) for v in (record["given"], record["suggested"])]
        table.add_row(*(Text(cell) for cell in [*cells, record["text"][:200]]))
    return table


def closing_lines(found: Mapping[str, Any]) -> list[str]:
    """What the table doesn't say."""
    rows, count = found["rows"], len(found["label_errors"])
    lines = [
        f"{count:,} of {rows:,} rows are in {found['file']}, worst first by the probability of the given label; "
        f"of all labels about {found['estimated_errors']:,} are estimated to be wrong",
        f"models that never saw the rows agree with {found['agreement']:.1%} of the labels; the fewer, the more of the "
        "list is their own mistakes: train them as well as you would the model itself",
    ]
    if alone := found["not_judged"]:
        lines.append(f"not judged, as the only rows of a label: {shown(alone)}")
    return lines


def _problems(recipe: "Recipe", folds: int, output: Path | None) -> list[str]:
    """What can be told before the rows are read."""
    problems = []
    if recipe.kind not in ("single_label", "multi_label") or recipe.columns()[0].kind != "text":
        problems.append(
            f"label errors: found {recipe.task} of {recipe.kind}, expected text classification with labels "
            "(options.problem=single_label or multi_label)"
        )
    if folds < 2:
        problems.append(f"--folds: found {folds}, expected 2 or more")
    if output is not None:
        folder = next(path for path in output.absolute().parents if path.exists())
        if output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            problems.append(f"--output: {output} can't be written; name another file")
    return problems


def _audit_once(recipe: "Recipe", run: RunDirectory) -> None:
    """The audit of all the rows, for all folds."""
    from .auditing import audit_before_training

    audit = audit_before_training(recipe, run)
    if recipe.is_main_process:
        run.write_json(run.audit, audit.to_json())


def _out_of_fold(recipe: "Recipe", fold: np.ndarray, folder: Path, progress: bool, fresh: bool) -> np.ndarray:
    """float64[rows, labels] probabilities by the model without the row, in the order of the recipe's labels."""
    assert recipe.labels is not None
    probabilities = np.zeros((len(fold), len(recipe.labels)))
    count = int(fold.max()) + 1
    for number, child in enumerate(fold_recipes(recipe, fold, folder)):
        where = np.flatnonzero(fold == number)
        recipe.reporter.say(f"fold {number + 1} of {count}: {len(where):,} rows held out")
        child.run(fresh=fresh, progress=progress)
        assert child.splits is not None
        assert child.splits.test is not None
        assert child.labels is not None
        order = recipe.labels.encode(child.labels.names)
        loaded_model(child)
        with Reporter(active=False).bar("", 0) as bar:
            for window in windows(len(where), child.config.batch.window):
                rows = child.splits.test.select(window)
                scores = child.outputs(predict_window(child, rows, bar).values, rows).scores
                probabilities[np.ix_(where[window], order)] = scores
    return probabilities


def _single_label(
    recipe: "Recipe", rows: "datasets.Dataset", probabilities: np.ndarray, prune: Prune
) -> tuple[int, float, list[dict[str, Any]]]:
    """Estimated number of wrong labels, agreement, and the records of the flagged rows, worst first."""
    assert recipe.labels is not None
    names = recipe.labels.names
    given = recipe.labels.encode(column(rows, _target(recipe)))
    joint = calibrated_joint(confident_joint(probabilities, given), np.bincount(given, minlength=len(names)))
    sure, other = self_confidence(probabilities, given), suggested_classes(probabilities, given)
    found = np.flatnonzero(likely_errors(probabilities, given, prune))
    worst = found[np.argsort(sure[found], kind="stable")]
    texts = _texts(rows.select(worst))
    records = [
        {**text, "given": names[given[i]], "suggested": names[other[i]], "score": float(sure[i])}
        for text, i in zip(texts, worst, strict=True)
    ]
    return round(float(joint.sum() - np.trace(joint))), float((probabilities.argmax(axis=1) == given).mean()), records


def _multi_label(
    recipe: "Recipe", rows: "datasets.Dataset", probabilities: np.ndarray, prune: Prune
) -> tuple[int, float, list[dict[str, Any]]]:
    """The same with every label judged by itself, present or absent: a row is as bad as its worst label."""
    assert recipe.labels is not None
    given = np.zeros(probabilities.shape, np.int64)
    for i, names in enumerate(column(rows, _target(recipe))):
        given[i, recipe.labels.encode(names)] = 1
    flagged, sure, estimated = np.zeros(given.shape, bool), np.zeros(given.shape), 0.0
    for label in range(len(recipe.labels)):
        pair = np.stack([1 - probabilities[:, label], probabilities[:, label]], axis=1)
        flagged[:, label] = likely_errors(pair, given[:, label], prune)
        sure[:, label] = self_confidence(pair, given[:, label])
        joint = calibrated_joint(confident_joint(pair, given[:, label]), np.bincount(given[:, label], minlength=2))
        estimated += float(joint.sum() - np.trace(joint))
    scores = np.where(flagged, sure, 1.0).min(axis=1)
    found = np.flatnonzero(flagged.any(axis=1))
    worst = found[np.argsort(scores[found], kind="stable")]
    records = [
        {
            **text,
            "given": recipe.labels.decode(np.flatnonzero(given[i])),
            "suggested": recipe.labels.decode(np.flatnonzero(given[i] ^ flagged[i])),
            "score": float(scores[i]),
        }
        for text, i in zip(_texts(rows.select(worst)), worst, strict=True)
    ]
    return round(estimated), float(((probabilities >= recipe.options.threshold) == given).mean()), records


def _target(recipe: "Recipe") -> str:
    return next(c.name for c in recipe.columns() if c.is_label)


def _texts(rows: "datasets.Dataset") -> list[dict[str, Any]]:
    """The id and the texts of each row."""
    names = [name for name in ("row_id", "text", "text_pair") if name in rows.column_names]
    values = {name: column(rows, name) for name in names}
    return [{name: values[name][i] for name in names} for i in range(len(rows))]
