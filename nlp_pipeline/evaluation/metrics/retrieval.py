"""Ranking all the texts of a split by the likeness of their embeddings to a query's, and what it is measured by.

The order of a ranking is made for some queries at a time and never kept: memory grows with the texts, not their square.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nlp_pipeline.evaluation.metrics.counts import Floats, Ints
from nlp_pipeline.evaluation.metrics.outputs import Outputs

QUERY, DOCUMENT, ANSWER = 1, 2, 4
"""What a text is, added up: asked for others, ranked, and an answer to queries of its key."""
DEEPEST = 1000
"""Places of a ranking that are looked at."""
CELLS = 4_000_000
"""Numbers of a block of queries by documents."""


def rankings(outputs: Outputs) -> Iterator[tuple[Floats, Floats]]:
    """For some queries at a time: 0/1 relevance [queries, places] from the most alike down, and all that are relevant.

    Equal texts count once, and a text isn't ranked for itself; of documents that are equally alike irrelevant ones come
    first. Queries without an answer in the split are left out.

    Args:
        outputs: of kind `retrieval`.
    """
    vectors = np.asarray(outputs.predictions, np.float32)
    what, key, text = np.asarray(outputs.references, np.int64).T.reshape(3, -1)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    queries, documents = _distinct(what & QUERY > 0, text, key), _distinct(what & DOCUMENT > 0, text)
    order = np.argsort(text[documents])
    documents = documents[order]
    answers = np.flatnonzero(what & ANSWER)
    places = np.searchsorted(text[documents], text[answers])
    answer_keys, places = np.unique(np.stack([key[answers], places]), axis=1)
    for first in range(0, len(queries), max(1, CELLS // max(len(documents), 1))):
        part = queries[first : first + max(1, CELLS // max(len(documents), 1))]
        scores = (vectors[part] @ vectors[documents].T).astype(np.float64)
        relevance = np.zeros(scores.shape)
        for row, wanted in enumerate(key[part].tolist()):
            relevance[row, places[slice(*np.searchsorted(answer_keys, [wanted, wanted + 1]))]] = 1.0
        own = text[part][:, None] == text[documents][None, :]
        scores[own], relevance[own] = -np.inf, 0.0
        count = relevance.sum(1)
        yield _in_order(scores, relevance)[count > 0], count[count > 0]


def _in_order(scores: Floats, relevance: Floats) -> Floats:
    """The relevance of the first places, by falling score."""
    if scores.shape[1] > DEEPEST:
        best = np.argpartition(-scores, DEEPEST - 1, axis=1)[:, :DEEPEST]
        scores, relevance = np.take_along_axis(scores, best, 1), np.take_along_axis(relevance, best, 1)
    found: Floats = np.take_along_axis(relevance, np.lexsort((relevance, -scores), axis=1), 1)
    return found


def _distinct(which: np.ndarray[Any, Any], *columns: Ints) -> Ints:
    """The first place of each different entry among those chosen."""
    chosen = np.flatnonzero(which)
    _, first = np.unique(np.stack([column[chosen] for column in columns]), axis=1, return_index=True)
    return chosen[np.sort(first)]
