"""Causal language modelling: each token of a text from those before it; from a checkpoint, or from scratch."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.columns import Column
from ..data.documents import next_token_columns
from ..data.fields import IGNORED, Field
from ..data.labels import column
from ..evaluation.metrics import Kind, Outputs
from ..recipe import Recipe

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    import torch

    from ..data.fields import Batch
    from ..data.tokenization import Encoder

TEXT = ("content", "document", "body", "sentence")


class CausalLanguageModeling(Recipe):
    """Texts, read on: documents are packed into a pass, and none sees another."""

    task = "text-generation"
    auto_model = "AutoModelForCausalLM"
    lora_task_type = "CAUSAL_LM"
    column_names = frozenset({"text"})
    summary = "how likely each next token of a text is"

    @property
    def kind(self) -> Kind:
        """Log-likelihoods."""
        return "likelihood"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """By token, and by byte."""
        return ("perplexity", "bits_per_byte")

    def columns(self) -> tuple[Column, ...]:
        """The text."""
        return (Column("text", "text", TEXT),)

    def fields(self) -> tuple[Field, ...]:
        """Tokens, and the one after each."""
        return Field("input_ids", pad=self.pad_token_id), Field("labels", pad=IGNORED, target=True)

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """Documents to sequences, long ones to several."""
        return next_token_columns(encoder, rows.column("text").to_pylist())

    def forward(self, model: Any, batch: "Batch") -> Any:
        """logits [targets, vocabulary]: where there is no next token none are computed."""
        from ..modeling.heads import target_logits

        return target_logits(model, batch)

    def loss(self, outputs: Any, targets: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """Cross entropy over all next tokens, summed."""
        from ..modeling.losses import cross_entropy_sum

        labels = targets["labels"]
        smoothing = self.config.training.label_smoothing
        return cross_entropy_sum(outputs.logits, labels[labels != IGNORED], label_smoothing=smoothing)

    def weigh(self, targets: "Mapping[str, torch.Tensor]") -> float:
        """Next tokens."""
        return float((targets["labels"] != IGNORED).sum())

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """float64[2] an example: its negative log-likelihood, and how many tokens that is of."""
        from ..modeling.heads import target_losses

        return target_losses(outputs.logits, batch.targets["labels"])

    def postprocess(self, values: Sequence[Any], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """Each text's perplexity, bits per byte, and number of tokens."""
        outputs = self.outputs(values, rows)
        table = zip(column(rows, "row_id"), outputs.predictions, np.asarray(outputs.references), strict=True)
        return [
            {
                "row_id": row_id,
                "prediction": math.exp(min(700.0, loss / max(1.0, tokens))),
                "bits_per_byte": float(loss / math.log(2) / size),
                "tokens": int(tokens),
            }
            for row_id, loss, (tokens, size) in table
        ]

    def outputs(self, values: Sequence[Any], rows: "datasets.Dataset") -> Outputs:
        """Negative log-likelihoods, summed over a text's examples, beside its tokens and bytes."""
        sums = np.array([np.sum(examples, axis=0) for examples in values]).reshape(-1, 2)
        sizes = np.array([len(text.encode()) for text in column(rows, "text")], np.float64)
        return Outputs("likelihood", sums[:, 0], np.stack([sums[:, 1], sizes], 1))

    def predicts(self) -> str:
        """For the card."""
        return "a text's perplexity; `generate` goes on with it"

    def usage(self) -> str:
        """Generation."""
        return (
            'from transformers import pipeline\n\ngenerate = pipeline("text-generation", model="PATH_OF_THIS_FOLDER")\n'
            'print(generate("The beginning of a text", max_new_tokens=40))'
        )
