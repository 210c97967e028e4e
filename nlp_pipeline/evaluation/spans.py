"""Spans of a context from the scores of its tokens, window by window."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .metrics.answers import token_f1

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


def answer_record(context: str, windows: Sequence[np.ndarray], threshold: float | None, shown: int) -> dict[str, Any]:
    """The best answer as `prediction` with its `score`, `start` and `end`, and the `n_best` ones.

    Args:
        windows: a row's, as `best_spans` gives them.
        threshold: from which lead on there is no answer, "", instead; None where there always is one.
        shown: how many answers `n_best` lists.
    """
    none, spans = merged(windows)
    scores = np.array([*(score for _, _, score in spans), *([] if threshold is None else [none])])
    chances = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    listed = [
        {"text": context[start:end], "start": start, "end": end, "score": float(chance)}
        for (start, end, _), chance in zip(spans, chances, strict=False)
    ]
    if threshold is not None and none - spans[0][2] > threshold:
        listed.insert(0, {"text": "", "start": 0, "end": 0, "score": float(chances[-1])})
    best = {name: value for name, value in listed[0].items() if name != "text"}
    return {"prediction": listed[0]["text"], **best, "n_best": listed[:shown]}


def answer_gain(context: str, right: Sequence[str], windows: Sequence[np.ndarray]) -> tuple[float, float]:
    """By how much no answer scores higher than the best span, and how much higher the span's F1 is."""
    none, spans = merged(windows)
    start, end, score = spans[0]
    return none - score, token_f1(context[start:end], right) - token_f1("", right)
