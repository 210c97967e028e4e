"""What tasks have in common that predict labels by their names, of texts or of words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..data.labels import Labels, column, label_weights, log_odds, require_labels
from ..recipe import Recipe

if TYPE_CHECKING:
    import datasets
    import torch

    from ..data.splits import Splits


class Classification(Recipe):
    """Labels that the training rows show and the model carries, or a number in their place; a loss that weighs them."""

    options: Any

    def labels_of(self, rows: "datasets.Dataset") -> list[list[str]]:
        """The names of each row's labels."""
        raise NotImplementedError

    @property
    def target(self) -> str:
        """The name of the label column."""
        return next(c.name for c in self.columns() if c.is_label)

    def learn(self, splits: "Splits") -> list[str]:
        """Label names from the training rows and those carved from them; what the training rows' labels weigh."""
        if splits.train is None:
            return []
        parts = [self.labels_of(splits.parts[split]) for split in ("train", *self.carved())]
        self.labels = self.named({name for part in parts for names in part for name in names})
        require_labels(self.labels, self.target, at_least=1 if self.kind == "multi_label" else 2)
        setting = getattr(self.options, "class_weights", None)  # not every task lets classes weigh differently
        self.weights, problems = label_weights(setting, self.labels, parts[0], self.kind)
        if self.kind == "multi_label":
            self.head_bias = log_odds(self.labels.counts(parts[0]), len(parts[0]))
        others = {split: rows for split, rows in splits.parts.items() if split != "train"}
        return problems + [problem for split, rows in others.items() for problem in self.unseen(rows, split)]

    def named(self, names: set[str]) -> Labels:
        """The labels of these names."""
        return Labels.from_values(names)

    def check_labels(self, rows: "datasets.Dataset", split: str) -> list[str]:
        """Labels that training never showed."""
        return self.unseen(rows, split)

    def unseen(self, rows: "datasets.Dataset", split: str) -> list[str]:
        """Problems with labels that training never showed."""
        return self.labels.check(self.labels_of(rows), column(rows, "row_id"), split) if self.labels else []

    def restore(self, model_config: Any) -> None:
        """Label names from the model's config."""
        self.labels = None if self.kind == "regression" else Labels.from_model_config(model_config)

    def model_settings(self) -> dict[str, Any]:
        """The head's size and the label names."""
        return self.labels.model_settings() if self.labels else {}

    @property
    def known_labels(self) -> Labels:
        """The labels, which there have to be."""
        assert self.labels is not None, "labels are learned in load()"
        return self.labels

    def loss(self, outputs: Any, targets: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """Cross entropy, binary cross entropy or squared error, summed over what has a label."""
        from ..modeling.losses import label_loss_sum

        labels, smoothing = targets["labels"], self.config.training.label_smoothing
        return label_loss_sum(outputs.logits, labels, self.kind, self.weights_on(labels), smoothing)

    def weigh(self, targets: "Mapping[str, torch.Tensor]") -> float:
        """What has a label, or the sum of the class weights."""
        from ..modeling.losses import label_weight

        return label_weight(targets["labels"], self.kind, self.weights_on(targets["labels"]))
