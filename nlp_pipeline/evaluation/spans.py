"""Spans of a context from the scores of its tokens, window by window."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..data.text_windows import Windows

CANDIDATES = 20
"""Starts and ends of a window that are looked at, and spans that are kept of it, as in SQuAD's scripts."""


def span_labels(windows: "Windows", contexts: Sequence[str], answers: Sequence[Sequence[Mapping[str, Any]]]) -> Any:
    """A pair a window: the first and last token of the row's first answer, or 0 where not all of it is there.

    Args:
        answers: those of each row as `text` and `answer_start`; where that is unknown the text's first place counts.
    """
    offsets = windows.encoded.offsets
    labels = np.zeros((len(windows.row), 2), np.int64)
    for window, row in enumerate(windows.row):
        if not answers[row]:
            continue
        text, start = answers[row][0]["text"], answers[row][0]["answer_start"]
        start = contexts[row].find(text) if start is None else start
        tokens = slice(offsets[window], offsets[window + 1])
        starts, ends = windows.starts[tokens], windows.ends[tokens]
        inside = np.flatnonzero((starts >= 0) & (ends > start) & (starts < start + len(text)))
        if len(inside) and starts[inside[0]] <= start and ends[inside[-1]] >= start + len(text):
            labels[window] = inside[0], inside[-1]
    return list(labels)


def best_spans(
    start_logits: np.ndarray, end_logits: np.ndarray, starts: np.ndarray, ends: np.ndarray, longest: int
) -> np.ndarray:
    """float64[1 + spans, 3]: first character, end and score of a window's best spans, after the score of none.

    Args:
        start_logits: float[tokens]; `end_logits` too.
        starts: int[tokens], where each token begins in the context, below 0 outside of it; `ends` too.
        longest: tokens of the longest span.
    """
    context = np.flatnonzero(starts >= 0)
    firsts = context[np.argsort(-start_logits[context], kind="stable")[:CANDIDATES]]
    lasts = context[np.argsort(-end_logits[context], kind="stable")[:CANDIDATES]]
    first, last = (grid.ravel() for grid in np.meshgrid(firsts, lasts, indexing="ij"))
    fits = (last >= first) & (last - first < longest)
    first, last = first[fits], last[fits]
    scores = start_logits[first].astype(np.float64) + end_logits[last]
    best = np.argsort(-scores, kind="stable")[:CANDIDATES]
    spans = np.stack([starts[first[best]], ends[last[best]], scores[best]], axis=1)
    return np.concatenate([[[-1.0, -1.0, float(start_logits[0]) + float(end_logits[0])]], spans])


def merged(windows: Sequence[np.ndarray]) -> tuple[float, list[tuple[int, int, float]]]:
    """The score of no answer, the lowest of all windows', and the distinct spans of a row's windows, best first."""
    found: dict[tuple[int, int], float] = {}
    for start, end, score in np.concatenate([window[1:] for window in windows]).tolist():
        place = (int(start), int(end))
        found[place] = max(score, found.get(place, score))
    ordered = sorted(found.items(), key=lambda item: -item[1])[:CANDIDATES]
    spans = [(start, end, score) for (start, end), score in ordered]
    return min(float(window[0, 2]) for window in windows), spans or [(0, 0, -1e30)]


def best_threshold(leads: np.ndarray, gains: np.ndarray) -> float:
    """The lead of no answer from which on it should be given: what makes the sum of scores the largest.

    Args:
        leads: float[n], by how much no answer scores higher than the best span.
        gains: float[n], how much better the span is than no answer.
    """
    order = np.argsort(leads, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(gains[order])])  # spans are given to the first k, those of lowest lead
    edges = np.concatenate([[leads[order[0]] - 1.0], leads[order]])
    tied = np.append(edges[1:] == edges[:-1], False)  # rows of equal lead are on one side together
    return float(edges[np.argmax(np.where(tied, -np.inf, sums))])
