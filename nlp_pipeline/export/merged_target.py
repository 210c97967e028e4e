"""A plain transformers folder: adapters folded into the weights."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NlpPipelineError
from .folder import EXPORT_FILE

if TYPE_CHECKING:
    from ..recipe import Recipe

ADAPTER = "adapter"


def write_merged(model: Path, folder: Path) -> None:
    """The saved model as it is: a run saves it with the adapters folded in."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns(EXPORT_FILE), dirs_exist_ok=True)


def adapted_model(recipe: "Recipe", run: Path | None) -> tuple[Any | None, str]:
    """The pretrained model under the run's adapters, unmerged: what the merged weights are compared with.

    Returns:
        The model, or None with the reason where there is nothing to compare with.
    """
    if run is None or not (run / ADAPTER / "adapter_config.json").is_file():
        return None, "the run has no adapters"
    from ..config.loading import read_recipe
    from ..config.schema import ModelConfig
    from ..modeling.loading import load_model

    try:
        named = ModelConfig.model_validate(read_recipe(run / "recipe.yaml")[0]["model"])
        trusted = recipe.config.model.trust_remote_code
        source = named.model_copy(update={"quantization": None, "trust_remote_code": trusted})
        base = load_model(source, recipe.auto_model, recipe.model_settings(), recipe.pad_token_id)
    except NlpPipelineError as error:
        return None, f"the model under the adapters isn't there any more: {error}"
    from peft import PeftModel

    recipe.ready_model(base)
    return PeftModel.from_pretrained(base, run / ADAPTER).eval(), ""
