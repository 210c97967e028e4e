"""How each task is asked and answers over HTTP: the shapes of the Hugging Face Inference API.

https://huggingface.co/docs/inference-providers/tasks; `huggingface_hub.InferenceClient` reads the answers.
"""

import importlib
from typing import TYPE_CHECKING

from ..settings import Limits
from .base import Shape

if TYPE_CHECKING:
    from ...recipe import Recipe

SHAPES = {
    "text-classification": "classification:Classification",
}


def shape_of(recipe: "Recipe", limits: Limits) -> Shape:
    """The shape of a loaded recipe's task; tasks that the Inference API doesn't know are asked by their rows."""
    module, _, name = SHAPES.get(recipe.task, "base:Shape").partition(":")
    found: type[Shape] = getattr(importlib.import_module(f".{module}", __name__), name)
    return found(recipe, limits)
