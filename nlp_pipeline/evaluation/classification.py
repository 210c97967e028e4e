"""From a classifier's logits to labels: probabilities, records, outputs for the metrics, and what is a close call."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.labels import Labels
from .metrics import Kind, Outputs

CLOSE = 0.03
"""A lead below this share of the spread of a row's logits is a close call; bfloat16 was seen to move it by 0.012."""


def probabilities(values: Sequence[np.ndarray], kind: Kind, width: int) -> np.ndarray:
    """float[rows, width] probabilities from each row's logits; numbers of a regression as they are."""
    logits = np.stack(values) if len(values) else np.zeros((0, width), np.float32)
    if kind == "regression":
        return logits
    if kind == "multi_label":
        return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


@dataclass(frozen=True)
class Answers:
    """What logits say of rows, by the kind of label: one each, any number (`multi_label`), or a number (`regression`).

    Args:
        labels: None where there are no names.
        threshold: several labels, the probability from which on one is predicted.
    """

    kind: Kind
    labels: Labels | None
    threshold: float = 0.5

    def scores(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """[rows, labels] probabilities, or the numbers themselves [rows, 1]."""
        return probabilities(logits, self.kind, len(self.labels or (0,)))

    def close_calls(self, logits: Sequence[np.ndarray]) -> np.ndarray | None:
        """int64[n], rows whose best label (or nearest to the threshold) leads by little; a number is never sure."""
        if self.kind == "regression":
            return None
        if not len(logits):
            return np.zeros(0, np.int64)
        table = np.stack(logits)
        spread = table.max(-1) - table.min(-1)
        if self.kind == "single_label":
            ordered = np.partition(table, -2, axis=-1)
            lead = ordered[:, -1] - ordered[:, -2]
        else:
            lead = np.abs(table - np.log(self.threshold / (1 - self.threshold))).min(-1)
        return np.flatnonzero(lead <= CLOSE * spread)

    def records(self, logits: Sequence[np.ndarray], row_ids: Sequence[str]) -> list[dict[str, Any]]:
        """For each row a label with its probability, the labels above the threshold, or a number."""
        return [{"row_id": i, **self._record(row)} for i, row in zip(row_ids, self.scores(logits), strict=True)]

    def _record(self, scores: np.ndarray) -> dict[str, Any]:
        if self.labels is None:
            return {"prediction": float(scores[0])}
        names = self.labels.names
        if self.kind == "single_label":
            best = int(scores.argmax())
            return {"prediction": names[best], "score": float(scores[best])}
        chosen = np.flatnonzero(scores >= self.threshold)
        return {"prediction": [names[i] for i in chosen], "scores": {names[i]: float(scores[i]) for i in chosen}}

    def outputs(self, scores: np.ndarray, given: Sequence[Any]) -> Outputs:
        """Predictions beside what rows were given: ids, 0/1 rows or numbers.

        Args:
            scores: [rows, labels] probabilities, or [rows, 1] numbers.
            given: a label, a list of labels, or a number a row.
        """
        if self.labels is None:
            return Outputs("regression", scores[:, 0].astype(np.float64), np.asarray(given, np.float64))
        if self.kind == "single_label":
            return Outputs("single_label", scores.argmax(-1), self.labels.encode(given), scores, self.labels.names)
        references = np.zeros(scores.shape, bool)
        for i, names in enumerate(given):
            references[i, self.labels.encode(names)] = True
        return Outputs("multi_label", scores >= self.threshold, references, scores, self.labels.names)

    def usual(self, given: Sequence[Any]) -> tuple[str, np.ndarray]:
        """What one would say of any row without reading it, by its name and float[labels]: shares, or the mean.

        Args:
            given: the training rows' labels, a list each; or numbers, where there are no labels.
        """
        if self.labels is None:
            return "mean of the training rows", np.array([float(np.mean(given))])
        shares = self.labels.counts(given) / len(given)
        if self.kind == "multi_label":  # at least the most frequent label, so that F1 is not 0 by silence
            shares = np.where(shares == shares.max(), np.maximum(shares, self.threshold), shares)
        return "most frequent label", shares


def tag_outputs(
    predicted: Sequence[Sequence[str]], given: Sequence[Sequence[str]], kind: Kind, labels: Labels
) -> Outputs:
    """Tag sequences beside what rows were given; where each word's tag stands alone, their ids word by word."""
    if kind == "tags":
        return Outputs("tags", predicted, given)
    flat = [labels.encode([tag for tags in rows for tag in tags]) for rows in (predicted, given)]
    row_of = np.repeat(np.arange(len(given)), [len(tags) for tags in given])
    return Outputs("single_label", flat[0], flat[1], None, labels.names, row_of=row_of)
