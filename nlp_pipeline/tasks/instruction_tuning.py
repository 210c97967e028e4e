"""Instruction tuning: replies to prompts, of which only the assistant's tokens count in the loss."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Setting

from ..data.chat import encode_chats
from ..data.columns import Column
from ..data.fields import IGNORED
from ..data.labels import column
from ..data.messages import asked, conversations, said
from ..evaluation.metrics import Kind, Outputs
from .chat_modeling import ChatModeling

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from ..data.fields import Batch
    from ..data.tokenization import Encoder

PROMPT = ("messages", "conversations", "conversation", "instruction", "question")
COMPLETION = ("response", "output", "answer", "reply")


class InstructionTuning(ChatModeling):
    """Prompts with completions, or whole conversations; packed into a pass, none sees another."""

    task = "instruction-tuning"
    column_names = frozenset({"prompt", "completion"})
    options_after_tokenization = frozenset({"max_new_tokens", "samples", "scores", "answer_after"})
    generates = True
    summary = "the assistant's reply to a prompt or a conversation"

    class Options(ChatModeling.Options):
        """Settings of instruction tuning."""

        max_new_tokens: int = Setting(128, ge=1)
        """Longest reply that is generated, in tokens."""
        samples: int = Setting(3, ge=0)
        """Rows of each evaluation that are replied to, the first ones; `metrics.jsonl` has what was said."""
        scores: Literal["likelihood", "replies"] = "likelihood"
        """What metrics are of: how likely the right replies are, or generated replies beside the right ones, which
        takes much longer."""
        answer_after: str | None = None
        """Metrics of replies look at what follows this mark, such as `####`, alone."""

    options: Options

    @property
    def kind(self) -> Kind:
        """Log-likelihoods of what the assistant says, or texts."""
        return "text" if self.options.scores == "replies" else "likelihood"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Of the assistant's tokens, and by the bytes of what it says; or exact match and F1."""
        return ("squad",) if self.options.scores == "replies" else ("perplexity", "bits_per_byte")

    def columns(self) -> tuple[Column, ...]:
        """The prompt, or a whole conversation in which every turn of the assistant counts; and the completion."""
        completion = Column("completion", "reply", COMPLETION, required=False, is_label=True)
        return Column("prompt", "messages", PROMPT), completion

    def replies(self) -> tuple[str, ...]:
        """The completion."""
        return ("completion",)

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """A sequence a conversation; what follows a completion's prompt counts, else every turn of the assistant."""
        talks, last = conversations(rows.to_pydict())
        return encode_chats(encoder, talks, rows.column("row_id").to_pylist(), last)

    def preprocess_inputs(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """Conversations without the assistant's last turn, which is to be predicted."""
        talks, last = conversations(rows.to_pydict())
        return encode_chats(encoder, [asked(talk) for talk in talks], rows.column("row_id").to_pylist(), last)

    def infer(self, model: Any, batch: "Batch") -> Any:
        """With `replies`: the generated ids by place in the batch: of samples, and of rows without a reply."""
        from ..modeling.replies import can_generate, generate_replies, last_prompts

        outputs, labels = self.forward(model, batch), batch.targets["labels"].cpu().numpy()
        ids, mask = (batch.inputs[name].cpu().numpy() for name in ("input_ids", "attention_mask"))
        without = (labels == IGNORED).all(1)
        unknown = without | (batch.rows < self.options.samples) | (self.kind == "text")
        unknown &= can_generate(model, self.kind == "text", bool(without.any()))
        prompts = last_prompts(ids, mask, labels)
        chosen, outputs.replies = np.flatnonzero(unknown), {}
        if len(chosen):
            wanted = [prompts[place] for place in chosen]
            found = generate_replies(model, wanted, self.ends(), self.pad_token_id, self.options.max_new_tokens)
            outputs.replies = dict(zip(chosen.tolist(), found, strict=True))
        return outputs

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """float64[2 + n] an example: its negative log-likelihood, of how many tokens, and the generated ids."""
        from ..modeling.heads import target_losses

        sums = target_losses(outputs.logits, batch.targets["labels"])
        return [np.concatenate([row, outputs.replies.get(place, [])]) for place, row in enumerate(sums)]

    def texts(self, values: Sequence[np.ndarray]) -> list[str | None]:
        """What was generated for each row; None where nothing was."""
        ids = [value[2:].astype(np.int64).tolist() or None for value in values]
        decode = self.encoder.tokenizer.decode
        return [None if row is None else decode(row, skip_special_tokens=True) for row in ids]

    def postprocess(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """The reply, and where there is a right one its perplexity, bits per byte, and number of tokens."""
        known = self.likelihoods(values, rows)
        scores = [{k: v for k, v in record.items() if record["tokens"] and k != "row_id"} for record in known]
        table = zip(column(rows, "row_id"), self.texts(values), scores, strict=True)
        return [{"row_id": row_id, "prediction": text, **score} for row_id, text, score in table]

    def samples(self, records: Sequence[dict[str, Any]], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """Generated replies beside what they reply to and what would have been right."""
        talks, _ = conversations({name: column(rows, name) for name in rows.column_names})
        shown = [pair for pair in zip(records, talks, strict=True) if pair[0]["prediction"] is not None]
        return [
            {"row_id": r["row_id"], "asked": t[-2]["content"], "reply": r["prediction"], "right": t[-1]["content"]}
            for r, t in shown[: self.options.samples]
        ]

    def outputs(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> Outputs:
        """Negative log-likelihoods of what the assistant says, beside its tokens and bytes; or texts."""
        if self.kind == "likelihood":
            return super().outputs(values, rows)
        talks, _ = conversations({name: column(rows, name) for name in rows.column_names})
        right = [[self.answer(talk[-1]["content"])] for talk in talks]
        return Outputs("text", [self.answer(text or "") for text in self.texts(values)], right)

    def answer(self, text: str) -> str:
        """What metrics look at."""
        mark = self.options.answer_after
        return text.strip() if mark is None else text.rpartition(mark)[2].strip() if mark in text else ""

    def scored_texts(self, rows: "datasets.Dataset") -> list[str]:
        """What the assistant says."""
        talks, last = conversations({name: column(rows, name) for name in rows.column_names})
        return ["".join(said(talk, only)) for talk, only in zip(talks, last, strict=True)]

    def predicts(self) -> str:
        """For the card."""
        return "a reply"
