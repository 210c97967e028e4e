"""Preference tuning: make the replies that people chose likelier than those that they rejected."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Setting

from ..config import Config
from ..config.schema import ModelConfig, Section
from ..data.chat import encode_chats
from ..data.columns import Column
from ..data.fields import Field
from ..data.labels import column
from ..data.messages import compared
from ..data.token_table import grouped
from ..evaluation.metrics import Kind, Outputs
from ..evaluation.preferences import pair_record, preference_outputs, reference_column, rewards
from .chat_modeling import ChatModeling

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    import torch

    from ..data.fields import Batch
    from ..data.token_table import TokenTable
    from ..data.tokenization import Encoder

SIDES = ("chosen", "rejected")
REFERENCE = "options.reference"
LEARNED_FROM = ("train", "validation")
"""Splits that the reference model reads in the arithmetic in which training reads them, so that gains begin at 0."""


class PreferenceTuning(ChatModeling):
    """Pairs of replies to a prompt. The reference model, the one that training starts from, reads them once."""

    task = "preference-tuning"
    column_names = frozenset({"prompt", *SIDES})
    replies = SIDES
    options_after_tokenization = frozenset({"loss", "beta", "label_smoothing", "reference"})
    summary = "replies like those that people chose, rather than those that they rejected"

    class Options(ChatModeling.Options):
        """Settings of preference tuning."""

        loss: Literal["dpo", "ipo", "orpo"] = "dpo"
        """`dpo` (arXiv:2305.18290), `ipo` (arXiv:2310.12036), or `orpo` (arXiv:2403.07691), which needs no reference
        model and also learns the chosen replies."""
        beta: float = Setting(0.1, gt=0)
        """How dear it is to leave the reference model (IPO's tau; ORPO's lambda, the weight of the odds ratio)."""
        label_smoothing: float = Setting(0.0, ge=0, lt=0.5)
        """Share of the pairs taken to be the wrong way round (DPO only)."""
        reference: str | None = None
        """The reference model's name, if it isn't the model that training starts from. `evaluate` of a saved model
        needs it, and `predict` then adds rewards."""

    options: Options

    @property
    def kind(self) -> Kind:
        """Pairs of rewards."""
        return "preference"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """How often the chosen reply has the larger reward, by how much, and how likely both are."""
        return "preference_accuracy", "reward_margin", "chosen_log_probability", "rejected_log_probability"

    @classmethod
    def check_options(cls, config: Config, options: Section) -> list[str]:
        """Smoothing is that of pairs here."""
        smoothed = config.training.label_smoothing
        wrong = ["training.label_smoothing: pairs are smoothed by options.label_smoothing"] if smoothed else []
        if options.label_smoothing and options.loss != "dpo":  # type: ignore[attr-defined]
            wrong.append("options.label_smoothing: only the loss `dpo` has it; leave it out")
        return wrong

    def columns(self) -> tuple[Column, ...]:
        """The prompt, unless the replies are whole conversations, and both replies."""
        prompt = Column("prompt", "messages", ("question", "instruction", "input"), required=False)
        return prompt, Column("chosen", "reply"), Column("rejected", "reply")

    def fields(self) -> tuple[Field, ...]:
        """Tokens and targets of both, and the reference model's log-likelihood of each."""
        return *super().fields(), Field("reference", "sequence", "float32", target=True)

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """The chosen and the rejected reply after the prompt, two sequences an example; the last turn counts."""
        talks = compared(rows.to_pydict(), SIDES)
        ids = [row_id for row_id in rows.column("row_id").to_pylist() for _ in SIDES]
        return grouped(encode_chats(encoder, talks, ids, [True] * len(talks), together=2), [2] * len(rows))

    def complete(self, table: "TokenTable", split: str | None = None) -> "TokenTable":
        """With the reference model's log-likelihoods, where it is known: not of a saved model that doesn't name it."""
        from ..stages.reference import with_reference

        started = self._model_folder is None
        config = self.models_beside().get(REFERENCE, self.config.model if started else None)
        if self.options.loss == "orpo" or config is None:
            return table
        return with_reference(self, table, config, reference_column, exact=split not in LEARNED_FROM)

    def models_beside(self) -> Mapping[str, ModelConfig]:
        """The reference model, where it is another than the one that training starts from."""
        named = self.options.reference if self.options.loss != "orpo" else None
        return {} if named is None else {REFERENCE: ModelConfig(name=named)}

    def forward(self, model: Any, batch: "Batch") -> Any:
        """`scores` float32[sequences]: each reply's log-likelihood, chosen and rejected in turn."""
        from ..modeling.heads import log_likelihoods

        outputs = super().forward(model, batch)
        outputs.scores = log_likelihoods(outputs.logits, batch.targets["labels"])
        return outputs

    def has_loss(self, targets: "Mapping[str, torch.Tensor]") -> bool:
        """Whether the reference model has read the rows, if it has to."""
        return "reference" in targets or self.options.loss == "orpo"

    def loss(self, outputs: Any, targets: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """The chosen loss of each pair, summed."""
        from ..modeling.losses import preference_loss_sum

        tokens, options = (targets["labels"] >= 0).sum(1), self.options
        known, smoothing = targets.get("reference"), options.label_smoothing
        return preference_loss_sum(options.loss, outputs.scores, tokens, known, options.beta, smoothing)

    def weigh(self, targets: "Mapping[str, torch.Tensor]") -> float:
        """Pairs."""
        return len(targets["labels"]) / 2

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """float64[2, 3] a pair: log-likelihood, tokens, and the reference model's log-likelihood (nan if unknown)."""
        from ..modeling.heads import pair_values

        return pair_values(outputs.scores, batch.targets["labels"], batch.targets.get("reference"))

    def postprocess(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """How much likelier the chosen reply is, both log-likelihoods in nats, and both rewards where known."""
        table = zip(column(rows, "row_id"), values, self.rewards(values), strict=True)
        return [{"row_id": row_id, **pair_record(pair[:, 0], reward, SIDES)} for row_id, pair, reward in table]

    def rewards(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """float64[pairs, 2], nan where the reference model isn't known."""
        return rewards(np.array(values), self.options.beta, by_token=self.options.loss == "orpo")

    def outputs(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> Outputs:
        """Rewards, and log-likelihoods."""
        return preference_outputs(self.rewards(values), np.array(values))

    def predicts(self) -> str:
        """For the card."""
        return "how likely both replies are; `generate` replies by itself"
