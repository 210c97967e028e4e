"""The `model/` folder of a run: what plain transformers loads, and the recipe that it came from."""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Config, build_config
from .errors import ModelError
from .modeling.loading import quiet_transformers
from .run_directory import write_text

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
    with quiet_transformers():
        model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    content = {"config": recipe.config.model_dump(mode="json"), "max_length": max_length}
    write_text(aside / RECIPE_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)


def read_saved_config(path: Path) -> tuple[Config, Path]:
    """The config and the model folder of a run directory or of its `model` folder.

    The config names the saved model in place of the one that training started from.
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
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{folder / RECIPE_FILE} is not what a run writes; is it damaged?") from None
    raw["model"] = {"name": str(folder.resolve())}
    raw["data"] = {**raw["data"], "train": "memory:train", "validation": None, "test": None}
    raw["data"] |= {"validation_fraction": 0, "test_fraction": 0, "query": None, "format": "auto"}
    raw["tokenization"] = {**raw["tokenization"], "max_length": max_length}
    raw["training"] = {**raw["training"], "lora": None, "freeze": [], "early_stopping": None}
    raw["output"] = {"dir": str(path)}
    return build_config(raw, in_memory={"train": []}), folder
