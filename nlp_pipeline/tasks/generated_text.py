"""What tasks have in common whose predictions are generated texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field as Setting

from ..config.schema import Section
from ..data.labels import column
from ..evaluation.metrics import Kind, Outputs
from .language_modeling import LanguageModeling

if TYPE_CHECKING:
    import datasets

    from ..data.fields import Batch


class GeneratedText(LanguageModeling):
    """Texts beside right ones, how likely these are, and samples of them during training."""

    generates = True

    class Options(Section):
        """Settings of tasks that generate texts."""

        samples: int = Setting(3, ge=0)
        """Rows of each evaluation that are shown, the first ones: `metrics.jsonl` has what was generated for them."""
        scores: Literal["likelihood", "generated"] = "likelihood"
        """What metrics are of: how likely the right texts are, or generated texts beside the right ones, which takes
        much longer."""

    options: Any

    @property
    def kind(self) -> Kind:
        """Texts, or log-likelihoods of the right ones."""
        return "text" if self.options.scores == "generated" else "likelihood"

    def wanted(self, model: Any, batch: "Batch", unknown: np.ndarray) -> np.ndarray:
        """int64[n], places in a batch that texts are generated for: where they are scored, shown or asked for.

        Args:
            unknown: bool[examples], those whose text isn't known.
        """
        from ..modeling.generating import can_generate

        chosen = unknown | (batch.rows < self.options.samples) | (self.kind == "text")
        able = can_generate(model, self.kind == "text", bool(unknown.any()))
        return np.flatnonzero(chosen & able)

    def generation_entries(self) -> dict[str, Any]:
        """Entries of transformers' GenerationConfig that follow from the tokenizer."""
        return {}

    def ready_model(self, model: Any) -> None:
        """What is saved generates as this does, whoever calls it."""
        from ..modeling.generating import generation_config

        if getattr(model, "generation_config", None) is not None:
            entries = self.generation_entries()
            model.generation_config = generation_config(model, self.config.generation, **entries)

    def seed(self, batch: "Batch") -> tuple[int, ...]:
        """What drawn tokens depend on: batches are the same on any number of processes."""
        return (self.config.training.seed, int(batch.rows[0]))

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """float64[2 + n] an example: the right text's negative log-likelihood, of how many tokens; generated ids."""
        from ..modeling.heads import target_losses

        sums: Sequence[np.ndarray] = [np.zeros(2)] * len(batch.rows)
        if "labels" in batch.targets:
            sums = target_losses(outputs.logits, batch.targets["labels"])
        return [np.concatenate([row, outputs.generated.get(place, [])]) for place, row in enumerate(sums)]

    def texts(self, values: Sequence[Any], rows: "datasets.Dataset") -> list[str | None]:
        """What was generated for each row; None where nothing was."""
        firsts = (value[0] if isinstance(value, list) else value for value in values)
        ids = [value[2:].astype(np.int64).tolist() or None for value in firsts]
        decode = self.encoder.tokenizer.decode
        return [None if row is None else decode(row, skip_special_tokens=True) for row in ids]

    def postprocess(self, values: Sequence[Any], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """The text, and where there is a right one its perplexity, bits per byte, and number of tokens."""
        known = self.likelihoods(values, rows)
        scores = [{k: v for k, v in record.items() if record["tokens"] and k != "row_id"} for record in known]
        table = zip(column(rows, "row_id"), self.texts(values, rows), scores, strict=True)
        return [{"row_id": row_id, "prediction": text, **score} for row_id, text, score in table]

    def samples(self, records: Sequence[dict[str, Any]], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """Generated texts beside what they were generated for and what would have been right."""
        table = zip(records, self.given(rows), self.right(rows), strict=True)
        shown = [
            {"row_id": record["row_id"], "asked": given, "generated": record["prediction"], "right": right[0]}
            for record, given, right in table
            if record["prediction"] is not None
        ]
        return shown[: self.options.samples]

    def outputs(self, values: Sequence[Any], rows: "datasets.Dataset") -> Outputs:
        """Generated texts beside the right ones; or the likelihood of these, beside their tokens and bytes."""
        if self.kind == "likelihood":
            return super().outputs(values, rows)
        right = [[self.answer(text) for text in texts] for texts in self.right(rows)]
        return Outputs("text", [self.answer(text or "") for text in self.texts(values, rows)], right)

    def given(self, rows: "datasets.Dataset") -> list[str]:
        """What each row's text is generated for."""
        raise NotImplementedError

    def right(self, rows: "datasets.Dataset") -> list[list[str]]:
        """The right texts of each row."""
        raise NotImplementedError

    def answer(self, text: str) -> str:
        """What metrics look at."""
        return text.strip()
