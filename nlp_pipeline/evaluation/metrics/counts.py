"""Precision, recall and F1 from counts: the arithmetic that classification and tagging share.

What is a function of counts alone can be computed anew for other multiplicities of the same rows without looking at
the rows again; `Tally` keeps the counts row by row for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Counts:
    """For each label, int[labels]: true positives, times predicted, times in the references."""

    correct: Ints
    predicted: Ints
    expected: Ints

    @property
    def occurs(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """bool[labels]: labels that are in the references or in the predictions."""
        return (self.predicted + self.expected) > 0

    def total(self) -> Counts:
        """The counts of all labels taken as one, int[1]."""
        return Counts(*(column.sum(keepdims=True) for column in (self.correct, self.predicted, self.expected)))

    def per_label(self, statistic: str) -> Floats:
        """float[labels] in [0, 1]; 0 where only the denominator is 0, nan where the label never occurs."""
        numerator, denominator = {
            "precision": (self.correct, self.predicted),
            "recall": (self.correct, self.expected),
            # 2tp / (2tp + fp + fn): the harmonic mean without its 0/0 when both parts are 0
            "f1": (2 * self.correct, self.predicted + self.expected),
        }[statistic]
        values = numerator / np.maximum(denominator, 1)
        return np.where(self.occurs, values, np.nan)

    def average(self, statistic: str, average: str) -> float:
        """macro, micro or weighted average over the labels that occur; nan when none does.

        macro: mean of the labels; micro: all labels counted as one; weighted: by reference count, and 0
        when the references have no label at all, as in scikit-learn with zero_division=0.
        """
        if not self.occurs.any():
            return float("nan")
        if average == "micro":
            return float(self.total().per_label(statistic)[0])
        values = self.per_label(statistic)[self.occurs]
        if average == "macro":
            return float(values.mean())
        weights = self.expected[self.occurs]
        return float(values @ weights / max(int(weights.sum()), 1))


@dataclass(frozen=True)
class Tally:
    """Counts of single rows, or of groups of rows that count alike.

    Attributes:
        table: sparse float64[groups, columns], what one row of each group adds.
        times: int64[groups], the rows in each group.
        read: the sum of some rows, float64[columns], as what the metric's function takes as `counted`.
    """

    table: sparse.csr_array
    times: Ints
    read: Callable[[Floats], Any]


def make_table(groups: int, columns: int, rows: Sequence[Ints], where: Sequence[Ints]) -> sparse.csr_array:
    """A sparse float64[groups, columns] that counts the pairs (row, column), given as parts of one length each."""
    places = np.concatenate(rows), np.concatenate(where)
    return sparse.csr_array((np.ones(len(places[0])), places), shape=(groups, columns))
