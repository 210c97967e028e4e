"""Confident learning: which labels are likely wrong, from predictions of models that never saw them.

By hand from Northcutt, Jiang, Chuang (2021), Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70,
arXiv:1911.00068. A row counts as confidently of class j when its probability of j is at least the mean probability of
j over the rows that are labelled j: thresholds of their own spare classes of which the model is never sure. Counting
given against confident classes estimates how many rows of class i are truly j; that many are flagged.
"""

from typing import Any, Literal

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Prune = Literal["noise_rate", "class", "both"]


def class_thresholds(probabilities: Floats, given: Ints) -> Floats:
    """Mean probability of each class over the rows labelled with it (the paper's equation 2).

    Args:
        probabilities: float[n, classes], out of fold, rows sum to 1.
        given: int[n], the labels as they are.

    Returns:
        float[classes]; infinite for a class that labels no row, so that no row is confidently of it.
    """
    classes = probabilities.shape[1]
    counts = np.bincount(given, minlength=classes)
    sums = np.bincount(given, weights=self_confidence(probabilities, given), minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_classes(probabilities: Floats, thresholds: Floats) -> Ints:
    """int[n], the most probable of the classes whose threshold a row reaches; -1 where it reaches none."""
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    best = reached.argmax(axis=1)
    return np.where(reached[np.arange(len(best)), best] >= 0, best, -1)


def confident_joint(probabilities: Floats, given: Ints) -> Ints:
    """int[classes, classes]: rows labelled i that are confidently of class j (the paper's equation 1)."""
    classes = probabilities.shape[1]
    confident = confident_classes(probabilities, class_thresholds(probabilities, given))
    seen = confident >= 0
    cells = np.bincount(given[seen] * classes + confident[seen], minlength=classes**2)
    return cells.reshape(classes, classes)


def calibrated_joint(joint: Ints, counts: Ints) -> Floats:
    """float[classes, classes], the confident joint scaled so that row i sums to the rows labelled i (equation 3).

    A class without any confident row keeps its labels: nothing is known against them.
    """
    sums = joint.sum(axis=1)
    known = np.where(sums[:, None] > 0, joint, np.diag(counts)).astype(np.float64)
    return known * (counts / np.maximum(known.sum(axis=1), 1))[:, None]


def likely_errors(probabilities: Floats, given: Ints, prune: Prune = "class") -> Bools:
    """bool[n], rows whose label is likely wrong.

    Args:
        probabilities: float[n, classes], out of fold.
        given: int[n].
        prune: `class` flags, for every class, as many rows as the joint estimates to be wrong, those with the
            smallest probability of the given class; `noise_rate`, for every pair of classes, as many as the joint
            estimates there, those with the largest margin of the other class over the given one; `both` what both
            flag (the paper's PBC, PBNR and C+NR). With many classes a pair's estimate often rounds to nothing. A row
            whose given class is the most probable one is never flagged, a rule beside the paper's.
    """
    counts = np.bincount(given, minlength=probabilities.shape[1])
    joint = calibrated_joint(confident_joint(probabilities, given), counts)
    ways = {"noise_rate": [_by_noise_rate], "class": [_by_class], "both": [_by_noise_rate, _by_class]}[prune]
    flagged = np.logical_and.reduce([way(probabilities, given, joint) for way in ways])
    result: Bools = flagged & (probabilities.max(axis=1) > self_confidence(probabilities, given))
    return result


def self_confidence(probabilities: Floats, given: Ints) -> Floats:
    """float[n], the probability of the label as it is: worst labels lowest."""
    return probabilities[np.arange(len(given)), given]


def suggested_classes(probabilities: Floats, given: Ints) -> Ints:
    """int[n], the most probable class other than the given one."""
    others = probabilities.copy()
    others[np.arange(len(given)), given] = -1.0
    return others.argmax(axis=1)


def _by_noise_rate(probabilities: Floats, given: Ints, joint: Floats) -> Bools:
    flagged = np.zeros(len(given), bool)
    wanted = np.rint(joint).astype(np.int64)
    np.fill_diagonal(wanted, 0)
    for own, other in np.argwhere(wanted):
        rows = np.flatnonzero(given == own)
        margins = probabilities[rows, other] - probabilities[rows, own]
        flagged[rows[np.argsort(-margins, kind="stable")[: wanted[own, other]]]] = True
    return flagged


def _by_class(probabilities: Floats, given: Ints, joint: Floats) -> Bools:
    flagged = np.zeros(len(given), bool)
    wrong = np.rint(joint.sum(axis=1) - np.diag(joint)).astype(np.int64)
    for own in np.flatnonzero(wrong):
        rows = np.flatnonzero(given == own)
        flagged[rows[np.argsort(probabilities[rows, own], kind="stable")[: wrong[own]]]] = True
    return flagged
