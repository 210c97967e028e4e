"""Precision, recall and F1 from counts: the arithmetic that classification and tagging share.

What is a function of counts alone can be computed anew for other multiplicities of the same rows without looking at
the rows again; `Tally` keeps the counts of small groups of rows for that.
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


MOST_GROUPS = 5000
"""Rows that are counted one by one; of more, RANDOM_GROUPS groups are, so that memory doesn't grow with the rows."""
RANDOM_GROUPS = 500
"""Sums of so many random groups vary as the rows do: their spread is off by 1 / sqrt(2 * 500), 3 %."""


@dataclass(frozen=True)
class Tally:
    """Counts of what is drawn as one: single rows, many of which may count alike, or random groups of rows.

    Attributes:
        table: sparse float64[groups, columns], what one draw of each adds.
        times: int64[groups], how many such rows there are; 1 for a random group.
        read: the sum of some rows, float64[columns], as what the metric's function takes as `counted`.
    """

    table: sparse.csr_array
    times: Ints
    read: Callable[[Floats], Any]


def assign_groups(rows: int) -> Ints:
    """int[rows], the group of each row: a row each, or where they are more than MOST_GROUPS a random one.

    Groups of about one size, drawn with replacement, are a bootstrap over blocks of independent rows. That they are
    random matters: rows often lie sorted, and neighbours are alike.
    """
    if rows <= MOST_GROUPS:
        return np.arange(rows)
    return np.random.default_rng(0).integers(0, RANDOM_GROUPS, rows, np.int16)


def sums_tally(columns: Floats) -> Tally:
    """The tally of a metric that is a function of sums, float64[rows, columns] being what each row adds."""
    groups = assign_groups(len(columns))
    table = np.zeros((int(groups.max(initial=-1)) + 1, columns.shape[1]))
    np.add.at(table, groups, columns)
    return Tally(sparse.csr_array(table), np.ones(len(table), np.int64), lambda sums: sums)


def make_table(groups: int, columns: int, rows: Sequence[Ints], where: Sequence[Ints]) -> sparse.csr_array:
    """A sparse float64[groups, columns] that counts the pairs (row, column), given as parts of one length each."""
    places = np.concatenate(rows), np.concatenate(where)
    return sparse.csr_array((np.ones(len(places[0])), places), shape=(groups, columns))
