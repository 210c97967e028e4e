"""Question answering: where in a context the answer stands."""

from typing import Any

from pydantic import BaseModel, Field, create_model

from ...evaluation.spans import answer_record
from ..model import Found, Question, Row, ServedModel
from .base import STRICT, Parameters, Shape, Whole


class AnswerParameters(Parameters):
    """How an answer is to be given."""

    top_k: Whole = Field(1, ge=1, le=100, description="So many answers at most; more than one are given as a list")
    handle_impossible_answer: bool | None = Field(
        None, description="Whether the answer may be none (an empty text); by default as the model was trained"
    )


class Span(BaseModel):
    """A part of the context."""

    answer: str
    score: float
    start: int
    end: int


class Answers(Shape):
    """The best answer, or several."""

    summary = "The part of the context that answers the question, with its place in characters"
    parameters = AnswerParameters
    response = Span | list[Span]

    def inputs(self) -> Any:
        """A question and a context."""
        return create_model("QuestionInContext", __config__=STRICT, question=(self.text, ...), context=(self.text, ...))

    def example(self) -> Any:
        """A pair."""
        return {"question": "Where does Mary live?", "context": "Mary was born in Rome. She lives in Paris."}

    def asked(self, body: Any) -> tuple[Question, list[Row]]:
        """One row."""
        return Question(), [body.inputs.model_dump()]

    def answer(self, body: Any, model: ServedModel, found: list[Found]) -> Any:
        """As `predict` has it, unless parameters say else."""
        given, threshold = self.given(body), model.recipe.tuned.get("null_threshold")
        if given.handle_impossible_answer is not None:
            threshold = (0.0 if threshold is None else threshold) if given.handle_impossible_answer else None
        record = answer_record(found[0].row["context"], found[0].value, threshold, given.top_k)
        spans = [{"answer": span.pop("text"), **span} for span in record["n_best"]]
        return spans[0] if given.top_k == 1 else spans
