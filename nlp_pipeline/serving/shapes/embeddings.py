"""Sentence embeddings: the vectors of texts, or how near some are to one."""

from typing import Any

import numpy as np
from pydantic import create_model

from ..model import Found, Question, Row, ServedModel
from .base import STRICT, Shape


class Embeddings(Shape):
    """A vector a text (feature extraction); or the cosine of each text with a first one (sentence similarity)."""

    summary = "A vector for each text; or, with `source_sentence` and `sentences`, how near each is to the first"
    response = list[list[float]] | list[float]

    def inputs(self) -> Any:
        """A text, several, or one with several to compare."""
        compared = create_model(
            "SentencesToCompare",
            __config__=STRICT,
            source_sentence=(self.text, ...),
            sentences=(self.several(self.text), ...),
        )
        return self.text | self.several(self.text) | compared

    def example(self) -> Any:
        """Texts to compare."""
        return {"source_sentence": "Where is my parcel?", "sentences": ["My order has not come.", "Good morning."]}

    def asked(self, body: Any) -> tuple[Question, list[Row]]:
        """A row a text."""
        given = body.inputs
        if isinstance(given, str | list):
            return self.texts([given] if isinstance(given, str) else given)
        return self.texts([given.source_sentence, *given.sentences])

    def texts(self, texts: list[str]) -> tuple[Question, list[Row]]:
        """Rows of the column that plain texts go to."""
        return Question(), [{self.model.columns[0].name: text} for text in texts]

    def answer(self, body: Any, model: ServedModel, found: list[Found]) -> Any:
        """Vectors, or cosines."""
        vectors = [vector(one) for one in found]
        if isinstance(body.inputs, str | list):
            return vectors
        table = np.array(vectors)
        table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
        return (table[1:] @ table[0]).tolist()


def vector(found: Found) -> list[float] | None:
    """A prediction that is an embedding."""
    value = found.record.get("embedding", found.record.get("prediction"))
    if isinstance(value, np.ndarray):
        value = value.tolist()
    numbers = isinstance(value, list) and bool(value) and all(isinstance(one, float) for one in value)
    return value if numbers else None
