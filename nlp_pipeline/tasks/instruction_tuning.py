"""Instruction tuning: replies to prompts, of which only the assistant's tokens count in the loss."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..data.chat import encode_chats
from ..data.columns import Column
from ..data.labels import column
from ..data.messages import Message, conversation, said
from ..evaluation.metrics import Kind, Outputs
from .chat_modeling import ChatModeling

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import pyarrow as pa

    from ..data.fields import Batch
    from ..data.tokenization import Encoder


class InstructionTuning(ChatModeling):
    """Prompts with completions, or whole conversations; packed into a pass, none sees another."""

    task = "instruction-tuning"
    column_names = frozenset({"prompt", "completion"})
    summary = "the assistant's reply to a prompt or a conversation"

    @property
    def kind(self) -> Kind:
        """Log-likelihoods of what the assistant says."""
        return "likelihood"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Of the assistant's tokens, and by the bytes of what it says."""
        return "perplexity", "bits_per_byte"

    def columns(self) -> tuple[Column, ...]:
        """The prompt, or a whole conversation in which every turn of the assistant counts; and the completion."""
        prompt = Column("prompt", "messages", ("messages", "conversations", "conversation", "instruction", "question"))
        completion = Column(
            "completion", "reply", ("response", "output", "answer", "reply"), required=False, is_label=True
        )
        return prompt, completion

    def replies(self) -> tuple[str, ...]:
        """The completion."""
        return ("completion",)

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """A sequence a conversation; what follows a completion's prompt counts, else every turn of the assistant."""
        talks, last = conversations(rows.to_pydict())
        return encode_chats(encoder, talks, rows.column("row_id").to_pylist(), last)

    def collect(self, outputs: Any, batch: "Batch") -> "list[np.ndarray]":
        """float64[2] an example: its negative log-likelihood, and how many tokens that is of."""
        from ..modeling.heads import target_losses

        return target_losses(outputs.logits, batch.targets["labels"])

    def postprocess(self, values: Sequence[Any], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """Each row's perplexity, bits per byte, and number of tokens."""
        records = self.likelihoods([[value] for value in values], rows)
        return [{"row_id": r["row_id"], "prediction": r.pop("perplexity"), **r} for r in records]

    def outputs(self, values: Sequence[Any], rows: "datasets.Dataset") -> Outputs:
        """Negative log-likelihoods of what the assistant says, beside its tokens and bytes."""
        return super().outputs([[value] for value in values], rows)

    def scored_texts(self, rows: "datasets.Dataset") -> list[str]:
        """What the assistant says."""
        talks, last = conversations({name: column(rows, name) for name in rows.column_names})
        return ["".join(said(talk, only)) for talk, only in zip(talks, last, strict=True)]


def conversations(columns: "Mapping[str, list[Any]]") -> "tuple[list[list[Message]], list[bool]]":
    """Each row's conversation, and whether only its last turn counts: where there is a completion."""
    prompts = columns["prompt"]
    completions = columns.get("completion") or [None] * len(prompts)
    talks = [conversation(prompt, reply) for prompt, reply in zip(prompts, completions, strict=True)]
    return talks, [bool(reply) for reply in completions]
