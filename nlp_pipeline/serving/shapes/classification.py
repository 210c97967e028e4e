"""Text classification: every label with its score, best first."""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field, create_model

from ...evaluation.classification import probabilities
from ..model import Found, Question, Row, ServedModel
from .base import STRICT, Parameters, Shape

Function = Literal["softmax", "sigmoid", "none"]
KINDS = {"softmax": "single_label", "sigmoid": "multi_label", "none": "regression"}


class ClassificationParameters(Parameters):
    """How an answer is to be given."""

    function_to_apply: Function | None = Field(None, description="Makes scores of logits; by default the model's own")
    top_k: int | None = Field(None, ge=1, description="So many labels at most")


class LabelScore(BaseModel):
    """A label."""

    label: str
    score: float


class Classification(Shape):
    """A list of labels with scores for each text."""

    summary = "Labels with their scores, best first"
    parameters = ClassificationParameters
    response = list[list[LabelScore]]

    def inputs(self) -> Any:
        """A text, a pair of texts, or several of either."""
        pair = create_model("Pair", __config__=STRICT, text=(self.text, ...), text_pair=(self.text, ...))
        return self.text | self.several(self.text) | pair | self.several(pair)

    def asked(self, body: Any) -> tuple[Question, list[Row]]:
        """A row a text."""
        given = body.inputs if isinstance(body.inputs, list) else [body.inputs]
        return Question(), [{"text": one} if isinstance(one, str) else one.model_dump() for one in given]

    def answer(self, body: Any, model: ServedModel, found: list[Found]) -> Any:
        """Of a number, that number under the name that transformers gives it."""
        function, top = (body.parameters.function_to_apply, body.parameters.top_k) if body.parameters else (None, None)
        labels, kind = model.recipe.labels, KINDS[function] if function else model.recipe.kind
        names = labels.names if labels else ("LABEL_0",)
        scores = probabilities([one.value for one in found], kind, len(names))
        order = np.argsort(-scores, axis=-1, kind="stable")[:, :top]
        return [
            [{"label": names[place], "score": score} for place, score in zip(places, row[places].tolist(), strict=True)]
            for places, row in zip(order.tolist(), scores, strict=True)
        ]
