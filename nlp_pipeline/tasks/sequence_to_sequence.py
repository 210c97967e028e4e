"""Texts from texts by an encoder-decoder: summaries, translations, and whatever else is written from a source."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import Config
from ..data.columns import Column
from ..data.fields import IGNORED, Field
from ..data.labels import column
from ..data.targets import joined_by_source, marked_pairs, pair_columns
from ..evaluation.usage import encoder_decoder_code
from .generated_text import GeneratedText
from .sequence_to_sequence_options import SequenceToSequenceOptions

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from ..data.fields import Batch
    from ..data.tokenization import Encoder


class SequenceToSequence(GeneratedText):
    """A source and one or several right texts, an example each; rows of one source are gathered."""

    auto_model = "AutoModelForSeq2SeqLM"
    lora_task_type = "SEQ_2_SEQ_LM"
    column_names = frozenset({"source", "target"})
    options_after_tokenization = frozenset({"samples", "scores"})
    source_names: tuple[str, ...] = ("text", "input", "inputs", "document")
    target_names: tuple[str, ...] = ("targets", "output", "reference", "references")
    needs_languages = False
    """Whether a tokenizer of many languages has to be told which two."""

    class Options(SequenceToSequenceOptions):
        """Settings of encoder-decoders."""

    options: Options
    _targets: "Encoder | None" = None

    @classmethod
    def check_options(cls, config: Config, options: Any) -> list[str]:
        """A pattern that is none; a source's language without the target's."""
        found: list[str] = options.problems()
        return found

    def ready_tokenizer(self, tokenizer: Any) -> None:
        """Tell a tokenizer of many languages which two."""
        if note := self.options.languages.tell(tokenizer, self.needs_languages):
            self.reporter.say(note)

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """BLEU and chrF of the generated texts."""
        return ("bleu", "chrf") if self.kind == "text" else ("perplexity", "bits_per_byte")

    def columns(self) -> tuple[Column, ...]:
        """The source, and the right text or texts."""
        target = Column("target", "references", self.target_names, is_label=True)
        return Column("source", "text", self.source_names), target

    def gather(self, rows: "pa.Table") -> "pa.Table":
        """Rows of one source are one, with several right texts."""
        return joined_by_source(rows, "source", "target") if "target" in rows.column_names else rows

    def fields(self) -> tuple[Field, ...]:
        """The source's tokens, the right text's, and which example is a row's first."""
        return (
            Field("input_ids", pad=self.pad_token_id),
            Field("labels", pad=IGNORED, group="decoder_", target=True),
            Field("first", kind="row", dtype="bool", target=True),
        )

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """An example a right text; without such one a row."""
        texts, right = marked_pairs(rows, "source", "target", self.options.copied)
        before = self.before_source(encoder)
        return pair_columns(encoder, self.target_encoder(encoder), [before + text for text in texts], right)

    def longest(self) -> dict[str, int | None]:
        """Of the source and, where the recipe says it, of what is written."""
        given = "max_target_length" in self.options.model_fields_set
        return super().longest() | {"options.max_target_length": self.options.max_target_length if given else None}

    def limits(self) -> str:
        """Of the source and of what is written."""
        return f"{super().limits()}, or their target than {self.options.max_target_length} (options.max_target_length)"

    def target_encoder(self, encoder: "Encoder") -> "Encoder":
        """The tokenizer as it is for what is written: another maximum length, and another language's marks."""
        from ..data.tokenization import Encoder

        if self._targets is None or self._targets.tokenizer is not encoder.tokenizer:
            self._targets = Encoder(encoder.tokenizer, self.options.max_target_length, target=True)
        return self._targets

    def before_source(self, encoder: "Encoder") -> str:
        """What every source begins with: the mark of the target's language, where that is told so, and the prefix."""
        return self.options.languages.before_source(encoder.tokenizer) + self.options.prefix

    def forward(self, model: Any, batch: "Batch") -> Any:
        """logits [targets, vocabulary]; without right texts [sources, 1, vocabulary], those of the first token."""
        from ..modeling.generating import target_outputs

        return target_outputs(model, batch)

    def infer(self, model: Any, batch: "Batch") -> Any:
        """With `generated`: the ids of texts by place in the batch."""
        from ..modeling.generating import generate_targets, generation_config

        known = "labels" in batch.targets
        outputs: Any = self.forward(model, batch) if known else SimpleNamespace()
        chosen, outputs.generated = self.wanted(model, batch, np.full(len(batch.rows), not known)), {}
        if known:
            chosen = chosen[batch.targets["first"].cpu().numpy()[chosen]]
        if len(chosen):
            config = generation_config(model, self.config.generation, **self.generation_entries())
            outputs.generated = generate_targets(model, batch, chosen, config, self.seed(batch))
        return outputs

    def generation_entries(self) -> dict[str, Any]:
        """Entries of transformers' GenerationConfig that follow from the tokenizer."""
        tokenizer = self.encoder.tokenizer
        marks = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": self.pad_token_id}
        return {**marks, "forced_bos_token_id": self.options.languages.first_token(tokenizer)}

    def texts(self, values: Sequence[Any], rows: "datasets.Dataset") -> list[str | None]:
        """What was generated, marks filled."""
        filled, pairs = self.options.copied.filled, zip(self.given(rows), super().texts(values, rows), strict=True)
        return [None if text is None else filled(source, text) for source, text in pairs]

    def given(self, rows: "datasets.Dataset") -> list[str]:
        """The sources."""
        return column(rows, "source")

    def right(self, rows: "datasets.Dataset") -> list[list[str]]:
        """The right texts."""
        return column(rows, "target")

    def scored_texts(self, rows: "datasets.Dataset") -> list[str]:
        """All right texts of each row."""
        there = "target" in rows.column_names
        return ["".join(texts or []) for texts in column(rows, "target")] if there else [""] * len(rows)

    def predicts(self) -> str:
        """For the card."""
        return "a text"

    def usage(self) -> str:
        """Generation without this package."""
        return encoder_decoder_code(self.before_source(self.encoder))
