"""Causal language modelling: each token of a text from those before it; from a checkpoint, or from scratch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..data.documents import next_token_columns
from ..data.fields import IGNORED, Field
from ..evaluation.usage import pipeline_code
from .language_modeling import LanguageModeling

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import pyarrow as pa

    from ..data.fields import Batch
    from ..data.tokenization import Encoder


class CausalLanguageModeling(LanguageModeling):
    """Texts, read on: documents are packed into a pass, and none sees another."""

    task = "text-generation"
    auto_model = "AutoModelForCausalLM"
    lora_task_type = "CAUSAL_LM"
    summary = "how likely each next token of a text is"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """By token, and by byte."""
        return ("perplexity", "bits_per_byte")

    def fields(self) -> tuple[Field, ...]:
        """Tokens, and the one after each."""
        return Field("input_ids", pad=self.pad_token_id), Field("labels", pad=IGNORED, target=True)

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """Documents to sequences, long ones to several."""
        return next_token_columns(encoder, rows.column("text").to_pylist())

    def collect(self, outputs: Any, batch: "Batch") -> "list[np.ndarray]":
        """float64[2] an example: its negative log-likelihood, and how many tokens that is of."""
        from ..modeling.heads import target_losses

        return target_losses(outputs.logits, batch.targets["labels"])

    def postprocess(self, values: Sequence[Any], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """Each text's perplexity, bits per byte, and number of tokens."""
        records = self.likelihoods(values, rows)
        return [{"row_id": r["row_id"], "prediction": r.pop("perplexity"), **r} for r in records]

    def predicts(self) -> str:
        """For the card."""
        return "a text's perplexity; `generate` goes on with it"

    def usage(self) -> str:
        """Generation."""
        return pipeline_code("text-generation", "generate", '"The beginning of a text", max_new_tokens=40')
