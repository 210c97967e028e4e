"""The folder of a run: which one it is, whether it is finished, and whether this run may go on in it."""

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from ..config.schema import Config
from ..errors import START_ANEW, ConfigError
from ..run_directory import (
    RunDirectory,
    environment,
    file_hash,
    fresh_path,
    newest_of,
    read_json,
    text_hash,
    utc_now,
    write_text,
)
from ..secrets import expanded_path, public
from ..training.checkpoint_folder import find_checkpoint, list_checkpoints

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..recipe import Recipe


# Settings that may differ between a run and the one that goes on from its checkpoint.
FREE = {
    "name": True,
    "output": True,
    "tracking": True,
    "registry": True,
    "checkpoint": True,
    "model": {"sha256"},
    "data": True,  # its content is compared by fingerprint
    "audit": True,
    "tokenization": {"cache", "cache_dir"},
    "batch": {"micro", "evaluation", "window"},
    "training": {
        "epochs",
        "max_steps",
        "log_every",
        "early_stopping",
        "gradient_checkpointing",
        "verify_parity",
        "compile",
        "on_non_finite",
        "peer_timeout",
    },
    "evaluation": {"metrics", "every", "intervals"},
}


SHARED_WITHIN = 30.0
"""Seconds after which a file must be seen on every machine: network file systems cache what a folder holds."""

BITS = ("recipe_sha256", "python", "packages", "processes", "precision", "device", "arithmetic")
"""Parts of the manifest that the weights' last bits may depend on, for the same rows and model."""


def resolved(recipe: "Recipe") -> str:
    """The whole config as YAML, defaults included, passwords hidden."""
    return yaml.safe_dump(recipe.config.public(), sort_keys=False, allow_unicode=True)


def choose_directory(recipe: "Recipe", fresh: bool) -> RunDirectory:
    """The folder to work in, made. The main process decides: what it makes is no longer new to the others."""
    from ..devices import launched_processes

    path, config = recipe.run_directory.path, recipe.config
    chosen = RunDirectory(fresh_path(path) if fresh else newest_of(path, config.name, config.output.dir))
    if launched_processes() > 1:
        from ..evaluation.prediction import shared_from_main

        chosen = RunDirectory(shared_from_main(str(chosen.path), recipe.accelerator))
    chosen.create()
    if launched_processes() > 1:
        _check_shared(chosen, recipe.accelerator)
    return chosen


def _check_shared(run: RunDirectory, accelerator: "Accelerator") -> None:
    """Refuse a folder that is not one and the same for all processes, before hours of training show it.

    Raises:
        ConfigError: on every process, with those that don't see what the main one writes.
    """
    import secrets

    from accelerate.utils import gather_object

    from ..evaluation.prediction import shared_from_main

    mark = run.path / shared_from_main(f".shared-{secrets.token_hex(8)}", accelerator)
    if accelerator.is_main_process:
        mark.touch()
    accelerator.wait_for_everyone()
    deadline = time.monotonic() + SHARED_WITHIN
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    seen = gather_object([mark.exists()])
    if accelerator.is_main_process:
        mark.unlink(missing_ok=True)
    if blind := [str(number) for number, sees in enumerate(seen) if not sees]:
        raise ConfigError(
            f"output.dir: what process 0 writes to {run.path} is not seen by process {', '.join(blind)}; expected a "
            "folder on storage that all machines share, by an absolute path"
        )


def read_finished(recipe: "Recipe") -> dict[str, Any] | None:
    """The results of a run that finished with exactly these settings and inputs; None when there is something to do."""
    run = recipe.run_directory
    results = read_json(run.results)
    if not results or not run.recipe.exists() or run.recipe.read_bytes() != resolved(recipe).encode():
        return None
    if read_json(run.manifest).get("inputs") != inputs(recipe):
        return None
    recipe.reporter.say(f"{run.path} holds the finished run of this recipe; --fresh trains it anew beside it")
    recipe._model_folder = run.model
    return results


def inputs(recipe: "Recipe") -> dict[str, Any]:
    """What a run is made from, by content: the rows of every split, the weights, a recipe class of the user's own."""
    from ..modeling.loading import model_identity, weights_hash
    from .teaching import teacher_hash

    assert recipe.splits is not None
    own, teacher = recipe.config.recipe, recipe.config.teacher
    taught = {"teacher": {"name": teacher.name, "sha256": teacher_hash(recipe)}} if teacher else {}
    beside = {
        name: {"name": model.name, "identity": text_hash(json.dumps(model_identity(model), sort_keys=True))}
        for name, model in recipe.models_beside().items()
    }
    return (
        taught
        | ({"models_beside": beside} if beside else {})
        | {
            "data": {
                split: {"rows": len(rows), "fingerprint": recipe.splits.fingerprints[split]}
                for split, rows in recipe.splits.parts.items()
            },
            "model": {"name": recipe.config.model.name, "sha256": weights_hash(recipe.config.model)},
            "recipe_class": file_hash(expanded_path(own.rpartition(":")[0])) if own else None,
        }
    )


def identity(recipe: "Recipe") -> dict[str, Any]:
    """What a checkpoint's run and the run that goes on from it must have in common, flat by setting."""
    dumped = Config.model_validate(recipe.config.model_dump()).model_dump(mode="json", exclude=FREE)  # type: ignore[arg-type]
    flat: dict[str, Any] = {}
    for section, value in public(dumped).items():
        if isinstance(value, Mapping):
            flat |= {f"{section}.{key}": inner for key, inner in value.items()}
        else:
            flat[section] = value
    made_from = inputs(recipe)
    for split in ("train", "validation"):
        flat[f"{split} rows"] = made_from["data"].get(split, {}).get("fingerprint")
    flat["batch.sampling"] = recipe.sampling
    flat["model weights"] = made_from["model"]["sha256"]
    if recipe.config.teacher is not None:
        flat["teacher weights"] = made_from["teacher"]["sha256"]
    flat |= {f"{name} weights": model["identity"] for name, model in made_from.get("models_beside", {}).items()}
    flat["recipe class"] = made_from["recipe_class"]
    # A best score can only be compared with later ones of the same metric.
    flat["best metric"] = recipe.best_metric + (" (greater is better)" if recipe.greater_is_better else "")
    return flat


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
    run, manifest = recipe.run_directory, make_manifest(recipe)
    if list_checkpoints(run.checkpoints):
        manifest["earlier"] = _earlier(run, manifest)
    run.results.unlink(missing_ok=True)
    write_text(run.recipe, resolved(recipe))
    if recipe.audited is not None:
        run.write_json(run.audit, recipe.audited.to_json())
    run.write_json(run.manifest, manifest)


def _earlier(run: RunDirectory, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Under what else than `manifest` says the steps before this start were made."""
    before = read_json(run.manifest)
    conditions, known = {key: before.get(key) for key in BITS}, before.get("earlier")
    changed = before and conditions != {key: manifest[key] for key in BITS}
    return [*(known if isinstance(known, list) else []), *([conditions] if changed else [])]


def make_manifest(recipe: "Recipe") -> dict[str, Any]:
    """What the run is made from and under what; needs the rows and the tokenizer."""
    from ..devices import arithmetic, device_name

    training = recipe.config.training
    return {
        "started": utc_now(),
        "recipe_sha256": text_hash(resolved(recipe)),
        "inputs": inputs(recipe),
        "tokenizer": {
            "sha256": recipe.encoder.sha256,
            "max_length": recipe.encoder.max_length,
        },
        "seeds": {"training": training.seed, "split": recipe.config.data.split_seed},
        "device": device_name(),
        "processes": recipe.accelerator.num_processes,
        "precision": str(recipe.accelerator.mixed_precision),
        "arithmetic": arithmetic(recipe.accelerator.device.type),
        **environment(),
    }
