"""How each task is asked and answers over HTTP: the shapes of the Hugging Face Inference API.

https://huggingface.co/docs/inference-providers/tasks; `huggingface_hub.InferenceClient` reads the answers.
"""

import importlib

from ..model import ServedModel
from ..settings import Limits
from .base import Shape

SHAPES = {
    "text-classification": "classification:Classification",
    "token-classification": "tags:Tags",
    "question-answering": "answers:Answers",
    "fill-mask": "fills:Fills",
    "text-ranking": "ranking:Ranking",
    "text-generation": "generation:Generation",
    "instruction-tuning": "generation:Generation",
    "summarization": "texts:Summary",
    "translation": "texts:Translation",
    "text2text-generation": "texts:Text",
}


def shape_of(model: ServedModel, limits: Limits) -> Shape:
    """The shape of a model; tasks that the Inference API doesn't know are asked by their rows."""
    place = SHAPES.get(model.task, "rows:Rows")
    if model.tried is not None and "rows" in place:
        from .embeddings import vector

        place = "embeddings:Embeddings" if vector(model.tried) is not None else place
    if model.task == "text-classification":
        from .classification import entails

        place = "classification:ZeroShot" if entails(model.recipe) else place
    return _shape(place)(model, limits)


def rows_shape(model: ServedModel, limits: Limits) -> Shape:
    """The shape that every task has: rows in the recipe's columns."""
    return _shape("rows:Rows")(model, limits)


def _shape(place: str) -> type[Shape]:
    module, _, name = place.partition(":")
    found: type[Shape] = getattr(importlib.import_module(f".{module}", __name__), name)
    return found
