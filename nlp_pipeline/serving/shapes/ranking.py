"""Text ranking: texts by how well they answer a query."""

from typing import Any

from pydantic import BaseModel, create_model

from ..model import Found, Question, Row, ServedModel
from .base import STRICT, Shape


class Ranked(BaseModel):
    """A text's place among those that were sent, and its score."""

    index: int
    score: float
    text: str


class Ranking(Shape):
    """Texts, best first, as text-embeddings-inference has them."""

    summary = "The texts with their scores, best first"
    response = list[Ranked]

    def inputs(self) -> Any:
        """A query and texts."""
        return create_model(
            "QueryWithTexts", __config__=STRICT, query=(self.text, ...), texts=(self.several(self.text), ...)
        )

    def example(self) -> Any:
        """A query."""
        return {"query": "capital of France", "texts": ["Paris is in France.", "The kettle does not heat."]}

    def asked(self, body: Any) -> tuple[Question, list[Row]]:
        """A query with a list of texts, or a pair for each, as the model was trained."""
        given = body.inputs
        if "positives" in (column.name for column in self.model.columns):
            return Question(), [{"query": given.query, "positives": given.texts}]
        return Question(), [{"query": given.query, "text": text} for text in given.texts]

    def answer(self, body: Any, model: ServedModel, found: list[Found]) -> Any:
        """Best first."""
        if "ranking" in found[0].record:
            ranked = [(one["place"], one["score"]) for one in found[0].record["ranking"]]
        else:
            ranked = [(place, one.record["prediction"]) for place, one in enumerate(found)]
        ranked.sort(key=lambda one: -one[1])
        return [{"index": place, "score": score, "text": body.inputs.texts[place]} for place, score in ranked]
