"""Metrics of predicted labels, single_label int[n] or multi_label bool[n, labels].

A label that occurs in neither references nor predictions has no precision, recall or F1: it is nan by
itself and left out of averages, so a label missing from a test split does not pull the macro average down
to a share of its value. That is scikit-learn's default for single_label; scikit-learn's default for
multi_label would count such a column as 0. A label that does occur scores 0, not nan, where a denominator
is 0 (`zero_division=0`). Everything is nan for empty input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from nlp_pipeline.evaluation.metrics.counts import Counts, Ints
from nlp_pipeline.evaluation.metrics.outputs import Outputs

NAN = float("nan")
BLOCK_CELLS = 2**24


def accuracy(outputs: Outputs) -> dict[str, float]:
    """Share of rows that are right; for multi_label, right in every label (exact subset accuracy)."""
    predictions, references = np.asarray(outputs.predictions), np.asarray(outputs.references)
    if outputs.kind == "multi_label" and references.ndim == 2:
        right = np.ones(len(outputs), bool)
        for block in label_blocks(references):
            right &= (predictions[:, block] == references[:, block]).all(axis=1)
    else:
        right = predictions == references
    return {"accuracy": float(right.mean()) if len(outputs) else NAN}


def balanced_accuracy(outputs: Outputs) -> dict[str, float]:
    """Mean recall over the labels that occur in the references."""
    counts = count_labels(outputs)[0]
    present = counts.expected > 0
    value = float(counts.per_label("recall")[present].mean()) if present.any() else NAN
    return {"balanced_accuracy": value}


def precision_recall_f1(outputs: Outputs, *, statistic: str, average: str) -> dict[str, float]:
    """One of precision, recall and f1.

    Args:
        outputs: single_label or multi_label.
        statistic: "precision", "recall" or "f1".
        average: "macro", "micro" or "weighted"; "per_label" for keys such as "f1/<label name>" beside
            "f1_macro", their mean without the nan ones; "plain" for the second label's value when there are
            exactly two exclusive labels (indices 0 and 1), and the macro average otherwise.
    """
    counts, labels = count_labels(outputs)
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


def matthews_correlation(outputs: Outputs) -> dict[str, float]:
    """Correlation of predicted and reference labels, for any number of labels (Gorodkin's R_K).

    nan when the references hold fewer than two labels. A model that predicts one label only scores 0, the
    convention of scikit-learn and GLUE, since every imbalanced run starts there.
    """
    counts = count_labels(outputs)[0]
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
        predicted = predictions.reshape(len(outputs), width).astype(bool, copy=False)
        expected = references.reshape(len(outputs), width).astype(bool, copy=False)
        columns = np.zeros((3, width), np.int64)
        for block in label_blocks(expected):
            ours, truth = predicted[:, block], expected[:, block]
            columns[:, block] = (ours & truth).sum(axis=0), ours.sum(axis=0), truth.sum(axis=0)
        return Counts(*columns), np.arange(width)
    names = np.arange(len(outputs.label_names))
    labels = np.unique(np.concatenate([names, predictions, references])).astype(np.int64)
    chosen = (references[predictions == references], predictions, references)
    counts = [np.bincount(np.searchsorted(labels, column), minlength=len(labels)) for column in chosen]
    return Counts(*counts), labels


def label_blocks(values: np.ndarray[Any, Any]) -> Iterator[slice]:
    """The labels of a [rows, labels] array in parts of about BLOCK_CELLS cells: the array may be larger than memory."""
    width = values.shape[1]
    step = max(1, BLOCK_CELLS // max(1, len(values)))
    return (slice(start, start + step) for start in range(0, width, step))


def label_name(outputs: Outputs, index: int) -> str:
    """The label's name, or its index as text where the outputs carry no name for it."""
    known = 0 <= index < len(outputs.label_names)
    return outputs.label_names[index] if known else str(index)
