"""Few-shot classification: an embedding learned from labelled texts, then a logistic head on it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Setting

from ..data.labels import Labels, column, require_labels
from ..data.text_groups import COLUMNS
from ..evaluation.classification import close_calls, label_outputs, label_record, probabilities
from ..evaluation.metrics import Kind, Outputs
from ..evaluation.usage import LOGISTIC_HEAD
from ..modeling.logistic_head import LogisticHead
from .embedding_options import EmbeddingOptions
from .sentence_embedding import SentenceEmbedding

if TYPE_CHECKING:
    import datasets

    from ..data.splits import Splits


class FewShotClassification(SentenceEmbedding):
    """A label a text, from a few texts a label (in the manner of SetFit, Tunstall et al. 2022, arXiv:2209.11055).

    The embedding learns which texts have the same label. Before each evaluation and at the end a logistic regression is
    fitted on the embeddings of the training texts.
    """

    task = "few-shot-classification"
    pipeline_tag = "text-classification"
    column_names = frozenset(column.name for column in COLUMNS["labelled"])
    options_after_tokenization = SentenceEmbedding.options_after_tokenization | {"regularization"}
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
        """Label names from the training rows."""
        if splits.train is None:
            return []
        every = [column(part, "label") for part in (splits.train, *(getattr(splits, name) for name in self.carved()))]
        self.labels = Labels.from_values(name for part in every for name in part)
        require_labels(self.labels, "label")
        return super().learn(splits)

    def check_labels(self, rows: "datasets.Dataset", split: str) -> list[str]:
        """Labels that training never showed."""
        given = [[name] for name in column(rows, "label")]
        return self.labels.check(given, column(rows, "row_id"), split) if self.labels else []

    def model_settings(self) -> dict[str, Any]:
        """The label names."""
        return self.labels.model_settings() if self.labels else {}

    def restore(self, model_config: Any) -> None:
        """Label names from the model's config, the head from beside it."""
        assert self._model_folder is not None
        self.labels = Labels.from_model_config(model_config)
        self.head = LogisticHead.load(self._model_folder)

    def fit_rest(self, model: Any) -> None:
        """The head, on the embeddings of the training texts."""
        from ..evaluation.prediction import predict_table

        size = self.config.batch.evaluation
        self.head = self._fitted(predict_table(self, model, self.tables["train"], self.accelerator, size).values)

    def _fitted(self, values: Sequence[np.ndarray]) -> LogisticHead:
        assert self.splits is not None
        assert self.labels is not None
        labels = self.labels.encode(column(self.splits.train, "label"))
        return LogisticHead.fit(np.concatenate(values), labels, len(self.labels), self.options.regularization)

    def unsure(self, values: Sequence[np.ndarray]) -> np.ndarray | None:
        """Close calls."""
        return close_calls([self.head(row)[0] for row in values], self.kind, 0.5)

    def postprocess(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """A label with its probability."""
        assert self.labels is not None
        names, scores = self.labels.names, self._scores(values, self.head)
        table = zip(column(rows, "row_id"), scores, strict=True)
        return [{"row_id": i, **label_record(row, self.kind, names, 0.5)} for i, row in table]

    def outputs(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> Outputs:
        """Label ids."""
        return self._outputs(values, rows, self.head)

    def baseline(self, train: "datasets.Dataset") -> "tuple[str, Callable[[datasets.Dataset], Outputs]]":
        """A head on the embeddings of the starting model as it was."""
        from ..evaluation.embeddings import starting_values

        embed = starting_values(self)
        head = self._fitted(embed(train))
        return "a head on the model before training", lambda rows: self._outputs(embed(rows), rows, head)

    def write_beside(self, model: Any, folder: Path) -> None:
        """What sentence-transformers reads, and the head."""
        super().write_beside(model, folder)
        if hasattr(self, "head"):
            self.head.save(folder)

    def _outputs(self, values: Sequence[np.ndarray], rows: "datasets.Dataset", head: LogisticHead) -> Outputs:
        return label_outputs(self._scores(values, head), column(rows, "label"), self.kind, self.labels, 0.5)

    def _scores(self, values: Sequence[np.ndarray], head: LogisticHead) -> np.ndarray:
        """Probabilities [rows, labels]."""
        return probabilities([head(row)[0] for row in values], self.kind, len(self.labels or ()))

    def predicts(self) -> str:
        """For the card."""
        return ", ".join(f"`{name}`" for name in self.labels.names[:100]) if self.labels else self.summary

    def usage(self) -> str:
        """With sentence-transformers; the head is a matrix and a vector."""
        return LOGISTIC_HEAD
