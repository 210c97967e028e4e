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
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from nlp_pipeline.evaluation.metrics.counts import MOST_GROUPS, Counts, Floats, Ints, Tally, assign_groups, make_table
from nlp_pipeline.evaluation.metrics.outputs import Outputs

NAN = float("nan")
BLOCK_CELLS = 2**24


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


def tally(outputs: Outputs) -> Tally:
    """The label counts of groups of rows.

    Rows that are equal make one group, drawn as often as its rows are. Words, whose rows are sentences, are counted a
    sentence; where unlike rows or sentences are too many, random groups of them are.
    """
    labels = count_labels(outputs)[1]
    alike = _distinct(outputs, labels) if outputs.row_of is None else None
    if alike is not None:
        outputs, times = alike
        group_of = np.arange(len(outputs))
    else:
        row_of = outputs.row_of
        rows = len(outputs) if row_of is None else int(row_of.max(initial=-1)) + 1
        group_of = assign_groups(rows) if row_of is None else assign_groups(rows)[row_of]
        times = np.ones(int(group_of.max(initial=-1)) + 1, np.int64)
    width = len(labels)
    table = sparse.csr_array((len(times), 3 * width + 2))
    for part in _row_blocks(outputs):
        table = table + _block_table(_rows(outputs, part), labels, group_of[part], len(times))

    def read(sums: Floats) -> LabelCounts:
        whole = sums.astype(np.int64)
        return LabelCounts(Counts(*whole[:-2].reshape(3, width)), labels, int(whole[-2]), int(whole[-1]))

    return Tally(table, times, read)


def _distinct(outputs: Outputs, labels: Ints) -> tuple[Outputs, Ints] | None:
    """Each pair of prediction and reference once, and how often it occurs; None where there are too many pairs."""
    axis = 0 if outputs.kind == "multi_label" else None
    pairs, times, first = [np.zeros(0, np.int64)] * 3
    for part in _row_blocks(outputs):
        new, where, counts = np.unique(_pairs(outputs, part, labels), axis=axis, return_index=True, return_counts=True)
        if len(pairs):
            new, where = np.concatenate([pairs, new]), np.concatenate([first, where + part.start])
            counts = np.concatenate([times, counts])
        pairs, index, inverse = np.unique(new, axis=axis, return_index=True, return_inverse=True)
        first, times = where[index], np.bincount(inverse.reshape(-1), counts).astype(np.int64)
        if len(pairs) > MOST_GROUPS:
            return None
    return _rows(outputs, first), times


def _pairs(outputs: Outputs, part: slice, labels: Ints) -> Any:
    """A number for each row's prediction and reference, or for several labels a row of bytes."""
    predictions, references = np.asarray(outputs.predictions)[part], np.asarray(outputs.references)[part]
    if outputs.kind == "multi_label":
        pairs = np.stack([predictions, references], axis=1)
        return np.packbits(pairs.reshape(len(pairs), -1).astype(bool, copy=False), axis=1)
    return np.searchsorted(labels, predictions) * len(labels) + np.searchsorted(labels, references)


def _block_table(outputs: Outputs, labels: Ints, group_of: Ints, groups: int) -> sparse.csr_array:
    """Sparse float64[groups, 3 labels + 2]: labels correct, predicted and expected, rows that are right, rows."""
    width, right = len(labels), np.flatnonzero(_right(outputs))
    cells = _cells(outputs, labels)
    rows = [*(group_of[row] for row, _ in cells), group_of[right], group_of]
    columns = [kind * width + label for kind, (_, label) in enumerate(cells)]
    columns += [np.full(len(right), 3 * width), np.full(len(group_of), 3 * width + 1)]
    return make_table(groups, 3 * width + 2, rows, columns)


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
    predictions, references = np.asarray(outputs.predictions), np.asarray(outputs.references)
    if outputs.kind != "multi_label" or references.ndim != 2:
        return predictions == references
    right = np.ones(len(outputs), bool)
    for block in label_blocks(references):
        right &= (predictions[:, block] == references[:, block]).all(axis=1)
    return right


def _row_blocks(outputs: Outputs) -> Iterator[slice]:
    """The rows in parts of BLOCK_CELLS / 16 cells: each cell becomes several numbers."""
    width = int(np.prod(np.shape(outputs.references)[1:]))
    step = max(1, BLOCK_CELLS // 16 // max(1, width))
    return (slice(start, start + step) for start in range(0, len(outputs), step))


def _rows(outputs: Outputs, rows: Any) -> Outputs:
    """The predictions and references of some rows."""
    return Outputs(
        outputs.kind,
        np.asarray(outputs.predictions)[rows],
        np.asarray(outputs.references)[rows],
        label_names=outputs.label_names,
    )


def _counts(outputs: Outputs, counted: LabelCounts | None) -> tuple[Counts, Ints]:
    return count_labels(outputs) if counted is None else (counted.counts, counted.labels)


def label_name(outputs: Outputs, index: int) -> str:
    """The label's name, or its index as text where the outputs carry no name for it."""
    known = 0 <= index < len(outputs.label_names)
    return outputs.label_names[index] if known else str(index)
