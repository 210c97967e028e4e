"""Text classification: every label with its score, best first; and labels that training never saw, by entailment."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, create_model

from ...evaluation.classification import probabilities
from ..model import Found, Question, Row, ServedModel
from .base import STRICT, Count, Parameters, Shape

if TYPE_CHECKING:
    from ...evaluation.metrics import Kind
    from ...recipe import Recipe

Function = Literal["softmax", "sigmoid", "none"]
KINDS: "dict[str, Kind]" = {"softmax": "single_label", "sigmoid": "multi_label", "none": "regression"}
TEMPLATE = "This example is {}."


class LabelScore(BaseModel):
    """A label."""

    label: str
    score: float


class ClassificationParameters(Parameters):
    """How an answer is to be given."""

    function_to_apply: Function | None = Field(None, description="Makes scores of logits; by default the model's own")
    top_k: Count | None = Field(None, description="So many labels at most")


class Classification(Shape):
    """A list of labels with scores for each text."""

    summary = "Labels with their scores, best first"
    parameters: type[Parameters] = ClassificationParameters
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
        function, top = self.given(body).function_to_apply, self.given(body).top_k
        labels, kind = model.recipe.labels, KINDS[function] if function else model.recipe.kind
        names = labels.names if labels else ("LABEL_0",)
        scores = probabilities([one.value for one in found], kind, len(names))
        order = np.argsort(-scores, axis=-1, kind="stable")[:, :top]
        return [
            [{"label": names[place], "score": score} for place, score in zip(places, row[places].tolist(), strict=True)]
            for places, row in zip(order.tolist(), scores, strict=True)
        ]


class ZeroShotParameters(ClassificationParameters):
    """With `candidate_labels` the text is classified by whether it entails that it is of each."""

    candidate_labels: list[str] | None = Field(None, min_length=1)
    hypothesis_template: str = Field(TEMPLATE, pattern=r"\{\}", max_length=1000)
    multi_label: bool = Field(False, description="Each label by itself")


class ZeroShot(Classification):
    """Classification of pairs by entailment; with `candidate_labels`, of a text by labels of the client's own.

    Yin et al. 2019 (arXiv:1909.00161).
    """

    summary = "Labels with their scores, best first; of a single text with `candidate_labels`, those"
    parameters = ZeroShotParameters
    response = list[list[LabelScore]] | list[LabelScore]

    def asked(self, body: Any) -> tuple[Question, list[Row]]:
        """A row a candidate."""
        given = self.given(body)
        if given.candidate_labels is None:
            return super().asked(body)
        if not isinstance(body.inputs, str):
            raise ValueError("inputs: with candidate_labels, expected a single text")
        if empty := [label for label in given.candidate_labels if not label.strip()]:
            raise ValueError(f"parameters.candidate_labels: found {len(empty)} without a letter, expected labels")
        return Question(), [
            {"text": body.inputs, "text_pair": given.hypothesis_template.replace("{}", label)}
            for label in given.candidate_labels
        ]

    def answer(self, body: Any, model: ServedModel, found: list[Found]) -> Any:
        """Each candidate's probability: among the others, or of entailment beside contradiction."""
        given = self.given(body)
        if given.candidate_labels is None:
            return super().answer(body, model, found)
        entailed, contradicted = entailment(model.recipe)
        logits = np.stack([one.value for one in found])
        if given.multi_label or len(found) == 1:
            chances = probabilities(list(logits[:, [contradicted, entailed]]), "single_label", 2)[:, 1]
        else:
            chances = probabilities([logits[:, entailed]], "single_label", len(found))[0]
        order = np.argsort(-chances, kind="stable").tolist()
        return [{"label": given.candidate_labels[i], "score": float(chances[i])} for i in order][: given.top_k]


def entails(recipe: "Recipe") -> bool:
    """Whether a classifier says whether a text entails another."""
    return recipe.kind == "single_label" and entailment(recipe) is not None


def entailment(recipe: "Recipe") -> Any:
    """Places of the labels of entailment and contradiction; of two labels the other one is the contradiction.

    None where there are none, as transformers' pipeline looks for them.
    """
    names = [name.lower() for name in recipe.labels.names] if recipe.labels else []
    found = [place for place, name in enumerate(names) if name.startswith("entail")]
    if len(found) != 1 or len(names) < 2:
        return None
    against = [place for place, name in enumerate(names) if name.startswith("contra")]
    if not against and len(names) > 2:
        return None
    return found[0], (against or [1 - found[0]])[0]
