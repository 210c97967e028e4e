"""What each stage of a run does, in the order of `Recipe.run`."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .config.keywords import SPLITS
from .config.schema import Config
from .data.labels import Labels
from .errors import ConfigError, DataError
from .run_directory import (
    RunDirectory,
    environment,
    folder_hash,
    fresh_path,
    newest_of,
    utc_now,
    write_lines,
    write_text,
)
from .training.checkpoint import START_ANEW, find_checkpoint

if TYPE_CHECKING:
    import datasets

    from .data.tokenization import TokenTable
    from .recipe import Recipe
    from .training.checkpoint import TrainState

# Settings that may differ between a run and the one that goes on from its checkpoint.
FREE = {
    "name": True,
    "output": True,
    "checkpoint": True,
    "model": {"sha256"},
    "data": True,  # its content is compared by fingerprint
    "tokenization": {"cache", "cache_dir"},
    "batch": {"micro", "evaluation"},
    "training": {
        "epochs",
        "max_steps",
        "log_every",
        "early_stopping",
        "gradient_checkpointing",
        "verify_parity",
        "compile",
        "on_non_finite",
    },
    "evaluation": {"metrics", "every"},
}


def resolved(recipe: "Recipe") -> str:
    """The whole config as YAML, defaults included."""
    return yaml.safe_dump(recipe.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def choose_directory(recipe: "Recipe", fresh: bool) -> RunDirectory:
    """The folder to work in, made. The main process decides: what it makes is no longer new to the others."""
    from .devices import launched_processes

    path, config = recipe.run_directory.path, recipe.config
    chosen = RunDirectory(fresh_path(path) if fresh else newest_of(path, config.name, config.output.dir))
    if launched_processes() > 1:
        from .evaluation.prediction import shared_from_main

        chosen = RunDirectory(shared_from_main(str(chosen.path), recipe.accelerator))
    chosen.create()
    return chosen


def read_finished(recipe: "Recipe") -> dict[str, Any] | None:
    """The results of a run that finished with exactly these settings and inputs; None when there is something to do."""
    run = recipe.run_directory
    if not run.finished or not run.recipe.exists() or run.recipe.read_text(encoding="utf-8") != resolved(recipe):
        return None
    if json.loads(run.manifest.read_text(encoding="utf-8")).get("inputs") != inputs(recipe):
        return None
    recipe.reporter.say(f"{run.path} holds the finished run of this recipe; --fresh trains it anew beside it")
    recipe._model_folder = run.model
    results: dict[str, Any] = json.loads(run.results.read_text(encoding="utf-8"))
    return results


def inputs(recipe: "Recipe") -> dict[str, Any]:
    """What a run is made from, by content: the rows of every split, the weights, a recipe class of the user's own."""
    from .modeling.loading import file_hash, weights_hash

    assert recipe.splits is not None
    own = recipe.config.recipe
    return {
        "data": {
            split: {"rows": len(rows), "fingerprint": recipe.splits.fingerprints[split]}
            for split in SPLITS
            if (rows := getattr(recipe.splits, split)) is not None
        },
        "model": {"name": recipe.config.model.name, "sha256": weights_hash(recipe.config.model)},
        "recipe_class": file_hash(Path(own.rpartition(":")[0]).expanduser()) if own else None,
    }


def check_directory(recipe: "Recipe") -> None:
    """Refuse to go on in a folder whose run had other settings or inputs, before anything in it is touched.

    Raises:
        ConfigError: with every difference, or because a finished run has no checkpoint left to go on from.
    """
    run = recipe.run_directory
    path, _ = find_checkpoint(run.checkpoints, identity(recipe))
    if path is None and run.finished:
        raise ConfigError(
            f"{run.path} holds a finished run, of other settings or data and without checkpoints to go on from; "
            f"{START_ANEW}"
        )


def write_start(recipe: "Recipe") -> None:
    """The resolved recipe and the manifest, before training: a run that crashes can still be understood."""
    if not recipe.is_main_process:
        return
    run = recipe.run_directory
    run.results.unlink(missing_ok=True)
    write_text(run.recipe, resolved(recipe))
    run.write_json(run.manifest, _manifest(recipe))


def _manifest(recipe: "Recipe") -> dict[str, Any]:
    from .data.tokenization import tokenizer_hash
    from .devices import device_name

    training = recipe.config.training
    return {
        "started": utc_now(),
        "inputs": inputs(recipe),
        "tokenizer": {
            "sha256": tokenizer_hash(recipe.encoder.tokenizer),
            "max_length": recipe.encoder.max_length,
        },
        "seeds": {"training": training.seed, "split": recipe.config.data.split_seed},
        "device": device_name(),
        "processes": recipe.accelerator.num_processes,
        "precision": str(recipe.accelerator.mixed_precision),
        **environment(),
    }


def make_encoder(recipe: "Recipe") -> None:
    """Load the tokenizer and settle the maximum length and the order of the labels."""
    from .data.tokenization import Encoder
    from .modeling.loading import load_model_config, load_tokenizer, longest_sequence, position_limit

    config = recipe.config
    words = recipe.columns()[0].kind == "tokens"
    tokenizer, model_config = load_tokenizer(config.model, words), load_model_config(config.model)
    limit, wanted = position_limit(model_config), config.tokenization.max_length
    if wanted is not None and limit is not None and wanted > limit:
        raise ConfigError(f"tokenization.max_length: found {wanted}, expected at most {limit}, this model's limit")
    recipe.encoder = Encoder(tokenizer, wanted or longest_sequence(tokenizer, model_config))
    recipe.pad_token_id = tokenizer.pad_token_id or 0
    recipe.padded_because = _why_padded(recipe, model_config)
    if recipe.labels is not None:
        before = recipe.labels
        recipe.labels = before.reordered_like(Labels.from_model_config(model_config))
        if recipe.weights is not None and recipe.labels is not before:
            recipe.weights = recipe.weights[[before.ids[name] for name in recipe.labels.names]]
        if recipe.head_bias is not None and recipe.labels is not before:
            recipe.head_bias = recipe.head_bias[[before.ids[name] for name in recipe.labels.names]]


def _why_padded(recipe: "Recipe", model_config: Any) -> str | None:
    """Why the model runs padded; None when it runs without padding.

    Raises:
        ConfigError: it was asked for and can't be had.
    """
    from .modeling.padding_free import why_not

    wanted = recipe.config.batch.padding_free
    reason = "batch.padding_free is false" if wanted is False else why_not(model_config)
    if wanted is True and reason:
        raise ConfigError(f"batch.padding_free: found true, but {reason}; leave it out")
    return reason


def tokenize_splits(recipe: "Recipe") -> "dict[str, TokenTable]":
    """Every split's token ids; the main process tokenizes, the others find its work in the cache."""
    assert recipe.splits is not None
    make_encoder(recipe)
    tables = {}
    with recipe.accelerator.main_process_first():
        for split in SPLITS:
            rows = getattr(recipe.splits, split)
            if rows is not None:
                tables[split] = tokenize_rows(recipe, rows, split, recipe.splits.fingerprints[split])
    return tables


def tokenize_rows(recipe: "Recipe", rows: "datasets.Dataset", split: str, fingerprint: str) -> "TokenTable":
    """One split's token ids, through the cache unless it is off."""
    from .data.tokenization import cache_root, code_version, tokenize, tokenizer_hash

    settings = recipe.config.tokenization
    parts = {
        "data": fingerprint,
        "tokenizer": tokenizer_hash(recipe.encoder.tokenizer),
        "max_length": recipe.encoder.max_length,
        "task": recipe.task,
        "options": recipe.options.model_dump(mode="json", exclude=set(recipe.options_after_tokenization)),
        "labels": list(recipe.labels.names) if recipe.labels else None,
        "code": code_version(recipe),
    }
    cache = cache_root(settings.cache_dir) if settings.cache and split != "predict" else None
    name = f"{recipe.task}:{recipe.config.name}"
    with recipe.reporter.bar(f"Tokenizing {split}", len(rows)) as bar:
        table, report = tokenize(
            rows, lambda part: recipe.preprocess(part, recipe.encoder), parts, split, cache, name, bar.advance
        )
    if split != "predict":
        recipe.reporter.say(str(report))
    return table


def train_and_save(recipe: "Recipe") -> "TrainState":
    """Load the model, train it, put the best weights into `model/`."""
    from transformers import set_seed

    from .modeling.loading import load_model
    from .modeling.parameters import add_lora, freeze, merge_lora
    from .training.checkpoint import load_weights, name_of
    from .training.loop import fit

    config, run, accelerator = recipe.config, recipe.run_directory, recipe.accelerator
    run.create()
    check_directory(recipe)
    accelerator.wait_for_everyone()  # every process has looked before the main one writes
    write_start(recipe)
    set_seed(config.training.seed)
    model = load_model(config.model, recipe.auto_model, recipe.model_settings(), recipe.pad_token_id, recipe.head_bias)
    frozen = freeze(model, config.training.freeze)
    run_packed(recipe, model)
    if config.training.lora:
        model = add_lora(model, config.training.lora, recipe.lora_task_type)
    _announce(recipe, model, frozen)
    evaluate = (lambda current: validation_scores(recipe, current)) if "validation" in recipe.tables else None
    began = time.monotonic()
    state = fit(
        recipe,
        model,
        recipe.tables["train"],
        config,
        run,
        accelerator,
        recipe.reporter,
        evaluate,
        identity(recipe),
    )
    recipe.timing["fit"] = time.monotonic() - began
    if accelerator.is_main_process:
        bare = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        load_weights(run.checkpoints / name_of(state.best_step or state.step), bare)
        if config.training.lora:
            bare.save_pretrained(run.path / "adapter")
        from .saved_model import save_model

        save_model(recipe, merge_lora(bare), recipe.encoder.tokenizer, recipe.encoder.max_length, run.model)
    accelerator.wait_for_everyone()
    recipe.state = state
    return state


def run_packed(recipe: "Recipe", model: Any) -> None:
    """Let a freshly loaded model run without padding where it can, and drop out cheaply on the CPU."""
    from .modeling.dropout import use_fast_dropout
    from .modeling.padding_free import PaddingFree

    if recipe.padded_because is None:
        PaddingFree(model)
    if recipe.accelerator.device.type == "cpu" and not recipe.config.training.compile:
        use_fast_dropout(model)


def _announce(recipe: "Recipe", model: Any, frozen: int) -> None:
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    some = f", {trained / 1e6:.1f} M of them trained" if trained != total else ""
    accelerator = recipe.accelerator
    devices = f"{accelerator.num_processes} processes" if accelerator.num_processes > 1 else "one process"
    precision = {"no": "fp32"}.get(str(accelerator.mixed_precision), str(accelerator.mixed_precision))
    if recipe.padded_because and recipe.config.batch.padding_free is not False:
        recipe.reporter.say(f"padding: rows are padded, {recipe.padded_because}; batches hold rows of like length")
    recipe.reporter.say(
        f"model: {recipe.config.model.name}, {total / 1e6:.1f} M parameters{some}; "
        f"{precision} on {accelerator.device.type}, {devices}"
    )


def identity(recipe: "Recipe") -> dict[str, Any]:
    """What a checkpoint's run and the run that goes on from it must have in common, flat by setting."""
    dumped = Config.model_validate(recipe.config.model_dump()).model_dump(mode="json", exclude=FREE)  # type: ignore[arg-type]
    flat: dict[str, Any] = {}
    for section, value in dumped.items():
        if isinstance(value, Mapping):
            flat |= {f"{section}.{key}": inner for key, inner in value.items()}
        else:
            flat[section] = value
    made_from = inputs(recipe)
    for split in ("train", "validation"):
        flat[f"{split} rows"] = made_from["data"].get(split, {}).get("fingerprint")
    flat["batch.sampling"] = recipe.sampling
    flat["model weights"] = made_from["model"]["sha256"]
    flat["recipe class"] = made_from["recipe_class"]
    # A best score can only be compared with later ones of the same metric.
    flat["best metric"] = recipe.best_metric + (" (greater is better)" if recipe.greater_is_better else "")
    return flat


def validation_scores(recipe: "Recipe", model: Any) -> dict[str, float]:
    """Metrics and loss of the current weights on the validation rows, the same on every process."""
    from .evaluation.metrics import compute_metrics
    from .evaluation.prediction import predict_table, shared_from_main

    assert recipe.splits is not None
    table = recipe.tables["validation"]
    accelerator = recipe.accelerator
    with recipe.reporter.bar("Evaluating", len(table)) as bar:
        found = predict_table(recipe, model, table, accelerator, recipe.config.batch.evaluation, bar)
    scores: dict[str, float] = {}
    if accelerator.is_main_process:
        scores = compute_metrics(recipe.metrics, recipe.outputs(found.values, recipe.splits.validation))
        scores["loss"] = found.loss
    result: dict[str, float] = shared_from_main(scores, accelerator)
    return result


def score_and_write(recipe: "Recipe", seconds_before: float) -> dict[str, Any]:
    """Score the saved model as it lies on disk; write predictions, results and the model card."""
    from .evaluation.card import write_card
    from .evaluation.metrics import compute_metrics
    from .evaluation.prediction import predict_table

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
    scores = compute_metrics(recipe.metrics, recipe.outputs(found.values, rows))
    name, baseline = recipe.baseline(recipe.splits.train, rows)
    state = asdict(recipe.state) if recipe.state else {}
    results = {
        "task": recipe.task,
        "split": split,
        "rows": len(rows),
        "best_metric": recipe.best_metric,
        "scores": scores | {"loss": found.loss},
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
    from .modeling.loading import load_model

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
    from .data.splits import load_rows

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

    from .evaluation.prediction import predict_table
    from .progress import Reporter

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
    from .data.splits import load_rows
    from .evaluation.metrics import compute_metrics

    loaded_model(recipe)
    data = load_rows(as_source(recipe, rows), recipe.config.data, recipe.columns(), require_labels=True)
    if problems := recipe.check_labels(data, "rows"):
        raise DataError(problems)
    loss, values = score_rows(recipe, data, progress)
    scores = compute_metrics(recipe.metrics, recipe.outputs(values, data))
    return {"task": recipe.task, "rows": len(data), "scores": scores | {"loss": loss}}


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
