"""Checks over several settings at once, before torch is imported: each returns problems, none raises."""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .schema import Config, ModelConfig

NEEDS_VALIDATION = "needs validation rows; give data.validation or data.validation_fraction=0.1"


def check_config(config: Config, in_memory: Mapping[str, Any], reported: Sequence[str] = ()) -> list[str]:
    """Every problem of the settings taken together, the task's own included.

    `reported` holds problems already found: a section that is already known to be faulty is not judged again.
    """
    from ..data.sources import check_sources

    problems = check_model(config.model) if not _mentions(reported, "model") else []
    if not _mentions(reported, "data"):
        problems += [f"data: {problem}" for problem in check_sources(config.data, in_memory)]
    problems += _check_training(config, in_memory)
    problems += _check_output(config)
    problems += _check_task(config)
    return problems


def check_model(model: ModelConfig) -> list[str]:
    """Whether the model's name can be resolved, as far as the disk can tell."""
    try:
        folder = model_folder(model.name)
    except ConfigError as error:
        return error.problems
    if folder is None:
        return []
    files = {path.name for path in folder.iterdir()}
    if "config.json" not in files and "adapter_config.json" not in files:
        return [f"model: {folder} has no config.json; expected a folder written by save_pretrained"]
    weights = [name for name in files if name.endswith(".safetensors")]
    if not weights and any(name.endswith((".bin", ".pt", ".pth")) for name in files):
        return [
            f"model: {folder} holds pickled weights only, which can run code when loaded; convert them with "
            "`model.save_pretrained(folder)` on a machine you trust them on (it writes safetensors)"
        ]
    return []


def model_folder(name: str) -> Path | None:
    """The local folder that a model name stands for; None when it is a Hub name.

    Raises:
        ConfigError: a path or package that isn't there.
    """
    if name.startswith("package:"):
        package, _, inner = name.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package) if re.fullmatch(r"\w+", package) else None
        if spec is None or not spec.submodule_search_locations:
            pip_name = package.replace("_", "-")
            raise ConfigError(f"model: the package {package!r} is not installed: pip install {pip_name}")
        root = Path(next(iter(spec.submodule_search_locations)))
        folder = root / inner
        if ".." in Path(inner).parts or not folder.is_dir():
            raise ConfigError(f"model: the package {package!r} has no folder {inner!r}")
        return folder
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith(("./", "../", "~")) or name.count("/") > 1 or not name.strip():
        raise ConfigError(f"model: there is no folder {name!r}")
    return None


def _check_training(config: Config, in_memory: Mapping[str, Any]) -> list[str]:
    problems = []
    training, batch = config.training, config.batch
    if training.early_stopping and not _may_have_validation(config, in_memory):
        problems.append(f"training.early_stopping: {NEEDS_VALIDATION}")
    if batch.micro and batch.micro > batch.size:
        problems.append(f"batch.micro: found {batch.micro}, expected at most batch.size, which is {batch.size}")
    for pattern in training.freeze:
        if pattern.startswith("layers:") and not pattern.removeprefix("layers:").isdigit():
            problems.append(f"training.freeze: found {pattern!r}, expected a number after `layers:`, e.g. layers:4")
    if training.lora and importlib.util.find_spec("peft") is None:
        problems.append("training.lora: needs the package `peft`: pip install 'nlp-pipeline[lora]'")
    if training.lora and training.freeze:
        problems.append("training.freeze: LoRA freezes the whole base model already; leave one of the two out")
    if training.warmup >= 1 and training.max_steps and training.warmup >= training.max_steps:
        problems.append(
            f"training.warmup: found {training.warmup:g} steps, expected fewer than "
            f"training.max_steps, which is {training.max_steps}"
        )
    return problems


def _may_have_validation(config: Config, in_memory: Mapping[str, Any]) -> bool:
    """Whether there are validation rows, or the training rows' source may bring some (only reading it can tell)."""
    from ..data.sources import plan_sources

    sources = plan_sources(config.data, in_memory).sources
    containers = [source for source in sources.get("train", []) if source.is_container]
    return bool(sources.get("validation") or config.data.validation_fraction or containers)


def _check_output(config: Config) -> list[str]:
    if config.output.dir and Path(config.output.dir).expanduser().is_file():
        return [f"output.dir: {config.output.dir} is a file; expected a folder"]
    return []


def _check_task(config: Config) -> list[str]:
    from ..tasks import recipe_class

    try:
        recipe = recipe_class(config)
    except ConfigError as error:
        return error.problems
    return recipe.check(config)


def _mentions(problems: Sequence[str], section: str) -> bool:
    return any(problem.startswith((f"{section}:", f"{section}.")) for problem in problems)
