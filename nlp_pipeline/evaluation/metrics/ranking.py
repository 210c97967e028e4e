"""How well what is relevant stands before what isn't: reciprocal rank, average precision, discounted gain.

The functions on top take relevance in the order of the ranking, whatever was ranked: the candidates of a row, or all
the texts of an index by their similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nlp_pipeline.evaluation.metrics.counts import Floats, Tally, sums_tally
from nlp_pipeline.evaluation.metrics.outputs import Outputs
from nlp_pipeline.evaluation.metrics.retrieval import rankings

Rows = Sequence[Any] | np.ndarray[Any, Any]
PLACES = 10
"""How many places from the top `mrr@10` and `ndcg@10` look at."""


def reciprocal_ranks(relevance: Floats, places: int) -> Floats:
    """float64[rows], 1 / the place of the first relevant item among the first `places`; 0 if there is none.

    Args:
        relevance: [rows, items] in the order of the ranking, from the top; above 0 is relevant.
    """
    hits = relevance[:, :places] > 0
    first: Floats = np.where(hits.any(1), 1 / (hits.argmax(1) + 1.0), 0.0) if hits.size else np.zeros(len(hits))
    return first


def average_precisions(relevance: Floats, relevant: Floats | None = None) -> Floats:
    """float64[rows], the mean over relevant items of the precision down to each; 0 where there are none.

    Args:
        relevant: float64[rows], how many relevant items there are, if the ranking doesn't show all of them.
    """
    hits = relevance > 0
    precision = np.cumsum(hits, 1) / np.arange(1, hits.shape[1] + 1)
    count = hits.sum(1) if relevant is None else relevant
    found: Floats = (precision * hits).sum(1) / np.maximum(count, 1)
    return found


def recalls(relevance: Floats, places: int, relevant: Floats | None = None) -> Floats:
    """float64[rows], the share of relevant items that stand among the first `places`; as for `average_precisions`."""
    count = (relevance > 0).sum(1) if relevant is None else relevant
    found: Floats = (relevance[:, :places] > 0).sum(1) / np.maximum(count, 1)
    return found


def discounted_gains(relevance: Floats, places: int) -> Floats:
    """float64[rows], the sum of relevance / log2(1 + place) (Järvelin & Kekäläinen 2002; gains are not powers of 2)."""
    shown = relevance[:, :places]
    gains: Floats = shown @ (1 / np.log2(np.arange(shown.shape[1]) + 2.0))
    return gains


def normalised_gains(relevance: Floats, places: int, ideal: Floats | None = None) -> Floats:
    """float64[rows], the discounted gain by that of the best order; 0 where nothing is relevant.

    Args:
        ideal: [rows, items] relevance from the largest down, if the ranking doesn't show all of it.
    """
    best = discounted_gains(-np.sort(-relevance, axis=1) if ideal is None else ideal, places)
    found: Floats = np.divide(discounted_gains(relevance, places), best, out=np.zeros(len(best)), where=best > 0)
    return found


def in_order(scores: Rows, relevance: Rows) -> Floats:
    """float64[rows, longest], each row's relevance by falling score, filled up with 0.

    Of items with equal scores the least relevant come first: a model that tells nothing apart gets no credit for the
    order that the items were given in.
    """
    table = np.zeros((len(scores), max(map(len, scores), default=0)))
    for row, given, right in zip(table, scores, relevance, strict=True):
        right = np.asarray(right, np.float64)
        row[: len(right)] = right[np.lexsort((right, -np.asarray(given, np.float64)))]
    return table


def ranking(outputs: Outputs, name: str, *, counted: Floats | None = None) -> dict[str, float]:
    """The mean over rows or queries of one of NAMES; those without anything relevant are left out."""
    *sums, rows = _columns(outputs).sum(0) if counted is None else counted
    return {name: float(sums[NAMES.index(name)] / rows) if rows else float("nan")}


NAMES = (f"mrr@{PLACES}", f"ndcg@{PLACES}", "map", "recall@1", f"recall@{PLACES}", "nearest_neighbour_accuracy")


def tally(outputs: Outputs) -> Tally:
    """The sums that all of them are functions of."""
    return sums_tally(_columns(outputs))


def _columns(outputs: Outputs) -> Floats:
    """float64[rows, 7]: the measures and 1, or 0 all along where nothing is relevant."""
    if outputs.kind != "retrieval":
        relevance = in_order(outputs.predictions, outputs.references)
        return _measures(relevance, (relevance > 0).sum(1).astype(np.float64))
    if "retrieval" not in outputs.memo:
        parts = [_measures(*part) for part in rankings(outputs)]
        outputs.memo["retrieval"] = np.concatenate(parts) if parts else np.zeros((0, len(NAMES) + 1))
    found: Floats = outputs.memo["retrieval"]
    return found


def _measures(relevance: Floats, relevant: Floats) -> Floats:
    """float64[rows, 7] of 0/1 relevance in the order of the ranking, which may not show all that is relevant."""
    ideal = None
    if ((relevance > 0).sum(1) < relevant).any():
        ideal = (np.arange(PLACES)[None, :] < relevant[:, None]).astype(np.float64)
    measures = (
        reciprocal_ranks(relevance, PLACES),
        normalised_gains(relevance, PLACES, ideal),
        average_precisions(relevance, relevant),
        recalls(relevance, 1, relevant),
        recalls(relevance, PLACES, relevant),
        reciprocal_ranks(relevance, 1),
        relevant > 0,
    )
    return np.column_stack(measures).astype(np.float64)
