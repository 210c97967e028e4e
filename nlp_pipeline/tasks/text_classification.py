"""Text classification: one text or a pair, with one label, several labels or a number."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..config import Config
from ..config.checks import smoothing_problems
from ..config.schema import Section
from ..data.columns import Column
from ..data.fields import Field
from ..data.labels import ClassWeights, Labels, column, label_column, label_weights, log_odds, require_labels
from ..evaluation.classification import close_calls, label_outputs, label_record, probabilities, usual_scores
from ..evaluation.metrics import Kind, Outputs
from ..recipe import Recipe

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    import torch

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


class TextClassification(Recipe):
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

    @property
    def target(self) -> Column:
        """The label column."""
        return TARGETS[self.kind]

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
        return Column("text", "text", TEXT), Column("text_pair", "text", PAIR, required=False), self.target

    def stratify(self) -> str | None:
        """By label, where there is one a row."""
        return self.target.name if self.kind == "single_label" else None

    def learn(self, splits: "Splits") -> list[str]:
        """Label names and class weights from the training rows."""
        if splits.train is None:
            return []
        if self.kind == "regression":
            self.head_bias = np.array([np.mean(column(splits.train, self.target.name))], np.float32)
            return []
        rows = self._label_lists(splits.train)
        every = [rows, *(self._label_lists(getattr(splits, split)) for split in self.carved())]
        self.labels = Labels.from_values(name for part in every for names in part for name in names)
        require_labels(self.labels, self.target.name, at_least=1 if self.kind == "multi_label" else 2)
        self.weights, problems = label_weights(self.options.class_weights, self.labels, rows, self.kind)
        if self.kind == "multi_label":
            self.head_bias = log_odds(self.labels.counts(rows), len(rows))
        return problems + [
            p for split, part in splits.parts.items() if split != "train" for p in self.check_labels(part, split)
        ]

    def check_labels(self, rows: "datasets.Dataset", split: str) -> list[str]:
        """Labels that training never showed."""
        return self.labels.check(self._label_lists(rows), column(rows, "row_id"), split) if self.labels else []

    def restore(self, model_config: Any) -> None:
        """Label names from the model's config."""
        self.labels = None if self.kind == "regression" else Labels.from_model_config(model_config)

    def model_settings(self) -> dict[str, Any]:
        """The head's size, the label names, and how transformers should read the logits."""
        if self.labels is None:
            return {"problem_type": "regression", "num_labels": 1}
        return {"problem_type": f"{self.kind}_classification", **self.labels.model_settings()}

    def fields(self) -> tuple[Field, ...]:
        """Tokens, and a target by the problem."""
        targets = {
            "single_label": Field("labels", "row", target=True),
            "multi_label": Field("labels", "set", "float32", size=len(self.labels or ()), target=True),
            "regression": Field("labels", "row", "float32", target=True),
        }
        return (Field("input_ids", pad=self.pad_token_id), Field("token_type_ids"), targets[self.kind])

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """Texts to token ids, targets to numbers."""
        pairs = rows.column("text_pair").to_pylist() if "text_pair" in rows.column_names else None
        columns = encoder(rows.column("text").to_pylist(), pairs).columns()
        if self.target.name in rows.column_names:
            columns["labels"] = label_column(rows.column(self.target.name).to_pylist(), self.kind, self.labels)
        return columns

    def loss(self, outputs: Any, targets: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """Cross entropy, binary cross entropy or squared error, summed."""
        from ..modeling.losses import label_loss_sum

        labels, smoothing = targets["labels"], self.config.training.label_smoothing
        return label_loss_sum(outputs.logits, labels, self.kind, self.weights_on(labels), smoothing)

    def weigh(self, targets: "Mapping[str, torch.Tensor]") -> float:
        """Rows, or the sum of their class weights."""
        from ..modeling.losses import label_weight

        return label_weight(targets["labels"], self.kind, self.weights_on(targets["labels"]))

    def soft_targets(self) -> "SoftTargets":
        """The teacher's logits of each text."""
        from ..modeling.distillation import label_targets

        return label_targets(len(self.labels or (0,)), self.kind)

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """float32[labels] logits a row."""
        return list(outputs.logits.float().cpu().numpy())

    def unsure(self, values: Sequence[np.ndarray]) -> np.ndarray | None:
        """Close calls."""
        return close_calls(values, self.kind, self.options.threshold)

    def postprocess(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """A label with its probability, the labels above the threshold, or a number."""
        names, kind = self.labels.names if self.labels else (), self.kind
        scores = zip(column(rows, "row_id"), self._scores(values), strict=True)
        return [{"row_id": i, **label_record(row, kind, names, self.options.threshold)} for i, row in scores]

    def outputs(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> Outputs:
        """Ids, 0/1 rows or numbers."""
        return self._outputs(self._scores(values), rows)

    def baseline(self, train: "datasets.Dataset") -> "tuple[str, Callable[[datasets.Dataset], Outputs]]":
        """The most frequent label, or the mean."""
        given = column(train, self.target.name) if self.labels is None else self._label_lists(train)
        name, scores = usual_scores(given, self.kind, self.labels, self.options.threshold)
        return name, lambda rows: self._outputs(np.tile(scores, (len(rows), 1)), rows)

    def _outputs(self, scores: np.ndarray, rows: "datasets.Dataset") -> Outputs:
        given = column(rows, self.target.name)
        return label_outputs(scores, given, self.kind, self.labels, self.options.threshold)

    def _scores(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities [rows, labels], or the number itself [rows, 1]."""
        return probabilities(values, self.kind, len(self.labels or (0,)))

    def _label_lists(self, rows: "datasets.Dataset") -> list[list[str]]:
        values = column(rows, self.target.name)
        return values if self.kind == "multi_label" else [[value] for value in values]
