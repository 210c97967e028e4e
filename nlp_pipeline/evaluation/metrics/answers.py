"""Answers as texts beside the right ones, by the rules of SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from nlp_pipeline.evaluation.metrics.outputs import Outputs

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad(outputs: Outputs) -> dict[str, float]:
    """Exact match and F1, from 0 to 1; of rows with and without an answer apart where there are both.

    A row without an answer has no right text, or the empty one.
    """
    pairs = list(zip(outputs.predictions, outputs.references, strict=True))
    columns = {
        "exact_match": np.array([exact_match(found, right) for found, right in pairs], np.float64),
        "f1": np.array([token_f1(found, right) for found, right in pairs], np.float64),
    }
    answered = np.array([any(right) for _, right in pairs], np.bool_)
    scores = {name: _mean(values) for name, values in columns.items()}
    if answered.any() and not answered.all():
        for group, rows in (("answerable", answered), ("unanswerable", ~answered)):
            scores |= {f"{name}/{group}": _mean(values[rows]) for name, values in columns.items()}
    return scores


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


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
