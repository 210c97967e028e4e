"""Checks over several settings at once, before torch is imported: each returns problems, none raises."""

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..secrets import VARIABLE, MissingVariableError, expanded_path
from .schema import Config, ModelConfig

EXPANDED: Any = {
    "model": {"name", "tokenizer"},
    "teacher": {"name"},
    "data": {"train", "validation", "test", "query", "columns", "id_column", "delimiter"},
    "tokenization": {"cache_dir"},
    "output": {"dir"},
    "tracking": {"uri"},
    "registry": {"target"},
    "recipe": True,
}
"""Where `${NAME}` is read from the environment (and columns, which may have any name)."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
NO_WEIGHTS = ("optimizer", "scheduler", "training_args", "rng_state", "scaler")
"""How the names of files begin that the stock Trainer pickles beside the weights."""
NEEDS_VALIDATION = "needs validation rows; give data.validation or data.validation_fraction=0.1"


def check_config(config: Config, in_memory: Mapping[str, Any], reported: Sequence[str] = ()) -> list[str]:
    """Every problem of the settings taken together, the task's own included.

    `reported` holds problems already found: a section that is already known to be faulty is not judged again.
    """
    from ..data.sources import check_sources

    problems = check_model(config.model) if not _mentions(reported, "model") else []
    if not _mentions(reported, "data"):
        problems += [f"data: {problem}" for problem in check_sources(config.data, in_memory)]
    problems += _check_teacher(config)
    problems += _check_training(config, in_memory)
    problems += _check_output(config)
    problems += _check_tracking(config)
    problems += _check_registry(config)
    problems += _check_task(config)
    return problems


def smoothing_problems(config: Config, of: str) -> list[str]:
    """Label smoothing where a task has no classes to spread it over.

    Args:
        of: what the task has in their place.
    """
    smoothed = config.training.label_smoothing
    return [f"training.label_smoothing: has no meaning for {of}; leave it out"] if smoothed else []


def check_model(model: ModelConfig) -> list[str]:
    """Whether the model's name can be resolved, as far as the disk can tell."""
    try:
        folder = model_folder(model.name)
    except ConfigError as error:
        return error.problems
    if folder is None:
        return []
    files = {path.name for path in folder.iterdir()}
    if model.architecture is not None:
        there = bool(files & {"tokenizer.json", "tokenizer_config.json"})
        return [] if there else [f"model: {folder} has no tokenizer.json; `nlp-pipeline train-tokenizer` writes one"]
    if "config.json" not in files and "adapter_config.json" not in files:
        return [f"model: {folder} has no config.json; expected a folder written by save_pretrained"]
    return pickled_weights(folder)


def teacher_folder(name: str) -> Path | None:
    """The model folder of a teacher, given itself or as its run's directory; None where there is none.

    Raises:
        ConfigError: a path or package that isn't there.
    """
    folder = model_folder(name)
    inner = folder / "model" if folder is not None else None
    return inner if inner is not None and (inner / "config.json").is_file() else folder


def _check_teacher(config: Config) -> list[str]:
    if config.teacher is None:
        return []
    name = config.teacher.name
    try:
        folder = teacher_folder(name)
    except ConfigError as error:
        return [problem.replace("model:", "teacher:", 1) for problem in error.problems]
    if folder is None:
        return [f"teacher: there is no folder {name!r}; expected a run directory or a model folder"]
    if not (folder / "config.json").is_file():
        return [f"teacher: {folder} has no model; expected a finished run's directory or a model folder"]
    problems = pickled_weights(folder)
    if config.teacher.hidden_states and config.training.compile is True:
        problems.append("training.compile: found true, which teacher.hidden_states does not go with; set it to false")
    return problems


def pickled_weights(folder: Path) -> list[str]:
    """The problem with a folder whose weights could only be unpickled; none of its files is opened.

    What a trainer leaves beside the weights (`optimizer.pt`, `training_args.bin`) is never read, so it is no problem.
    """
    files = sorted(path.name for path in folder.iterdir())
    pickled = [name for name in files if name.endswith(PICKLES) and not name.startswith(NO_WEIGHTS)]
    adapter = [name for name in pickled if name.startswith("adapter_model.")]
    missing = "adapter_model.safetensors" if "adapter_config.json" in files and adapter else "model.safetensors"
    there = missing in files or (missing == "model.safetensors" and any(n.endswith(".safetensors") for n in files))
    if there or not pickled:
        return []
    return [
        f"model: {folder} holds pickled weights only ({', '.join(pickled[:5])}), which can run code when they are "
        "loaded, so they never are. Convert them, without running any:\n"
        + _conversion(folder, missing, adapter or pickled)
    ]


def _conversion(folder: Path, target: str, pickled: Sequence[str]) -> str:
    """A shell command that writes safetensors; `weights_only` makes torch refuse whatever is no tensor."""
    import shlex

    code = (
        "import sys, torch; from safetensors.torch import save_file; "
        "load = lambda f: (lambda x: x.get('state_dict', x))(torch.load(f, map_location='cpu', weights_only=True)); "
        "save_file({k: v.clone(memory_format=torch.contiguous_format) for f in sys.argv[2:] "
        "for k, v in load(f).items()}, sys.argv[1], {'format': 'pt'})"
    )
    return shlex.join(["python", "-c", code, str(folder / target), *(str(folder / name) for name in pickled)])


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
        if ".." in Path(inner).parts or not os.path.isdir(folder):
            raise ConfigError(f"model: the package {package!r} has no folder {inner!r}")
        return folder
    try:
        path = expanded_path(name)
    except MissingVariableError as error:
        raise ConfigError(f"model: {error}") from None
    if os.path.isdir(path):
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
    if config.model.quantization:
        problems += _check_quantization(config)
    if training.lora and training.freeze:
        problems.append("training.freeze: LoRA freezes the whole base model already; leave one of the two out")
    if training.warmup >= 1 and training.max_steps and training.warmup >= training.max_steps:
        problems.append(
            f"training.warmup: found {training.warmup:g} steps, expected fewer than "
            f"training.max_steps, which is {training.max_steps}"
        )
    return problems


def _check_quantization(config: Config) -> list[str]:
    problems = []
    if config.training.lora is None:
        problems.append(
            "model.quantization: weights in 4 bits can't be trained; add adapters that can: training.lora.r=16"
        )
    if config.model.architecture is not None:
        problems.append("model.quantization: a model from scratch has no weights to quantize; leave one of the two out")
    if importlib.util.find_spec("bitsandbytes") is None:
        problems.append("model.quantization: needs the package `bitsandbytes`: pip install 'nlp-pipeline[qlora]'")
    return problems


def _may_have_validation(config: Config, in_memory: Mapping[str, Any]) -> bool:
    """Whether there are validation rows, or the training rows' source may bring some (only reading it can tell)."""
    from ..data.sources import plan_sources

    sources = plan_sources(config.data, in_memory).sources
    containers = [source for source in sources.get("train", []) if source.is_container]
    return bool(sources.get("validation") or config.data.validation_fraction or containers)


def _check_output(config: Config) -> list[str]:
    problems = []
    for place, text in (("output.dir", config.output.dir), ("tokenization.cache_dir", config.tokenization.cache_dir)):
        try:
            if text and os.path.isfile(expanded_path(text)):
                problems.append(f"{place}: {text} is a file; expected a folder")
        except MissingVariableError as error:
            problems.append(f"{place}: {error}")
    return problems + _not_expanded(config.model_dump(exclude=EXPANDED))


def _check_tracking(config: Config) -> list[str]:
    from ..tracking.trackers import missing_package, uri_problems

    problems = [problem for name in config.tracking.to if (problem := missing_package(name))]
    for name, uri in config.tracking.uri.items():
        problems += uri_problems(f"tracking.uri.{name}", uri)
    return problems


def _check_registry(config: Config) -> list[str]:
    from ..registry.address import check_alias, parse

    if config.registry is None:
        return []
    try:
        address = parse(config.registry.target, "registry.target")
        if config.registry.alias is not None:
            check_alias(config.registry.alias, "registry.alias")
    except ConfigError as error:
        return error.problems
    pinned = address.version or address.alias
    return ["registry.target: a push makes a version of its own; leave `:VERSION` or `@ALIAS` out"] if pinned else []


def _not_expanded(settings: Any, place: str = "") -> list[str]:
    """Settings that hold `${NAME}` where it would stay as it is."""
    if isinstance(settings, Mapping):
        return [p for k, v in settings.items() for p in _not_expanded(v, f"{place}.{k}" if place else str(k))]
    if isinstance(settings, str) and VARIABLE.search(settings):
        return [f"{place}: {settings!r} would stay so: ${{NAME}} works in paths, model names, sources and queries"]
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
