"""Text classification: one text or a pair, with one label, several labels or a number."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..config import Config
from ..config.checks import smoothing_problems
from ..config.schema import Section
from ..data.columns import Column
from ..data.fields import Field, label_field
from ..data.labels import ClassWeights, column, label_column
from ..evaluation.classification import Answers
from ..evaluation.metrics import Kind, Outputs
from .classification import Classification

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from ..data.fields import Batch
    from ..data.splits import Splits
    from ..data.tokenization import Encoder
    from ..modeling.distillation import SoftTargets

TEXT = tuple("sentence sentence1 premise content message review utterance query question body".split())
PAIR = ("sentence2", "hypothesis", "text2", "passage")
TARGETS = {
    "single_label": Column("label", "label", ("intent", "category", "class", "topic", "target"), is_label=True),
    "multi_label": Column("labels", "label_list", ("label", "tags", "intents", "categories"), is_label=True),
    "regression": Column("score", "number", ("label", "rating", "target", "value"), is_label=True),
}
METRICS = {
    "single_label": ("accuracy", "f1_macro"),
    "multi_label": ("f1_micro", "f1_macro", "accuracy"),
    "regression": ("spearman", "pearson", "mse", "mae"),
}


class TextClassification(Classification):
    """Labels or a number for a text or a pair of texts."""

    task = "text-classification"
    auto_model = "AutoModelForSequenceClassification"
    lora_task_type = "SEQ_CLS"
    column_names = frozenset({"text", "text_pair", *(c.name for c in TARGETS.values())})
    options_after_tokenization = frozenset({"class_weights", "threshold"})
    summary = "one label, several labels or a number for a text or a pair of texts"

    class Options(Section):
        """Settings of text classification."""

        problem: Literal["single_label", "multi_label", "regression"] = "single_label"
        """One label a row, any number of labels a row, or a number a row."""
        class_weights: ClassWeights = None
        """`balanced` weighs each class against its frequency; or a weight by label name."""
        threshold: float = 0.5
        """Multi-label: a label is predicted from this probability on."""

    options: Options

    @property
    def kind(self) -> Kind:
        """The problem."""
        return self.options.problem

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """By the problem."""
        return METRICS[self.kind]

    @classmethod
    def check_options(cls, config: Config, options: Any) -> list[str]:
        """Settings that the problem gives no meaning."""
        problems = []
        if options.problem == "regression" and options.class_weights is not None:
            problems.append("options.class_weights: regression has no classes; leave it out")
        if options.problem != "single_label":
            problems += smoothing_problems(config, options.problem)
        if not 0 < options.threshold < 1:
            problems.append(f"options.threshold: found {options.threshold}, expected a number between 0 and 1")
        return problems

    def columns(self) -> tuple[Column, ...]:
        """Text, perhaps a second text, and the target."""
        return Column("text", "text", TEXT), Column("text_pair", "text", PAIR, required=False), TARGETS[self.kind]

    def stratify(self) -> str | None:
        """By label, where there is one a row."""
        return self.target if self.kind == "single_label" else None

    def learn(self, splits: "Splits") -> list[str]:
        """Label names and class weights from the training rows; of numbers the mean."""
        if self.kind != "regression":
            return super().learn(splits)
        if splits.train is not None:
            self.head_bias = np.array([np.mean(column(splits.train, self.target))], np.float32)
        return []

    def labels_of(self, rows: "datasets.Dataset") -> list[list[str]]:
        """One or several a row."""
        values = column(rows, self.target)
        return values if self.kind == "multi_label" else [[value] for value in values]

    def model_settings(self) -> dict[str, Any]:
        """The head's size, the label names, and how transformers should read the logits."""
        if self.labels is None:
            return {"problem_type": "regression", "num_labels": 1}
        return {"problem_type": f"{self.kind}_classification", **super().model_settings()}

    def fields(self) -> tuple[Field, ...]:
        """Tokens, and a target by the problem."""
        target = label_field(self.kind, len(self.labels or ()))
        return Field("input_ids", pad=self.pad_token_id), Field("token_type_ids"), target

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """Texts to token ids, targets to numbers."""
        pairs = rows.column("text_pair").to_pylist() if "text_pair" in rows.column_names else None
        columns = encoder(rows.column("text").to_pylist(), pairs).columns()
        if self.target in rows.column_names:
            columns["labels"] = label_column(rows.column(self.target).to_pylist(), self.kind, self.labels)
        return columns

    def soft_targets(self) -> "SoftTargets":
        """The teacher's logits of each text."""
        from ..modeling.distillation import label_targets

        return label_targets(len(self.labels or (0,)), self.kind)

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """float32[labels] logits a row."""
        return list(outputs.logits.float().cpu().numpy())

    @property
    def _answers(self) -> Answers:
        return Answers(self.kind, self.labels, self.options.threshold)

    def unsure(self, values: Sequence[np.ndarray]) -> np.ndarray | None:
        """Close calls."""
        return self._answers.close_calls(values)

    def postprocess(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """A label with its probability, the labels above the threshold, or a number."""
        return self._answers.records(values, column(rows, "row_id"))

    def outputs(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> Outputs:
        """Ids, 0/1 rows or numbers."""
        return self._answers.outputs(self._answers.scores(values), column(rows, self.target))

    def baseline(self, train: "datasets.Dataset") -> "tuple[str, Callable[[datasets.Dataset], Outputs]]":
        """The most frequent label, or the mean."""
        answers, given = self._answers, self.labels_of(train) if self.labels else column(train, self.target)
        name, usual = answers.usual(given)
        return name, lambda rows: answers.outputs(np.tile(usual, (len(rows), 1)), column(rows, self.target))
