"""A loaded model, asked for many rows at once, through the code by which `nlp-pipeline predict` answers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import NlpPipelineError

if TYPE_CHECKING:
    import datasets

    from ..data.columns import Column
    from ..recipe import Recipe

Row = Mapping[str, Any]
EMPTY: dict[str, Any] = {"text": "", "texts": [], "tokens": [], "messages": [], "reply": []}
"""What a row has in an optional column that others have: `predict` reads the same."""
USER = [{"role": "user", "content": "Good morning"}]
TRIED: dict[str, Any] = {"text": "Good morning", "texts": ["good", "morning"], "tokens": ["good"], "messages": USER}


@dataclass(frozen=True)
class Question:
    """What is asked of rows. Rows that are asked the same may share a forward pass."""

    kind: Literal["predictions", "tags", "fills", "replies"] = "predictions"
    """`tags`: `value` also has each word's probability; `fills`: only what fills the masks; `replies`: texts."""
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
    """A model in memory, for one thread at a time.

    `name` is what clients see it called, with the version where it has one; `tried`, after `make_ready`, is what it
    says of a row that was made up to warm it, None where the task takes no such row.
    """

    def __init__(self, recipe: "Recipe", name: str, beside: "ServedModel | None" = None) -> None:
        from ..stages.predicting import loaded_model

        self.recipe, self.name, self.beside = recipe, name, beside
        self.columns: tuple[Column, ...] = input_columns(recipe)
        self.tried: Found | None = None
        if beside is not None:
            # Accelerate has one state for the whole program: a second view of the devices would change the first.
            recipe._accelerator = beside.recipe.accelerator
        loaded_model(recipe)

    @classmethod
    def load(
        cls, path: str | Path, name: str, trust_remote_code: bool = False, beside: "ServedModel | None" = None
    ) -> "ServedModel":
        """A run directory, a model folder or a registry version.

        Args:
            beside: a model that another thread goes on asking meanwhile.
        """
        from ..recipe import Recipe

        return cls(Recipe.from_pretrained(path, trust_remote_code), name, beside)

    def make_ready(self) -> "ServedModel":
        """Before the first question, in the thread that will ask, when no other model is asked any more."""
        if self.beside is not None:
            training, before = self.recipe.config.training, self.beside.recipe.config.training
            if training.precision != before.precision:
                self.recipe._accelerator = None
            self.beside = None
        self.tried = self._try()
        return self

    @property
    def task(self) -> str:
        """The task."""
        return self.recipe.task

    def answer(self, question: Question, rows: Sequence[Row]) -> list[Found]:
        """What the model says of each row, in their order.

        Args:
            rows: with the same columns, in the task's names and types; texts that `predict` would leave out as blank
                are answered too.
        """
        from ..stages.predicting import predict_window

        if question.kind == "replies":
            from .generation import reply

            return reply(self.recipe, rows, question.new_tokens)
        recipe, given = self.recipe, self.table(rows)
        collect = tags_with_chances if question.kind == "tags" else None
        with self._fills_only(question.kind == "fills"):
            values = predict_window(recipe, given, None, False, recipe.preprocess_inputs, collect).values
        plain = [value[0].astype(np.int64) for value in values] if collect else values
        records = recipe.postprocess(plain, given)
        for record in records:
            del record["row_id"]
        return [Found(*found) for found in zip(rows, values, records, strict=True)]

    def table(self, rows: Sequence[Row]) -> "datasets.Dataset":
        """Rows as the task reads them, called by their numbers."""
        import pyarrow as pa
        from datasets import Dataset

        from ..data.assembly import ROW_ID
        from ..data.messages import MESSAGES

        texts, kinds = pa.list_(pa.string()), {column.name: column.kind for column in self.columns}
        types = {"text": pa.string(), "texts": texts, "tokens": texts, "messages": MESSAGES, "reply": MESSAGES}
        columns = {name: pa.array([row[name] for row in rows], types.get(kinds[name])) for name in rows[0]}
        columns[ROW_ID] = pa.array([str(number) for number in range(1, len(rows) + 1)])
        return Dataset(pa.table(columns), fingerprint="served")  # nothing is kept by it

    def _try(self) -> Found | None:
        """The first pass compiles and allocates: no client should wait for it."""
        row = {column.name: TRIED.get(column.kind) for column in self.columns if column.required}
        try:
            self.answer(Question(), [row, row])  # packed; a row alone is not
            return self.answer(Question(), [row])[0]
        except NlpPipelineError:
            return None

    @contextmanager
    def _fills_only(self, wanted: bool) -> Iterator[None]:
        """Without the passes that `predict` makes to say how likely a text is."""
        options = self.recipe.options
        if wanted:
            self.recipe.options = options.model_copy(update={"folds": 1})
        try:
            yield
        finally:
            self.recipe.options = options


def forget_casts() -> None:
    """When another model takes over."""
    import torch

    torch.clear_autocast_cache()


def input_columns(recipe: "Recipe") -> "tuple[Column, ...]":
    """The columns that a task reads to predict, the one of plain texts first."""
    named = getattr(recipe, "input_columns", recipe.columns)()  # a task may need fewer than to train
    return tuple(column for column in named if not column.is_label)


def tags_with_chances(outputs: Any, batch: Any) -> list[np.ndarray]:
    """float64[2, words] a row: the tag id at each word's first sub-word (-1 where it has none), and its probability."""
    from ..data.tags import word_tags

    best = outputs.logits.float().softmax(-1).max(-1)
    chances, tags = best.values.cpu().double().numpy(), best.indices.cpu().numpy()
    found = []
    for row, words in enumerate(batch.targets["word_ids"].cpu().numpy()):
        places = word_tags(words, np.arange(len(words)))
        there = places >= 0
        found.append(np.stack([np.where(there, tags[row][places], -1), np.where(there, chances[row][places], 0.0)]))
    return found
