"""The saved model at work: the scores of a run, predictions, scores on other rows."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError
from ..run_directory import folder_hash, utc_now, write_lines
from .fitting import run_packed
from .tokenizing import make_encoder, tokenize_rows

if TYPE_CHECKING:
    import datasets

    from ..evaluation.metrics import Outputs
    from ..recipe import Recipe


def score_and_write(recipe: "Recipe", seconds_before: float) -> dict[str, Any]:
    """Score the saved model as it lies on disk; write predictions, results and the model card."""
    from ..evaluation.card import write_card
    from ..evaluation.metrics import compute_metrics
    from ..evaluation.prediction import predict_table

    if recipe.splits is None or recipe._model_folder is None:
        raise ConfigError("evaluate() needs a trained run: call fit() before it")
    split = "test" if "test" in recipe.tables else "validation" if "validation" in recipe.tables else "train"
    rows, table = getattr(recipe.splits, split), recipe.tables[split]
    model, _ = loaded_model(recipe)
    began = time.monotonic()
    with recipe.reporter.bar(f"Scoring {split}", len(table)) as bar:
        found = predict_table(recipe, model, table, recipe.accelerator, recipe.config.batch.evaluation, bar)
    recipe.timing["evaluate"] = time.monotonic() - began
    run = recipe.run_directory
    scores = scores_with_intervals(recipe, recipe.outputs(found.values, rows), found.loss)
    name, baseline = recipe.baseline(recipe.splits.train, rows)
    state = asdict(recipe.state) if recipe.state else {}
    results = {
        "task": recipe.task,
        "split": split,
        "rows": len(rows),
        "best_metric": recipe.best_metric,
        **scores,
        "baseline": {"name": name, "scores": compute_metrics(recipe.metrics, baseline)},
        "training": {k: state[k] for k in ("step", "examples", "seconds", "best_step", "best_score") if k in state},
        "seconds": {**recipe.timing, "total": seconds_before + recipe.timing["evaluate"]},
        "peak_memory_mib": peak_memory_mib(),
    }
    if recipe.accelerator.is_main_process:
        write_lines(run.predictions / f"{split}.jsonl", recipe.postprocess(found.values, rows))
        write_card(recipe, results)
        if run.manifest.exists():
            manifest = json.loads(run.manifest.read_text())
            manifest |= {
                "ended": utc_now(),
                "model_files": folder_hash(run.model),
                "seconds": results["seconds"],
            }
            run.write_json(run.manifest, manifest)
        run.write_json(run.results, results)
    recipe.accelerator.wait_for_everyone()
    return json.loads(run.results.read_text()) if run.results.exists() else results


def peak_memory_mib() -> float:
    """Most memory of this process so far: the device's on CUDA, else resident."""
    import resource
    import sys

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def loaded_model(recipe: "Recipe") -> tuple[Any, Any]:
    """The fine-tuned model as it lies on disk, in full precision, and its encoder. Loaded once."""
    from ..modeling.loading import load_model

    if recipe._model_folder is None:
        raise ConfigError("there is no trained model yet: call run() or fit() first, or load one with from_pretrained")
    if recipe._loaded is None:
        saved = recipe.config.model.model_copy(
            update={
                "name": str(recipe._model_folder.resolve()),
                "sha256": None,
                "revision": None,
                "tokenizer": None,
            }
        )
        model = load_model(saved, recipe.auto_model, {})
        if not hasattr(recipe, "encoder"):
            recipe.restore(model.config)
            make_encoder(recipe)
        run_packed(recipe, model)
        recipe._loaded = (model.to(recipe.accelerator.device), recipe.encoder)
    return recipe._loaded


def predict_rows(
    recipe: "Recipe", rows: Any, progress: bool, ids: Sequence[Any] | None, exact: bool
) -> list[dict[str, Any]]:
    """Predictions for new rows, in their order. Labels that they may have are not even read."""
    from ..data.splits import load_rows

    loaded_model(recipe)
    columns = [column for column in recipe.columns() if not column.is_label]
    data = load_rows(as_source(recipe, rows, ids), recipe.config.data, columns)
    _, values = score_rows(recipe, data, progress, exact)
    return recipe.postprocess(values, data)


def score_rows(
    recipe: "Recipe", data: "datasets.Dataset", progress: bool, exact: bool = True
) -> tuple[float, list[Any]]:
    """(mean loss, collected outputs) of loaded rows under the saved model.

    Without `exact` a device with bfloat16 computes in it first, and in float32 once more what was a close call.
    """
    import numpy as np

    from ..evaluation.prediction import predict_table
    from ..progress import Reporter

    model, _ = loaded_model(recipe)
    accelerator, size = recipe.accelerator, recipe.config.batch.evaluation
    before, recipe.reporter = recipe.reporter, Reporter(active=progress and recipe.is_main_process)
    try:
        table = tokenize_rows(recipe, data, "predict", "")
        again = None
        if not exact and accelerator.mixed_precision == "bf16" and recipe.unsure([]) is not None:
            with recipe.reporter.bar("Predicting", len(table)) as bar, accelerator.autocast():
                found = predict_table(recipe, model, table, accelerator, size, bar)
            again = recipe.unsure(found.values)
        if again is None:
            with recipe.reporter.bar("Predicting", len(table)) as bar:
                found = predict_table(recipe, model, table, accelerator, size, bar)
        elif len(again):
            second = predict_table(recipe, model, table, accelerator, size, only=np.asarray(again))
            for row, value in zip(again, second.values, strict=True):
                found.values[row] = value
    finally:
        recipe.reporter = before
    return found.loss, found.values


def evaluate_source(recipe: "Recipe", rows: Any, progress: bool = True) -> dict[str, Any]:
    """Scores of a saved model on labelled rows from a file or an object."""
    from ..data.splits import load_rows

    loaded_model(recipe)
    data = load_rows(as_source(recipe, rows), recipe.config.data, recipe.columns(), require_labels=True)
    if problems := recipe.check_labels(data, "rows"):
        raise DataError(problems)
    loss, values = score_rows(recipe, data, progress)
    scores = scores_with_intervals(recipe, recipe.outputs(values, data), loss)
    return {"task": recipe.task, "rows": len(data), **scores}


def scores_with_intervals(recipe: "Recipe", outputs: "Outputs", loss: float) -> dict[str, Any]:
    """`scores` by metric, and where the recipe wants them `intervals` ([low, high] by metric) of this `confidence`."""
    from ..evaluation.intervals import bootstrap_intervals
    from ..evaluation.metrics import compute_metrics

    scores = {"scores": compute_metrics(recipe.metrics, outputs) | {"loss": loss}}
    if (settings := recipe.config.evaluation.intervals) is None:
        return scores
    intervals = bootstrap_intervals(recipe.metrics, outputs, settings)
    return {**scores, "intervals": intervals, "confidence": settings.confidence}


def as_source(recipe: "Recipe", rows: Any, ids: Sequence[Any] | None = None) -> Any:
    """Plain texts, pairs or token lists as rows with the task's column names; all else as it is.

    Args:
        ids: what the rows are called in the output, where they don't say themselves.
    """
    if isinstance(rows, Path):
        return str(rows)
    if not isinstance(rows, (list, tuple)) or not rows:
        return rows
    if not isinstance(rows[0], Mapping):
        names = [column.name for column in recipe.columns()]
        as_tuples = [row if isinstance(row, tuple) else (row,) for row in rows]
        rows = [dict(zip(names, row, strict=False)) for row in as_tuples]
        ids = ids or range(1, len(rows) + 1)
    key = recipe.config.data.id_column or "id"
    return [{key: str(i), **row} for i, row in zip(ids, rows, strict=True)] if ids else rows
