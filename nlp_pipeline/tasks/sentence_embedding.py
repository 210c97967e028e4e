"""Sentence embeddings: a vector a text, near those of texts that mean the like."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.labels import column
from ..data.scores import score_problems
from ..data.text_groups import COLUMNS, sole_labels
from ..evaluation.embeddings import embedding_outputs, embedding_record, starting_values
from ..evaluation.metrics import Kind, Outputs
from ..evaluation.usage import EMBEDDING
from .embedding import Embedding
from .embedding_options import EmbeddingOptions

if TYPE_CHECKING:
    import datasets

    from ..data.splits import Splits


class SentenceEmbedding(Embedding):
    """A vector a text, learned from pairs of texts, with a score or without, or from labelled texts."""

    task = "sentence-similarity"
    column_names = frozenset(column.name for columns in COLUMNS.values() for column in columns)
    summary = "a vector a text, near those of texts that mean the like (sentence embeddings)"

    class Options(EmbeddingOptions):
        """Settings of sentence embeddings."""

    options: Options

    @property
    def kind(self) -> Kind:
        """A number a pair, or embeddings to be ranked by."""
        return "regression" if self.options.rows == "scored" else "retrieval"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """By what a row is."""
        return self.options.metrics

    def learn(self, splits: "Splits") -> list[str]:
        """Nothing is learned; the rows are checked."""
        problems = sole_labels(splits.train) if self.options.rows == "labelled" and splits.train else []
        return problems + super().learn(splits)

    def check_labels(self, rows: "datasets.Dataset", split: str) -> list[str]:
        """Scores off the scale, where it matters."""
        if self.options.loss_name != "cosine":
            return []
        found = column(rows, "score"), self.options.lowest, self.options.highest, column(rows, "row_id")
        return score_problems(*found, split)

    def postprocess(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """The embedding of a text; of two the cosine."""
        return [{"row_id": i, **embedding_record(row)} for i, row in zip(column(rows, "row_id"), values, strict=True)]

    def outputs(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> Outputs:
        """Cosines beside scores, or embeddings beside what belongs together."""
        return embedding_outputs(values, rows, self.options.rows, self.text_columns)

    def baseline(self, train: "datasets.Dataset") -> "tuple[str, Callable[[datasets.Dataset], Outputs]]":
        """The starting model as it was."""
        embed = starting_values(self)
        return "the model before training", lambda rows: self.outputs(embed(rows), rows)

    def predicts(self) -> str:
        """For the card."""
        return "a vector a text"

    def usage(self) -> str:
        """With sentence-transformers."""
        return EMBEDDING
