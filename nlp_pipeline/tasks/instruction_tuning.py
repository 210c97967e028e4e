"""Instruction tuning: replies to prompts, of which only the assistant's tokens count in the loss."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..data.chat import encode_chats
from ..data.columns import Column
from ..data.fields import IGNORED
from ..data.labels import column
from ..data.messages import asked, conversations, said
from .chat_modeling import ChatModeling
from .generated_text import GeneratedText

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from ..data.fields import Batch
    from ..data.tokenization import Encoder

PROMPT = ("messages", "conversations", "conversation", "instruction", "question")
COMPLETION = ("response", "output", "answer", "reply")


class InstructionTuning(ChatModeling, GeneratedText):
    """Prompts with completions, or whole conversations; packed into a pass, none sees another."""

    task = "instruction-tuning"
    column_names = frozenset({"prompt", "completion"})
    replies = ("completion",)
    options_after_tokenization = frozenset({"samples", "scores", "answer_after"})
    summary = "the assistant's reply to a prompt or a conversation"

    class Options(ChatModeling.Options, GeneratedText.Options):
        """Settings of instruction tuning."""

        answer_after: str | None = None
        """Metrics of replies look at what follows this mark, such as `####`, alone."""

    options: Options

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Of the assistant's tokens, and by the bytes of what it says; or exact match and F1."""
        return ("squad",) if self.kind == "text" else ("perplexity", "bits_per_byte")

    def columns(self) -> tuple[Column, ...]:
        """The prompt, or a whole conversation in which every turn of the assistant counts; and the completion."""
        completion = Column("completion", "reply", COMPLETION, required=False, is_label=True)
        return Column("prompt", "messages", PROMPT), completion

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """A sequence a conversation; what follows a completion's prompt counts, else every turn of the assistant."""
        talks, last = conversations(rows.to_pydict())
        return encode_chats(encoder, talks, rows.column("row_id").to_pylist(), last)

    def preprocess_inputs(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """Conversations without the assistant's last turn, which is to be predicted."""
        talks, last = conversations(rows.to_pydict())
        return encode_chats(encoder, [asked(talk) for talk in talks], rows.column("row_id").to_pylist(), last)

    def infer(self, model: Any, batch: "Batch") -> Any:
        """With `generated`: the ids of replies by place in the batch."""
        from ..modeling.generating import generate_replies, generation_config, last_prompts

        outputs, labels = self.forward(model, batch), batch.targets["labels"].cpu().numpy()
        ids, mask = (batch.inputs[name].cpu().numpy() for name in ("input_ids", "attention_mask"))
        chosen, outputs.generated = self.wanted(model, batch, (labels == IGNORED).all(1)), {}
        if len(chosen):
            prompts = last_prompts(ids, mask, labels)
            config = generation_config(model, self.config.generation, **self.generation_entries())
            found = generate_replies(model, [prompts[place] for place in chosen], config, self.seed(batch))
            outputs.generated = dict(zip(chosen.tolist(), found, strict=True))
        return outputs

    def generation_entries(self) -> dict[str, Any]:
        """Replies end where training did."""
        return self.reply_marks()

    def given(self, rows: "datasets.Dataset") -> list[str]:
        """What the assistant replies to."""
        talks, _ = conversations({name: column(rows, name) for name in rows.column_names})
        return [talk[-2]["content"] for talk in talks]

    def right(self, rows: "datasets.Dataset") -> list[list[str]]:
        """The assistant's last turn."""
        talks, _ = conversations({name: column(rows, name) for name in rows.column_names})
        return [[talk[-1]["content"]] for talk in talks]

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
