"""Answers as texts beside the right ones, by the rules of SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from nlp_pipeline.evaluation.metrics.counts import Floats, Tally, sums_tally
from nlp_pipeline.evaluation.metrics.outputs import Outputs

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad(outputs: Outputs, *, counted: Floats | None = None) -> dict[str, float]:
    """Exact match and F1, from 0 to 1; of rows with and without an answer apart where there are both.

    A row without an answer has no right text, or the empty one.
    """
    sums = (_columns(outputs).sum(0) if counted is None else counted).reshape(2, 3)
    groups = {"": sums.sum(0)}
    if sums[:, 2].all():
        groups |= {"/answerable": sums[1], "/unanswerable": sums[0]}
    return {
        f"{name}{group}": float(row[place] / row[2]) if row[2] else float("nan")
        for group, row in groups.items()
        for place, name in enumerate(("exact_match", "f1"))
    }


def tally(outputs: Outputs) -> Tally:
    """The sums that all the scores are functions of."""
    return sums_tally(_columns(outputs))


def _columns(outputs: Outputs) -> Floats:
    """float64[rows, 6]: exact match, F1 and 1; the first three of a row without an answer, the last of another."""
    table = np.zeros((len(outputs), 2, 3))
    for row, found, right in zip(table, outputs.predictions, outputs.references, strict=True):
        row[int(any(right))] = exact_match(found, right), token_f1(found, right), 1.0
    return table.reshape(-1, 6)


def exact_match(found: str, right: Sequence[str]) -> float:
    """1 if the text is one of the right ones, case, punctuation and articles apart, else 0."""
    return float(any(normalized(found) == normalized(text) for text in right or ("",)))


def token_f1(found: str, right: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the words, with the right text that it is largest for."""
    return max(_overlap(normalized(found).split(), normalized(text).split()) for text in right or ("",))


def normalized(text: str) -> str:
    """Lower case without punctuation, articles and repeated blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _overlap(found: Sequence[str], right: Sequence[str]) -> float:
    if not found or not right:
        return float(list(found) == list(right))
    common = sum((Counter(found) & Counter(right)).values())
    return 2 * common / (len(found) + len(right))
