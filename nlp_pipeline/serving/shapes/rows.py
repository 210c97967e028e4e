"""Rows in the recipe's own columns, answered as `nlp-pipeline predict` does: for every task."""

from typing import Any, Literal

from pydantic import BaseModel, create_model

from ...run_directory import finite
from ..model import EMPTY, Found, Question, Row, ServedModel
from .base import STRICT, Shape


class Message(BaseModel):
    """A turn of a conversation."""

    model_config = STRICT
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class Rows(Shape):
    """One row, or several: objects with the recipe's columns."""

    summary = "What `nlp-pipeline predict` gives for rows in the recipe's columns"
    response = dict[str, Any] | list[dict[str, Any]]

    def inputs(self) -> Any:
        """An object, or several."""
        fields: dict[str, Any] = {
            column.name: (self.kind(column.kind), ...) if column.required else (self.kind(column.kind) | None, None)
            for column in self.model.columns
        }
        row = create_model("Row", __config__=STRICT, **fields)
        return row | self.several(row)

    def kind(self, kind: str) -> Any:
        """The type of a column."""
        lists = {"texts": self.text, "tokens": self.text, "messages": Message, "reply": Message}
        if kind in ("messages", "reply"):
            return self.text | self.several(Message)
        return self.several(lists[kind]) if kind in lists else self.text if kind == "text" else Any

    def example(self) -> Any:
        """A row."""
        texts = {"texts": ["a text", "another text"], "tokens": ["a", "text"]}
        return {column.name: texts.get(column.kind, "a text") for column in self.model.columns if column.required}

    def asked(self, body: Any) -> tuple[Question, list[Row]]:
        """The rows; all have the columns that any has."""
        given = body.inputs if isinstance(body.inputs, list) else [body.inputs]
        rows = [row.model_dump() for row in given]
        used = [c for c in self.model.columns if c.required or any(row[c.name] is not None for row in rows)]
        return Question(), [{c.name: _value(row[c.name], c.kind) for c in used} for row in rows]

    def answer(self, body: Any, model: ServedModel, found: list[Found]) -> Any:
        """The records, one or several as the rows were."""
        records = [finite(one.record) for one in found]
        return records if isinstance(body.inputs, list) else records[0]


def _value(value: Any, kind: str) -> Any:
    if value is None:
        return EMPTY.get(kind)
    if isinstance(value, str) and kind in ("messages", "reply"):
        return [{"role": "user" if kind == "messages" else "assistant", "content": value}]
    return value
