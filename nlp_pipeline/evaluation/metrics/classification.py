"""Metrics of predicted labels, single_label int[n] or multi_label bool[n, labels].

A label that occurs in neither references nor predictions has no precision, recall or F1: it is nan by
itself and left out of averages, so a label missing from a test split does not pull the macro average down
to a share of its value. That is scikit-learn's default for single_label; scikit-learn's default for
multi_label would count such a column as 0. A label that does occur scores 0, not nan, where a denominator
is 0 (`zero_division=0`). Everything is nan for empty input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlp_pipeline.evaluation.metrics.counts import Counts, Floats, Ints, Tally, make_table
from nlp_pipeline.evaluation.metrics.outputs import Outputs

NAN = float("nan")


@dataclass(frozen=True)
class LabelCounts:
    """What every metric here is a function of: the labels' counts in the order of `labels`, and whole rows."""

    counts: Counts
    labels: Ints
    right: int
    rows: int


def accuracy(outputs: Outputs, *, counted: LabelCounts | None = None) -> dict[str, float]:
    """Share of rows that are right; for multi_label, right in every label (exact subset accuracy)."""
    if counted is not None:
        return {"accuracy": counted.right / counted.rows if counted.rows else NAN}
    return {"accuracy": float(_right(outputs).mean()) if len(outputs) else NAN}


def balanced_accuracy(outputs: Outputs, *, counted: LabelCounts | None = None) -> dict[str, float]:
    """Mean recall over the labels that occur in the references."""
    counts = _counts(outputs, counted)[0]
    present = counts.expected > 0
    value = float(counts.per_label("recall")[present].mean()) if present.any() else NAN
    return {"balanced_accuracy": value}


def precision_recall_f1(
    outputs: Outputs, *, statistic: str, average: str, counted: LabelCounts | None = None
) -> dict[str, float]:
    """One of precision, recall and f1.

    Args:
        outputs: single_label or multi_label.
        statistic: "precision", "recall" or "f1".
        average: "macro", "micro" or "weighted"; "per_label" for keys such as "f1/<label name>" beside
            "f1_macro", their mean without the nan ones; "plain" for the second label's value when there are
            exactly two exclusive labels (indices 0 and 1), and the macro average otherwise.
        counted: the label counts, if they are not to be those of `outputs`.
    """
    counts, labels = _counts(outputs, counted)
    if average == "plain":
        if outputs.kind == "single_label" and set(labels.tolist()) <= {0, 1}:
            positive = counts.per_label(statistic)[labels == 1]
            return {statistic: float(positive[0]) if positive.size else NAN}
        return {statistic: counts.average(statistic, "macro")}
    if average == "per_label":
        names = [label_name(outputs, int(label)) for label in labels]
        values = dict(zip(names, counts.per_label(statistic).tolist(), strict=True))
        macro = counts.average(statistic, "macro")
        return {
            f"{statistic}_macro": macro,
            **{f"{statistic}/{name}": value for name, value in values.items()},
        }
    return {f"{statistic}_{average}": counts.average(statistic, average)}


def matthews_correlation(outputs: Outputs, *, counted: LabelCounts | None = None) -> dict[str, float]:
    """Correlation of predicted and reference labels, for any number of labels (Gorodkin's R_K).

    nan when the references hold fewer than two labels. A model that predicts one label only scores 0, the
    convention of scikit-learn and GLUE, since every imbalanced run starts there.
    """
    counts = _counts(outputs, counted)[0]
    # Python integers: exact, and no overflow in the product of two squared row counts
    rows = int(counts.expected.sum())
    predicted = [int(count) for count in counts.predicted]
    expected = [int(count) for count in counts.expected]
    spread_predicted = rows**2 - sum(count**2 for count in predicted)
    spread_expected = rows**2 - sum(count**2 for count in expected)
    if spread_expected == 0:
        return {"matthews_correlation": NAN}
    if spread_predicted == 0:
        return {"matthews_correlation": 0.0}
    chance = sum(p * e for p, e in zip(predicted, expected, strict=True))
    covariance = int(counts.correct.sum()) * rows - chance
    return {"matthews_correlation": covariance / math.sqrt(spread_predicted * spread_expected)}


def count_labels(outputs: Outputs) -> tuple[Counts, Ints]:
    """Counts for each label, and the labels' indices int[labels] in the same order.

    The labels are those of `label_names` and any others that the data hold.
    """
    predictions, references = np.asarray(outputs.predictions), np.asarray(outputs.references)
    if outputs.kind == "multi_label":
        width = references.shape[1] if references.ndim == 2 else len(outputs.label_names)
        predicted = predictions.reshape(len(outputs), width).astype(bool)
        expected = references.reshape(len(outputs), width).astype(bool)
        columns = ((predicted & expected).sum(axis=0), predicted.sum(axis=0), expected.sum(axis=0))
        return Counts(*columns), np.arange(width)
    names = np.arange(len(outputs.label_names))
    labels = np.unique(np.concatenate([names, predictions, references])).astype(np.int64)
    chosen = (references[predictions == references], predictions, references)
    counts = [np.bincount(np.searchsorted(labels, column), minlength=len(labels)) for column in chosen]
    return Counts(*counts), labels


def tally(outputs: Outputs) -> Tally:
    """The label counts row by row; equal rows make one group, but for words, whose rows are sentences."""
    if outputs.row_of is None:
        outputs, times = _distinct(outputs)
        row_of, groups = np.arange(len(outputs)), len(outputs)
    else:
        row_of, groups = outputs.row_of, int(outputs.row_of.max(initial=-1)) + 1
        times = np.ones(groups, np.int64)
    labels = count_labels(outputs)[1]
    width, right = len(labels), np.flatnonzero(_right(outputs))
    cells = _cells(outputs, labels)
    rows = [*(row_of[row] for row, _ in cells), row_of[right], row_of]
    columns = [*(kind * width + label for kind, (_, label) in enumerate(cells))]
    columns += [np.full(len(right), 3 * width), np.full(len(row_of), 3 * width + 1)]

    def read(sums: Floats) -> LabelCounts:
        whole = sums.astype(np.int64)
        return LabelCounts(Counts(*whole[:-2].reshape(3, width)), labels, int(whole[-2]), int(whole[-1]))

    return Tally(make_table(groups, 3 * width + 2, rows, columns), times, read)


def _distinct(outputs: Outputs) -> tuple[Outputs, Ints]:
    """Each pair of prediction and reference once, and how often it occurs."""
    pairs = np.stack([np.asarray(outputs.predictions), np.asarray(outputs.references)], axis=1)
    if outputs.kind == "single_label":
        unique, times = np.unique(pairs, axis=0, return_counts=True)
    else:
        packed = np.packbits(pairs.reshape(len(outputs), -1), axis=1)
        _, first, times = np.unique(packed, axis=0, return_index=True, return_counts=True)
        unique = pairs[first]
    return Outputs(outputs.kind, unique[:, 0], unique[:, 1], None, outputs.label_names), times


def _cells(outputs: Outputs, labels: Ints) -> list[tuple[Ints, Ints]]:
    """(row, place of the label) of whatever is correct, predicted and expected."""
    predictions, references = np.asarray(outputs.predictions), np.asarray(outputs.references)
    if outputs.kind == "multi_label":
        found = [np.nonzero(part) for part in (predictions & references, predictions, references)]
        return [(row, label) for row, label in found]
    every = np.arange(len(outputs))
    predicted, expected = np.searchsorted(labels, predictions), np.searchsorted(labels, references)
    right = predictions == references
    return [(every[right], expected[right]), (every, predicted), (every, expected)]


def _right(outputs: Outputs) -> Any:
    """bool[n], predictions that are right in every label."""
    right = np.asarray(outputs.predictions) == np.asarray(outputs.references)
    if outputs.kind == "multi_label" and right.ndim == 2:
        right = right.all(axis=1)
    return right


def _counts(outputs: Outputs, counted: LabelCounts | None) -> tuple[Counts, Ints]:
    return count_labels(outputs) if counted is None else (counted.counts, counted.labels)


def label_name(outputs: Outputs, index: int) -> str:
    """The label's name, or its index as text where the outputs carry no name for it."""
    known = 0 <= index < len(outputs.label_names)
    return outputs.label_names[index] if known else str(index)
