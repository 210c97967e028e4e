"""Token classification: where in a text its entities are."""

import re
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from ...data.tags import entities
from ..model import Found, Question, Row, ServedModel
from .base import Parameters, Shape

WORD = re.compile(r"\w(?:\S*\w)?|\S")
"""A word: what stands between blanks, its outer punctuation apart, as tokenized data sets have it."""


class TagParameters(Parameters):
    """How an answer is to be given."""

    aggregation_strategy: Literal["none", "first"] = Field(
        "first", description="`none`: word by word; `first`: whole entities, by each word's first sub-word"
    )
    ignore_labels: list[str] = Field(["O"], max_length=1000, description="Tags that are left out")


class Entity(BaseModel):
    """A part of the text."""

    score: float
    word: str
    start: int
    end: int
    entity_group: str | None = None
    entity: str | None = None


class Tags(Shape):
    """Entities of a text, or of several."""

    summary = "Entities with their places in the text, in characters"
    parameters = TagParameters
    response = list[Entity] | list[list[Entity]]

    def inputs(self) -> Any:
        """A text, or several."""
        return self.text | self.several(self.text)

    def example(self) -> Any:
        """Names."""
        return "Mary Smith flew from Paris to New York."

    def asked(self, body: Any) -> tuple[Question, list[Row]]:
        """Words of each text."""
        texts = body.inputs if isinstance(body.inputs, list) else [body.inputs]
        # A text of blanks alone has no word; the model still needs one.
        return Question("tags"), [{"tokens": WORD.findall(text) or ["."]} for text in texts]

    def answer(self, body: Any, model: ServedModel, found: list[Found]) -> Any:
        """A list, or a list of lists as there were texts."""
        texts = body.inputs if isinstance(body.inputs, list) else [body.inputs]
        parts = [self._parts(text, self.given(body), model, one) for text, one in zip(texts, found, strict=True)]
        return parts if isinstance(body.inputs, list) else parts[0]

    def _parts(self, text: str, given: Any, model: ServedModel, found: Found) -> list[dict[str, Any]]:
        places = [match.span() for match in WORD.finditer(text)]
        tags = found.record["prediction"][: len(places)]
        if given.aggregation_strategy == "none":
            spans, name = [(tag, i, i + 1) for i, tag in enumerate(tags)], "entity"
        else:
            whole = model.recipe.kind == "tags"
            spans = list(entities(tags)) if whole else [(tag, i, i + 1) for i, tag in enumerate(tags)]
            name = "entity_group"
        chances = np.zeros(len(places))
        known = found.value[1][: len(places)]  # words beyond the maximum length have none
        chances[: len(known)] = known
        return [
            {
                name: tag,
                "score": float(chances[first:last].mean()),
                "word": text[places[first][0] : places[last - 1][1]],
                "start": places[first][0],
                "end": places[last - 1][1],
            }
            for tag, first, last in spans
            if tag not in given.ignore_labels
        ]
