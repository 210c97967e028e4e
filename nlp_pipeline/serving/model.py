"""A loaded model, asked for many rows at once, through the code by which `nlp-pipeline predict` answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import datasets

    from ..recipe import Recipe

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """What is asked of rows. Rows that are asked the same may share a forward pass."""

    kind: Literal["predictions", "tags", "fills", "replies"] = "predictions"
    """`tags`: with each word's probability; `fills`: what fills the masks alone; `replies`: generated text."""
    new_tokens: int = 0
    """Replies: longest one."""


class Found(NamedTuple):
    """What the model says of a row."""

    row: Row
    value: Any
    """What the task's `collect` gave."""
    record: dict[str, Any]
    """What `predict` gives, without the row's id."""


class ServedModel:
    """A model that is loaded and warm. Not for several threads at a time.

    `name` is what clients see it called, with the version where it has one.
    """

    def __init__(self, recipe: "Recipe", name: str) -> None:
        from ..stages.predicting import loaded_model

        self.recipe, self.name = recipe, name
        self.columns = {column.name: column.kind for column in recipe.columns() if not column.is_label}
        loaded_model(recipe)

    @classmethod
    def load(cls, path: str | Path, name: str, trust_remote_code: bool = False, beside: Any = None) -> "ServedModel":
        """A run directory, a model folder or a registry version.

        Args:
            beside: a model of this process that goes on answering meanwhile: it lends its view of the devices, of which
                accelerate has one for the whole program.
        """
        from ..recipe import Recipe

        recipe = Recipe.from_pretrained(path, trust_remote_code)
        if beside is not None:
            recipe._accelerator = beside.recipe.accelerator
        return cls(recipe, name)

    def take_over(self) -> None:
        """Before the first answer in place of another model: compute in this model's own precision from now on."""
        self.recipe._accelerator = None

    def answer(self, question: Question, rows: Sequence[Row]) -> list[Found]:
        """What the model says of each row, in their order.

        Args:
            rows: with the same columns, in the task's names and types; texts that `predict` would leave out as blank
                are answered too.
        """
        from ..stages.predicting import predict_window

        recipe = self.recipe
        given = self.table(rows)
        values = predict_window(recipe, given, None, False, recipe.preprocess_inputs).values
        records = recipe.postprocess(values, given)
        for record in records:
            del record["row_id"]
        return [Found(*found) for found in zip(rows, values, records, strict=True)]

    def table(self, rows: Sequence[Row]) -> "datasets.Dataset":
        """Rows as the task reads them, called by their numbers."""
        import pyarrow as pa

        from ..data.assembly import ROW_ID
        from ..data.messages import MESSAGES
        from ..data.splits import as_dataset

        texts = pa.list_(pa.string())
        types = {"text": pa.string(), "texts": texts, "tokens": texts, "messages": MESSAGES, "reply": MESSAGES}
        columns = {name: pa.array([row[name] for row in rows], types.get(self.columns[name])) for name in rows[0]}
        columns[ROW_ID] = pa.array([str(number) for number in range(1, len(rows) + 1)])
        return as_dataset(pa.table(columns))[0]
