"""Multiple choice: which of some texts goes with a prompt. Rows may differ in their number of choices."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import Config
from ..config.checks import smoothing_problems
from ..data.choices import choice_problems, places
from ..data.columns import Column
from ..data.fields import Field
from ..data.labels import column
from ..data.token_table import grouped
from ..evaluation.metrics import Kind, Outputs
from ..evaluation.usage import MULTIPLE_CHOICE
from ..recipe import Recipe

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    import torch

    from ..config.schema import Section
    from ..data.fields import Batch
    from ..data.tokenization import Encoder

PROMPT = ("question", "context", "ctx", "sent1", "premise", "text", "stem")
CHOICES = ("endings", "options", "answers", "candidates")
ANSWER = ("answer", "answerKey", "correct", "gold")


class MultipleChoice(Recipe):
    """The right one of some texts for a prompt: each is a sequence with the prompt, scored beside the others."""

    task = "multiple-choice"
    auto_model = "AutoModelForMultipleChoice"
    lora_task_type = "SEQ_CLS"
    column_names = frozenset({"prompt", "choices", "label"})
    summary = "which of several texts, any number a row, goes with a prompt"

    @property
    def kind(self) -> Kind:
        """The place of the right choice."""
        return "single_label"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """The share of right choices."""
        return ("accuracy", "log_loss")

    @classmethod
    def check_options(cls, config: Config, options: "Section") -> list[str]:
        """Smoothing needs a fixed set of classes."""
        return smoothing_problems(config, "choices")

    def columns(self) -> tuple[Column, ...]:
        """The prompt, the list of choices, and the right one: its place from 0 on, its letter, or its text."""
        return (
            Column("prompt", "text", PROMPT),
            Column("choices", "texts", CHOICES),
            Column("label", "label", ANSWER, is_label=True),
        )

    def check_labels(self, rows: "datasets.Dataset", split: str) -> list[str]:
        """Labels that are none of their row's choices, and rows with nothing to choose from."""
        return choice_problems(column(rows, "label"), column(rows, "choices"), column(rows, "row_id"), split)

    def fields(self) -> tuple[Field, ...]:
        """A sequence a choice, and the right one's place."""
        return (
            Field("input_ids", pad=self.pad_token_id),
            Field("token_type_ids"),
            Field("labels", "row", target=True),
        )

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """The prompt with each choice, as a pair of texts."""
        import pyarrow as pa

        prompts, choices = rows.column("prompt").to_pylist(), rows.column("choices").to_pylist()
        sizes = [len(texts) for texts in choices]
        first = [prompt for prompt, size in zip(prompts, sizes, strict=True) for _ in range(size)]
        columns = grouped(encoder(first, [text for texts in choices for text in texts]).columns(), sizes)
        if "label" in rows.column_names:
            columns["labels"] = pa.array(places(rows.column("label").to_pylist(), choices))
        return columns

    def forward(self, model: Any, batch: "Batch") -> Any:
        """logits [examples, most choices of one]; all the batch's sequences go through the model as choices of one."""
        from ..modeling.losses import by_example

        outputs = model(**{name: tensor[None] for name, tensor in batch.inputs.items()})
        outputs.logits = by_example(outputs.logits[0], batch.sizes)
        return outputs

    def loss(self, outputs: Any, targets: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """Cross entropy over each row's choices, summed."""
        from ..modeling.losses import cross_entropy_sum

        return cross_entropy_sum(outputs.logits, targets["labels"])

    def weigh(self, targets: "Mapping[str, torch.Tensor]") -> float:
        """Rows."""
        return float(len(targets["labels"]))

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """float32[choices] probabilities a row."""
        rows = outputs.logits.softmax(-1).cpu().numpy()
        return [row[:size] for row, size in zip(rows, batch.sizes, strict=True)]

    def postprocess(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """The text of the best choice, its place, and every choice's probability."""
        table = zip(column(rows, "row_id"), column(rows, "choices"), values, strict=True)
        return [
            {"row_id": i, "prediction": texts[p.argmax()], "place": int(p.argmax()), "scores": [float(x) for x in p]}
            for i, texts, p in table
        ]

    def outputs(self, values: Sequence[np.ndarray], rows: "datasets.Dataset") -> Outputs:
        """Places, and the probability of the right one."""
        right = places(column(rows, "label"), column(rows, "choices"))
        chances = np.array([row[place] for row, place in zip(values, right, strict=True)], np.float32)
        return Outputs("single_label", np.array([r.argmax() for r in values]), right, reference_scores=chances)

    def baseline(self, train: "datasets.Dataset") -> "tuple[str, Callable[[datasets.Dataset], Outputs]]":
        """Each place in proportion to how often it is right in the training rows."""
        counts = np.bincount(places(column(train, "label"), column(train, "choices")))

        def guess(rows: "datasets.Dataset") -> Outputs:
            sizes = [len(texts) for texts in column(rows, "choices")]
            likely = [np.pad(counts, (0, max(0, n - len(counts))))[:n] + 1.0 for n in sizes]
            return self.outputs([(row / row.sum()).astype(np.float32) for row in likely], rows)

        return "most frequent place", guess

    def usage(self) -> str:
        """transformers has no pipeline for this task."""
        return MULTIPLE_CHOICE
