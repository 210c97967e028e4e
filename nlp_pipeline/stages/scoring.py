"""The saved model measured: the scores of a run, scores on other rows."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError, ModelError
from ..run_directory import folder_hash, lines_file, read_json, utc_now
from .predicting import as_source, loaded_model, predict_window
from .sampling import write_sample

if TYPE_CHECKING:
    import datasets

    from ..config.schema import IntervalsConfig
    from ..data.token_table import TokenTable
    from ..evaluation.prediction import RowOutputs
    from ..recipe import Recipe


def score_and_write(recipe: "Recipe", seconds_before: float) -> dict[str, Any]:
    """Score the saved model as it lies on disk; write predictions, results and the model card."""
    from ..evaluation.card import write_card

    if recipe.splits is None or recipe._model_folder is None:
        raise ConfigError("evaluate() needs a trained run: call fit() before it")
    split = "test" if "test" in recipe.tables else "validation" if "validation" in recipe.tables else "train"
    rows, table = getattr(recipe.splits, split), recipe.tables[split]
    model, _ = loaded_model(recipe)
    run = recipe.run_directory
    began, intervals = time.monotonic(), recipe.config.evaluation.intervals
    if recipe.accelerator.is_main_process:
        with lines_file(run.predictions / f"{split}.jsonl") as write:
            scores = score_table(recipe, model, rows, table, f"Scoring {split}", write, intervals)
    else:
        scores = score_table(recipe, model, rows, table, f"Scoring {split}", intervals=intervals)
    recipe.timing["evaluate"] = time.monotonic() - began
    state = asdict(recipe.state) if recipe.state else {}
    results = {
        "task": recipe.task,
        "split": split,
        "rows": len(rows),
        "best_metric": recipe.best_metric,
        **scores,
        "baseline": baseline_scores(recipe, rows),
        "training": {k: state[k] for k in ("step", "examples", "seconds", "best_step", "best_score") if k in state},
        "seconds": {**recipe.timing, "total": seconds_before + recipe.timing["evaluate"]},
        "peak_memory_mib": peak_memory_mib(),
    }
    write_sample(recipe, rows)
    if recipe.accelerator.is_main_process:
        write_card(recipe, results)
        if manifest := read_json(run.manifest):
            manifest |= {
                "ended": utc_now(),
                "model_files": folder_hash(run.model),
                "seconds": results["seconds"],
            }
            run.write_json(run.manifest, manifest)
        run.write_json(run.results, results)
    recipe.accelerator.wait_for_everyone()
    return read_json(run.results) or results


def peak_memory_mib() -> float:
    """Most memory of this process so far: the device's on CUDA, else resident."""
    import resource
    import sys

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    # What getrusage tells may be of the process that started this one: Linux keeps the larger of the two.
    with suppress(OSError, StopIteration, ValueError), open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) / 2**10
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def score_table(
    recipe: "Recipe",
    model: Any,
    rows: "datasets.Dataset",
    table: "TokenTable",
    label: str,
    write: Callable[[list[dict[str, Any]]], None] | None = None,
    intervals: "IntervalsConfig | None" = None,
) -> dict[str, Any]:
    """Metrics and loss of a model on tokenized rows, the same on every process; see `score_windows`.

    Args:
        label: what the progress bar says.
        write: is given the predictions of each window, in the main process.
    """
    import numpy as np

    from ..data.batching import windows
    from ..evaluation.prediction import predict_table

    accelerator, size = recipe.accelerator, recipe.config.batch.evaluation
    with recipe.reporter.bar(label, len(rows)) as bar:

        def predicted() -> "Iterator[tuple[datasets.Dataset, RowOutputs]]":
            for window in windows(len(rows), recipe.config.batch.window):
                found = predict_table(recipe, model, table, accelerator, size, bar, np.asarray(window))
                yield rows.select(window), found

        return score_windows(recipe, predicted(), len(rows), write, intervals)


def score_windows(
    recipe: "Recipe",
    predicted: "Iterable[tuple[datasets.Dataset, RowOutputs]]",
    total: int,
    write: Callable[[list[dict[str, Any]]], None] | None = None,
    intervals: "IntervalsConfig | None" = None,
) -> dict[str, Any]:
    """Metrics and loss over windows of rows and what the model said of them.

    No more than one window is held, and a few bytes a row; which window a batch was in plays no part in the sums.

    Returns:
        `scores` by metric; where intervals are wanted, `intervals` ([low, high] by metric) of this `confidence`; for
        a few exclusive labels `confusion`, see `confusion_matrix`.
    """
    from ..evaluation.confusion import confusion_matrix
    from ..evaluation.intervals import bootstrap_intervals
    from ..evaluation.metrics.store import OutputStore
    from ..evaluation.prediction import mean_loss, shared_from_main

    store = OutputStore(recipe.metrics, total)
    losses: list[float] = []
    weights: list[float] = []
    for rows, found in predicted:
        losses += found.losses
        weights += found.weights
        if recipe.accelerator.is_main_process:
            store.add(recipe.outputs(found.values, rows))
            if write is not None:
                write(recipe.postprocess(found.values, rows))
    scores: dict[str, Any] = {}
    if recipe.accelerator.is_main_process:
        scores["scores"] = store.compute() | {"loss": mean_loss(losses, weights)}
        if intervals is not None:
            scores["intervals"] = bootstrap_intervals(recipe.metrics, store.outputs(), intervals)
            scores["confidence"] = intervals.confidence
        if store.kind == "single_label" and (confusion := confusion_matrix(store.outputs())):
            scores["confusion"] = confusion
    shared: dict[str, Any] = shared_from_main(scores, recipe.accelerator)
    return shared


def baseline_scores(recipe: "Recipe", rows: "datasets.Dataset") -> dict[str, Any] | None:
    """`name` of what one would predict without reading the text, and its `scores`; None where a task has none."""
    from ..data.batching import windows
    from ..evaluation.metrics.store import OutputStore

    assert recipe.splits is not None
    found = recipe.baseline(recipe.splits.train)
    if found is None:
        return None
    name, guess = found
    store = OutputStore(recipe.metrics, len(rows))
    for window in windows(len(rows), recipe.config.batch.window):
        store.add(guess(rows.select(window)))
    return {"name": name, "scores": store.compute()}


def evaluate_source(recipe: "Recipe", rows: Any, progress: bool = True) -> dict[str, Any]:
    """Scores of a saved model on labelled rows from a file or an object."""
    from ..data.problems import SHOWN
    from ..data.streaming import open_rows
    from ..progress import Reporter

    refuse_foreign_metrics(recipe)
    loaded_model(recipe)
    size = recipe.config.batch.window
    source = open_rows(as_source(recipe, rows), recipe.config.data, recipe.columns(), size, require_labels=True)
    problems: list[str] = []
    for window in _gathered(recipe, source):
        problems += recipe.check_labels(window, "rows")
        if len(problems) >= SHOWN:
            break
    if problems:
        raise DataError(problems)
    with Reporter(active=progress and recipe.is_main_process).bar("Predicting", len(source)) as bar:
        predicted = ((window, predict_window(recipe, window, bar)) for window in _gathered(recipe, source))
        scores = score_windows(recipe, predicted, len(source), intervals=recipe.config.evaluation.intervals)
    return {"task": recipe.task, "rows": len(source), **scores}


def _gathered(recipe: "Recipe", windows: "Iterable[datasets.Dataset]") -> "Iterator[datasets.Dataset]":
    """Windows of the data's rows as windows of the task's: rows that belong together must be in one of them."""
    from ..data.arrow_tables import table_of
    from ..data.splits import as_dataset
    from ..task_contract import TaskContract

    if type(recipe).gather is TaskContract.gather:
        yield from windows
        return
    for window in windows:
        yield as_dataset(recipe.gather(table_of(window)))[0]


def refuse_foreign_metrics(recipe: "Recipe") -> None:
    """Refuse to score a saved model by code that only the model names.

    Raises:
        ModelError: with the metrics.
    """
    from ..evaluation.metrics import METRICS

    foreign = [name for name in recipe.metrics if name not in METRICS]
    if foreign and not recipe._code_is_named:
        raise ModelError(
            f"the saved model names metrics that are code of their own: {', '.join(foreign)}. Nothing of it was run; "
            "if you trust it: --trust-remote-code (in Python: Recipe.from_pretrained(path, trust_remote_code=True))"
        )
