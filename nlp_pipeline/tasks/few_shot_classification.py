"""Few-shot classification: an embedding learned from labelled texts, then a logistic head on it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Setting

from ..data.labels import column
from ..data.text_groups import COLUMNS, sole_labels
from ..evaluation.classification import Answers
from ..evaluation.embeddings import starting_values
from ..evaluation.metrics import Kind, Outputs
from ..evaluation.usage import LOGISTIC_HEAD
from ..modeling.logistic_head import LogisticHead
from .classification import Classification
from .embedding import Embedding
from .embedding_options import EmbeddingOptions

if TYPE_CHECKING:
    import datasets

    from ..data.splits import Splits


class FewShotClassification(Embedding, Classification):
    """A label a text, from a few texts a label (in the manner of SetFit, Tunstall et al. 2022, arXiv:2209.11055).

    The embedding learns which texts have the same label. Before each evaluation and at the end a logistic regression is
    fitted on the embeddings of the training texts.
    """

    task = "few-shot-classification"
    pipeline_tag = "text-classification"
    column_names = frozenset(column.name for column in COLUMNS["labelled"])
    options_after_tokenization = Embedding.options_after_tokenization | {"regularization"}
    summary = "one label for a text, from a few texts a label: contrastive training, then a logistic head"
    head: LogisticHead

    class Options(EmbeddingOptions):
        """Settings of few-shot classification."""

        rows: Literal["labelled"] = "labelled"
        """A text and its label."""
        regularization: float = Setting(100.0, gt=0)
        """The head's: the smaller, the smaller its weights (scikit-learn's C)."""

    options: Options

    @property
    def kind(self) -> Kind:
        """One label a row."""
        return "single_label"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Those of text classification."""
        return ("accuracy", "f1_macro")

    def learn(self, splits: "Splits") -> list[str]:
        """Label names from the training rows, of which some have to share a label."""
        problems = super().learn(splits)
        return problems if splits.train is None else sole_labels(splits.train) + problems

    def labels_of(self, rows: "datasets.Dataset") -> list[list[str]]:
        """One a row."""
        return [[label] for label in column(rows, self.target)]

    def restore(self, model_config: Any) -> None:
        """The head too, from beside the model."""
        super().restore(model_config)
        assert self._model_folder is not None
        self.head = LogisticHead.load(self._model_folder)

    def fit_rest(self, model: Any) -> None:
        """The head, on the embeddings of the training texts."""
        from ..evaluation.prediction import predict_table

        size = self.config.batch.evaluation
        self.head = self._fitted(predict_table(self, model, self.tables["train"], self.accelerator, size).values)

    def _fitted(self, values: Sequence[np.ndarray]) -> LogisticHead:
        assert self.splits is not None
        known = self.known_labels
        labels = known.encode(column(self.splits.train, self.target))
        return LogisticHead.fit(np.concatenate(values), labels, len(known), self.options.regularization)

    def unsure(self, values: Sequence[np.ndarray]) -> np.ndarray | None:
        """Close calls."""
        return self._answers.close_calls(self._logits(values, self.head))

    def postprocess(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """A label with its probability."""
        return self._answers.records(self._logits(values, self.head), column(rows, "row_id"))

    def outputs(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> Outputs:
        """Label ids."""
        return self._outputs(values, rows, self.head)

    def baseline(self, train: "datasets.Dataset") -> "tuple[str, Callable[[datasets.Dataset], Outputs]]":
        """A head on the embeddings of the starting model as it was."""
        embed = starting_values(self)
        head = self._fitted(embed(train))
        return "a head on the model before training", lambda rows: self._outputs(embed(rows), rows, head)

    def write_beside(self, model: Any, folder: Path) -> None:
        """What sentence-transformers reads, and the head."""
        super().write_beside(model, folder)
        if hasattr(self, "head"):
            self.head.save(folder)

    @property
    def _answers(self) -> Answers:
        return Answers(self.kind, self.known_labels)

    def _outputs(self, values: Sequence[np.ndarray], rows: "datasets.Dataset", head: LogisticHead) -> Outputs:
        return self._answers.outputs(self._answers.scores(self._logits(values, head)), column(rows, self.target))

    def _logits(self, values: Sequence[np.ndarray], head: LogisticHead) -> list[np.ndarray]:
        """float[labels] a row."""
        return [head(row)[0] for row in values]

    def usage(self) -> str:
        """With sentence-transformers; the head is a matrix and a vector."""
        return LOGISTIC_HEAD
