"""Extractive question answering: the span of a context that answers a question, or that there is none."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field as Setting

from ..config.schema import Section
from ..data.columns import Column
from ..data.fields import Field
from ..data.labels import column
from ..data.squad import check_spans
from ..data.text_windows import encode_windows
from ..evaluation.metrics import Kind, Outputs
from ..evaluation.spans import answer_gain, answer_record, best_spans, best_threshold, span_labels
from ..recipe import Recipe

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    import torch

    from ..data.fields import Batch
    from ..data.splits import Splits
    from ..data.tokenization import Encoder

PADDING = -2
"""`starts` of a padded position; -1 is that of the question and of special tokens."""


class QuestionAnswering(Recipe):
    """The answer to a question as it stands in a context, over windows of it where it is long."""

    task = "question-answering"
    auto_model = "AutoModelForQuestionAnswering"
    lora_task_type = "QUESTION_ANS"
    column_names = frozenset({"question", "context", "answers"})
    options_after_tokenization = frozenset({"max_answer_tokens", "n_best"})
    summary = "the span of a context that answers a question, or none"

    class Options(Section):
        """Settings of question answering."""

        stride: int = Setting(128, ge=0)
        """Tokens that a window of a long context shares with the one before it."""
        max_answer_tokens: int = Setting(30, ge=1)
        """Longest answer in tokens."""
        n_best: int = Setting(3, ge=1)
        """Answers that a prediction lists, the best one first."""

    options: Options

    @property
    def kind(self) -> Kind:
        """Texts."""
        return "text"

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Exact match and F1."""
        return ("squad",)

    def columns(self) -> tuple[Column, ...]:
        """The question, the context, and the answers in it."""
        return Column("question", "text"), Column("context", "text"), Column("answers", "answers", is_label=True)

    def learn(self, splits: "Splits") -> list[str]:
        """Whether there are questions without an answer: only then is none predicted."""
        if splits.train is not None and not all(column(splits.train, "answers")):
            self.tuned = {"null_threshold": 0.0}
        return super().learn(splits)

    def check_labels(self, rows: "datasets.Dataset", split: str) -> list[str]:
        """Answers that don't stand in their context where they should."""
        return [*check_spans(column(rows, "row_id"), column(rows, "context"), column(rows, "answers"), split)]

    def model_settings(self) -> dict[str, Any]:
        """Two outputs a token: does the answer start, does it end here."""
        return {"num_labels": 2}

    def fields(self) -> tuple[Field, ...]:
        """Tokens, their place in the context, and the first answer's first and last token, 0 where it isn't there."""
        return (
            Field("input_ids", pad=self.pad_token_id),
            Field("token_type_ids"),
            Field("starts", pad=PADDING, target=True),
            Field("ends", pad=PADDING, target=True),
            Field("labels", "vector", size=2, target=True),
        )

    def preprocess(self, rows: "pa.Table", encoder: "Encoder") -> "Mapping[str, pa.Array]":
        """A question with each window of its context."""
        import pyarrow as pa

        contexts = rows.column("context").to_pylist()
        windows = encode_windows(encoder, rows.column("question").to_pylist(), contexts, self.options.stride)
        columns = windows.columns()
        if "answers" in rows.column_names:
            columns["labels"] = pa.array(span_labels(windows, contexts, rows.column("answers").to_pylist()))
        return columns

    def loss(self, outputs: Any, targets: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """Mean of the cross entropies of start and end over a window's tokens, summed."""
        import torch

        from ..modeling.losses import cross_entropy_sum

        padding = (targets["starts"] == PADDING)[:, None]
        logits = torch.stack([outputs.start_logits, outputs.end_logits], 1).float()
        return cross_entropy_sum(logits.masked_fill(padding, -1e30), targets["labels"]) / 2

    def weigh(self, targets: "Mapping[str, torch.Tensor]") -> float:
        """Windows."""
        return float(len(targets["labels"]))

    def collect(self, outputs: Any, batch: "Batch") -> list[np.ndarray]:
        """float64[1 + spans, 3] a window: the best spans' first and last character and score; none's first of all."""
        logits = [tensor.float().cpu().numpy() for tensor in (outputs.start_logits, outputs.end_logits)]
        places = [batch.targets[name].cpu().numpy() for name in ("starts", "ends")]
        windows = zip(*logits, *places, strict=True)
        return [best_spans(a, b, starts, ends, self.options.max_answer_tokens) for a, b, starts, ends in windows]

    def postprocess(self, values: Sequence[Any], rows: "datasets.Dataset") -> list[dict[str, Any]]:
        """The best answer with its probability and place, and the next best; "" where there is none."""
        table = zip(column(rows, "row_id"), column(rows, "context"), values, strict=True)
        threshold, shown = self.tuned.get("null_threshold"), self.options.n_best
        return [{"row_id": i, **answer_record(context, windows, threshold, shown)} for i, context, windows in table]

    def outputs(self, values: Sequence[Any], rows: "datasets.Dataset") -> Outputs:
        """The best texts beside all the right ones."""
        return Outputs("text", [record["prediction"] for record in self.postprocess(values, rows)], right_texts(rows))

    def tune(self, values: Sequence[Any], rows: "datasets.Dataset") -> None:
        """How much better no answer must score than the best one: what gives the highest F1."""
        found = [answer_gain(*row) for row in zip(column(rows, "context"), right_texts(rows), values, strict=True)]
        self.tuned = {"null_threshold": best_threshold(*np.array(found).T)}

    def baseline(self, train: "datasets.Dataset") -> "tuple[str, Callable[[datasets.Dataset], Outputs]]":
        """The context's first sentence."""

        def guess(rows: "datasets.Dataset") -> Outputs:
            return Outputs("text", [text.partition(". ")[0] for text in column(rows, "context")], right_texts(rows))

        return "first sentence", guess


def right_texts(rows: "datasets.Dataset") -> list[list[str]]:
    """The right answers of each row."""
    return [[answer["text"] for answer in answers] for answers in column(rows, "answers")]
