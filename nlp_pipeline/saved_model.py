"""The `model/` folder of a run: what plain transformers loads, and the recipe that it came from."""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .config import Config, build_config
from .errors import ModelError
from .modeling.loading import quiet_transformers
from .run_directory import write_text
from .secrets import literal

if TYPE_CHECKING:
    from .recipe import Recipe

RECIPE_FILE = "nlp_pipeline.json"


def save_model(recipe: "Recipe", model: Any, tokenizer: Any, max_length: int, folder: Path) -> None:
    """Write weights, tokenizer and recipe aside, then put them in place of an older folder."""
    aside = folder.with_name(f".{folder.name}-writing")
    shutil.rmtree(aside, ignore_errors=True)
    tokenizer.model_max_length = max_length  # so that a pipeline truncates where training did
    for key, value in recipe.model_settings().items():
        setattr(model.config, key, value)
    recipe.ready_model(model)
    with quiet_transformers():
        model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    recipe.write_beside(model, aside)
    write_recipe(recipe, max_length, aside)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)


def write_recipe(recipe: "Recipe", max_length: int, folder: Path) -> None:
    """Write what a model folder says of its recipe, in one go."""
    weights = None if recipe.weights is None else recipe.weights.tolist()
    content = {"config": recipe.config.public(), "max_length": max_length, "class_weights": weights}
    if recipe.tuned:
        content["tuned"] = recipe.tuned
    write_text(folder / RECIPE_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_saved_config(
    path: Path, trust_remote_code: bool = False
) -> tuple[Config, Path, np.ndarray | None, dict[str, float]]:
    """The config, the model folder, the class weights and the tuned numbers of a run directory or its `model` folder.

    The config names the saved model in place of the one that training started from. A model folder may come from
    anywhere: of the paths in its config none is kept, and code that it names is not run unless it is trusted.

    Raises:
        ModelError: it is no such folder, or it names code and `trust_remote_code` is not given.
    """
    for folder in (path / "model", path):
        if (folder / RECIPE_FILE).exists():
            break
    else:
        raise ModelError(
            f"{path} is neither a finished run nor its model folder: there is no {RECIPE_FILE} in it"
            + (
                "; the run stopped before its end, run `nlp-pipeline train` again"
                if (path / "recipe.yaml").exists()
                else ""
            )
        )
    try:
        content = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
        raw = dict(content["config"])
        max_length = int(content["max_length"])
        weights = content.get("class_weights")
        class_weights = None if weights is None else np.array(weights, np.float32)
        tuned = {str(name): float(value) for name, value in content.get("tuned", {}).items()}
        raw["model"] = {"name": literal(folder.resolve()), "trust_remote_code": trust_remote_code}
        raw["data"] = {**raw["data"], "train": "memory:train", "validation": None, "test": None}
        raw["data"] |= {"validation_fraction": 0, "test_fraction": 0, "query": None, "format": "auto"}
        raw["tokenization"] = {**raw["tokenization"], "max_length": max_length, "cache_dir": None}
        raw["training"] = {**raw["training"], "lora": None, "freeze": [], "early_stopping": None}
        raw["output"] = {"dir": literal(path)}
        raw["teacher"] = None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"{folder / RECIPE_FILE} is not what a run writes; is it damaged?") from None
    if raw.get("recipe") and not trust_remote_code:
        raise ModelError(
            f"the model in {folder} names a recipe class of its own, {raw['recipe']!r}, which was not imported. If you "
            "trust that code: --trust-remote-code (in Python: Recipe.from_pretrained(path, trust_remote_code=True))"
        )
    return build_config(raw, in_memory={"train": []}), folder, class_weights, tuned
