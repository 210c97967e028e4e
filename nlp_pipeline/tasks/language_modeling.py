"""What causal and masked language models have in common: texts, and how likely their tokens are."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.columns import Column
from ..data.documents import TEXT
from ..data.fields import IGNORED
from ..data.labels import column
from ..evaluation.metrics import Kind, Outputs
from ..recipe import Recipe

if TYPE_CHECKING:
    import datasets
    import torch

    from ..data.fields import Batch


class LanguageModeling(Recipe):
    """Tokens of texts as targets; a text may be several examples. `labels` hold a token's id or IGNORED."""

    column_names = frozenset({"text"})

    @property
    def kind(self) -> Kind:
        """Log-likelihoods."""
        return "likelihood"

    def columns(self) -> tuple[Column, ...]:
        """The text."""
        return (Column("text", "text", TEXT),)

    def forward(self, model: Any, batch: "Batch") -> Any:
        """logits [targets, vocabulary]: where there is no target none are computed."""
        from ..modeling.heads import target_logits

        return target_logits(model, batch)

    def loss(self, outputs: Any, targets: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """Cross entropy over all targets, summed."""
        from ..modeling.losses import cross_entropy_sum

        labels = targets["labels"]
        smoothing = self.config.training.label_smoothing
        return cross_entropy_sum(outputs.logits, labels[labels != IGNORED], label_smoothing=smoothing)

    def weigh(self, targets: "Mapping[str, torch.Tensor]") -> float:
        """Targets."""
        return float((targets["labels"] != IGNORED).sum())

    def outputs(self, values: Sequence[Any], rows: "datasets.Dataset") -> Outputs:
        """Negative log-likelihoods, summed over a text's examples, beside its tokens and bytes.

        Args:
            values: for each row float64[2 or more], the first two being the likelihood and the tokens; or a list of
                them, one an example.
        """
        listed = [examples if isinstance(examples, list) else [examples] for examples in values]
        sums = np.array([np.sum([value[:2] for value in examples], axis=0) for examples in listed]).reshape(-1, 2)
        sizes = np.array([len(text.encode()) for text in self.scored_texts(rows)], np.float64)
        return Outputs("likelihood", sums[:, 0], np.stack([sums[:, 1], sizes], 1))

    def scored_texts(self, rows: "datasets.Dataset") -> list[str]:
        """What of each row is foreseen."""
        return column(rows, "text")

    def likelihoods(self, values: Sequence[Any], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """`row_id`, `perplexity`, `bits_per_byte` and `tokens` of each row."""
        outputs = LanguageModeling.outputs(self, values, rows)
        table = zip(column(rows, "row_id"), outputs.predictions, np.asarray(outputs.references), strict=True)
        return [
            {
                "row_id": row_id,
                "perplexity": math.exp(min(700.0, loss / max(1.0, tokens))),
                "bits_per_byte": float(loss / math.log(2) / max(1.0, size)),
                "tokens": int(tokens),
            }
            for row_id, loss, (tokens, size) in table
        ]
