"""Texts from texts: summaries, translations and the like, as the recipe's settings generate them."""

from typing import Any

from ..model import Found, Question, Row, ServedModel
from .base import Shape


class Text(Shape):
    """A text for each text."""

    summary = "The text that is written from it"
    key: str = "generated_text"
    response = list[dict[str, str]]

    def inputs(self) -> Any:
        """A text, or several."""
        return self.text | self.several(self.text)

    def asked(self, body: Any) -> tuple[Question, list[Row]]:
        """A row a text."""
        texts = body.inputs if isinstance(body.inputs, list) else [body.inputs]
        return Question(), [{self.model.columns[0].name: text} for text in texts]

    def answer(self, body: Any, model: ServedModel, found: list[Found]) -> Any:
        """A list of texts; an empty one where nothing was written."""
        return [{self.key: one.record["prediction"] or ""} for one in found]


class Summary(Text):
    """A summary for each text."""

    summary = "A summary"
    key = "summary_text"


class Translation(Text):
    """A translation for each text."""

    summary = "A translation"
    key = "translation_text"
