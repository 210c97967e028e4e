"""An export beside the PyTorch model that it was made of: every output at real tokens, every prediction, the score."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .stand_in import StandIn
from .tracing import model_inputs, tensors_of

if TYPE_CHECKING:
    from ..recipe import Recipe
    from .rows import CheckRows

BATCHES = (1, 2, 3, 8, 32)
"""Batch sizes that are tried, besides those of prediction."""
TOKENWISE = ("start_logits", "end_logits")
"""Outputs with one number a token: [batch, length]. All others are by token where they have a dimension more."""


@dataclass
class Difference:
    """The largest absolute difference of an output so far, and where it was."""

    largest: float = 0.0
    where: str = ""

    def see(self, name: str, ours: torch.Tensor, theirs: torch.Tensor, mask: torch.Tensor) -> None:
        """Compare an output with another; what stands at padding is left out.

        Args:
            mask: int64[batch, length], or [batch, choices, length].
        """
        shape = " × ".join(map(str, mask.shape))
        if ours.shape != theirs.shape:
            self.largest, self.where = math.inf, f"{name} of shape {list(theirs.shape)}, expected {list(ours.shape)}"
            return
        gap = (ours.double() - theirs.double()).abs().nan_to_num(nan=math.inf)
        if (name in TOKENWISE or ours.ndim > mask.ndim) and ours.shape[: mask.ndim] == mask.shape:
            gap = gap[mask.bool()]
        found = float(gap.max()) if gap.numel() else 0.0
        if found > self.largest or not self.where:
            self.largest, self.where = found, f"{name} of a batch of {shape} tokens"


class SideBySide(StandIn):
    """Answers as the export does, and compares every output with the model's own."""

    def __init__(self, model: Any, export: Any) -> None:
        super().__init__(model.config)
        self.model, self.export = model, export
        self.difference = Difference()

    def answer(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The export's outputs."""
        ours, theirs = tensors_of(self.model(**inputs)), tensors_of(self.export(**inputs))
        for name, tensor in theirs.items():
            self.difference.see(name, ours[name], tensor, inputs["attention_mask"])
        return theirs


@dataclass(frozen=True)
class Judged:
    """What a model says of rows."""

    predictions: list[Any]
    score: float | None
    """By the run's best metric; None where the rows have no labels."""


@dataclass(frozen=True)
class Check:
    """An export beside the model."""

    rows: str
    largest: float
    """Largest absolute difference of any output at a real token."""
    where: str
    shapes: list[list[int]]
    """Smallest and largest batch and length that were compared."""
    differing: int | None
    """Predictions that aren't the same; None where none were compared: those of a task that generates texts."""
    compared: int
    judged: Judged


def judge(recipe: "Recipe", model: Any, rows: "CheckRows") -> Judged:
    """Predictions in the user's words, and the score where there are labels."""
    from ..evaluation.prediction import predict_table
    from ..stages.scoring import score_windows

    found = predict_table(recipe, model, rows.table, recipe.accelerator, recipe.config.batch.evaluation)
    records = recipe.postprocess(found.values, rows.rows)
    score = None
    if rows.labelled:
        scores = score_windows(recipe, [(rows.rows, found)], len(rows.rows))["scores"]
        score = float(scores[recipe.best_metric])
    return Judged([record["prediction"] for record in records], score)


def compare(recipe: "Recipe", model: Any, export: Any, rows: "CheckRows", expected: Judged, tolerance: float) -> Check:
    """Run an export and the model over the rows, in the batches of prediction and in others.

    Args:
        expected: what the model says of the rows.
        tolerance: of predictions that are numbers.
    """
    both = SideBySide(model, export)
    judged = Judged([], None) if recipe.generates else judge(recipe, both, rows)
    shapes = []
    with torch.inference_mode():
        for inputs in odd_batches(recipe, model, rows):
            shapes.append(list(inputs["input_ids"].shape))
            both(**inputs)
    pairs = list(zip(expected.predictions, judged.predictions, strict=True))
    different = sum(not same(*pair, tolerance) for pair in pairs) if pairs else None
    ends = [[min(column), max(column)] for column in zip(*shapes, strict=True)]
    found = both.difference
    return Check(rows.source, found.largest, found.where, ends, different, len(judged.predictions), judged)


def odd_batches(recipe: "Recipe", model: Any, rows: "CheckRows") -> Iterator[dict[str, torch.Tensor]]:
    """Batches of several sizes as the task makes them, some padded to the maximum length, one as long as that."""
    table, longest = rows.table, recipe.encoder.max_length
    order = np.argsort(table.lengths, kind="stable")
    for number, size in enumerate(BATCHES):
        examples = np.unique(order[np.linspace(0, len(order) - 1, min(size, len(order))).round().astype(int)])
        inputs = model_inputs(recipe, model, table, examples)
        yield inputs
        if number < 3:
            yield {name: _padded(tensor, longest) for name, tensor in inputs.items()}
    yield {name: _filled(tensor, longest) for name, tensor in model_inputs(recipe, model, table, order[-1:]).items()}


def _padded(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """With zeros at the end: any id serves where the mask is 0."""
    return torch.nn.functional.pad(tensor, (0, max(0, length - tensor.shape[-1])))


def _filled(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """Its tokens again and again, up to a length."""
    times = -(-length // tensor.shape[-1])
    return tensor.repeat(*[1] * (tensor.ndim - 1), times)[..., :length].contiguous()


def same(then: Any, now: Any, tolerance: float) -> bool:
    """Whether two predictions are the same; numbers up to the tolerance."""
    if isinstance(then, float) and isinstance(now, float):
        return math.isclose(then, now, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(then, Sequence) and not isinstance(then, str) and isinstance(now, Sequence):
        return len(then) == len(now) and all(same(*pair, tolerance) for pair in zip(then, now, strict=True))
    return bool(then == now)


def float_problems(check: Check, tolerance: float) -> list[str]:
    """What is wrong with an export that computes what the model does, in the same arithmetic."""
    problems = []
    if not check.largest <= tolerance:
        problems.append(
            f"its outputs differ from the PyTorch model's by {check.largest:.3g} ({check.where}), expected at most "
            f"{tolerance:g}"
        )
    if check.differing:
        problems.append(f"{check.differing} of {check.compared} predictions differ, on {check.rows}")
    return problems


def coarse_problems(check: Check, expected: Judged, tolerance: float, greater_is_better: bool) -> list[str]:
    """What is wrong with an export in coarser arithmetic: the score must hold, or without labels the predictions.

    Args:
        tolerance: how much worse the score may be; of a score above 1, this share of it.
    """
    if not math.isfinite(check.largest):
        return [f"an output isn't a finite number, or has another shape: {check.where}"]
    if expected.score is None or check.judged.score is None:
        allowed = max(1, round(tolerance * check.compared))
        if check.differing is not None and check.differing > allowed:
            return [f"{check.differing} of {check.compared} predictions differ, expected at most {allowed}"]
        return []
    loss = (expected.score - check.judged.score) * (1 if greater_is_better else -1)
    allowed_loss = tolerance * max(1.0, abs(expected.score))
    if not loss <= allowed_loss + 1e-12:
        return [
            f"its score is {check.judged.score:.4f}, the PyTorch model's is {expected.score:.4f}, on {check.rows}; "
            f"expected to lose at most {allowed_loss:g}"
        ]
    return []
