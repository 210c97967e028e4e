"""Text generation: what a decoder goes on with."""

from typing import Any

from pydantic import BaseModel, Field, create_model

from ..generation import CHAT_TASKS
from ..model import Found, Question, Row, ServedModel
from ..settings import Limits
from .base import Off, Parameters, Shape, Whole

NEW_TOKENS = 128
Stop = Field(None, max_length=16, description="The text ends before the first of these")


class GenerationParameters(Parameters):
    """How a text is to be made: greedily, the likeliest token each time."""

    max_new_tokens: Whole = Field(NEW_TOKENS, ge=1)
    return_full_text: bool = Field(False, description="With the prompt before it")
    do_sample: Off = False
    stop: list[str] | None = Stop


class Generated(BaseModel):
    """A text."""

    generated_text: str


class Generation(Shape):
    """A text for each prompt; a prompt to a model of conversations is what the user says."""

    summary = "The text that follows"
    response = list[Generated]

    def __init__(self, model: ServedModel, limits: Limits) -> None:
        self.chat = model.task in CHAT_TASKS
        # How many tokens may be asked for stands in the schema.
        self.parameters = create_model(
            "GenerationParameters",
            __base__=GenerationParameters,
            max_new_tokens=(Whole, Field(min(NEW_TOKENS, limits.new_tokens), ge=1, le=limits.new_tokens)),
        )
        super().__init__(model, limits)

    def inputs(self) -> Any:
        """A text, or several."""
        return self.text | self.several(self.text)

    def asked(self, body: Any) -> tuple[Question, list[Row]]:
        """A prompt, or a conversation of one message."""
        texts = body.inputs if isinstance(body.inputs, list) else [body.inputs]
        return Question("replies", self.given(body).max_new_tokens), [self.prompt(text) for text in texts]

    def prompt(self, text: str) -> Row:
        """A text as a row."""
        return {"messages": [{"role": "user", "content": text}]} if self.chat else {"prompt": text}

    def answer(self, body: Any, model: ServedModel, found: list[Found]) -> Any:
        """A list of texts."""
        given = self.given(body)
        texts = body.inputs if isinstance(body.inputs, list) else [body.inputs]
        made = [stopped(one.record["prediction"], given.stop)[0] for one in found]
        if given.return_full_text:
            made = [text + more for text, more in zip(texts, made, strict=True)]
        return [{"generated_text": text} for text in made]


def stopped(text: str, stop: list[str] | None) -> tuple[str, bool]:
    """A text up to the first of some marks, and whether one was there."""
    places = [place for mark in stop or () if mark and (place := text.find(mark)) >= 0]
    return (text[: min(places)], True) if places else (text, False)
