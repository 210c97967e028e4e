"""Retrieval over a split: exact, equal texts counted once, no text its own neighbour."""

import numpy as np
import pytest

from nlp_pipeline.evaluation.metrics import METRICS, Outputs, compute_metrics
from nlp_pipeline.evaluation.metrics import retrieval as module
from nlp_pipeline.evaluation.metrics.retrieval import ANSWER, DOCUMENT, QUERY
from nlp_pipeline.evaluation.metrics.store import OutputStore

NAMES = [name for name, spec in METRICS.items() if "retrieval" in spec.kinds]
RANDOM = np.random.default_rng(1)


def labelled(n=60, labels=7):
    vectors = RANDOM.normal(size=(n, 5)).astype(np.float32)
    return Outputs("retrieval", vectors, np.stack([np.full(n, 7), RANDOM.integers(0, labels, n), np.arange(n)], 1))


def by_hand(outputs):
    """The measures of each query, by the plainest code."""
    vectors = outputs.predictions / np.linalg.norm(outputs.predictions, axis=1, keepdims=True)
    found = []
    for i, (_, key, _) in enumerate(outputs.references):
        order = [j for j in np.argsort(-(vectors @ vectors[i]), kind="stable") if j != i]
        right = [int(outputs.references[j, 1] == key) for j in order]
        total = sum(right)
        if not total:
            continue
        first = right.index(1) + 1
        gains = sum(r / np.log2(2 + p) for p, r in enumerate(right[:10]))
        precisions = [sum(right[: p + 1]) / (p + 1) for p, r in enumerate(right) if r]
        found.append(
            {
                "mrr@10": 1 / first if first <= 10 else 0.0,
                "ndcg@10": gains / sum(1 / np.log2(2 + p) for p in range(min(total, 10))),
                "map": sum(precisions) / total,
                "recall@1": right[0] / total,
                "recall@10": sum(right[:10]) / total,
                "nearest_neighbour_accuracy": right[0],
            }
        )
    return {name: np.mean([row[name] for row in found]) for name in NAMES}


@pytest.mark.parametrize("cells", [10**6, 200])
def test_measures_of_labelled_texts_are_those_by_hand(monkeypatch, cells):
    monkeypatch.setattr(module, "CELLS", cells)
    outputs = labelled()
    found = compute_metrics(NAMES, outputs)
    assert found == pytest.approx(by_hand(outputs))
    store = OutputStore(NAMES, 60)
    for part in (slice(0, 25), slice(25, 60)):  # windows play no part
        store.add(Outputs("retrieval", outputs.predictions[part], outputs.references[part]))
    assert store.compute() == pytest.approx(found)


def test_places_that_are_not_looked_at_count_as_missed(monkeypatch):
    outputs = labelled(200, 3)
    whole = compute_metrics(["recall@10", "ndcg@10"], outputs)
    monkeypatch.setattr(module, "DEEPEST", 20)
    again = Outputs("retrieval", outputs.predictions, outputs.references)
    assert compute_metrics(["recall@10", "ndcg@10"], again) == pytest.approx(whole)
    assert compute_metrics(["map"], again)["map"] < compute_metrics(["map"], outputs)["map"]


def test_pairs_share_documents():
    """Two anchors with one answer in common, an anchor with two answers, and a text that answers nothing."""
    a, b, p, q, n = 1, 2, 3, 4, 5
    rows = [(QUERY, a, a), (DOCUMENT + ANSWER, a, p), (QUERY, a, a), (DOCUMENT + ANSWER, a, q), (DOCUMENT, a, n),
            (QUERY, b, b), (DOCUMENT + ANSWER, b, p)]  # fmt: skip
    at = {a: 0.0, b: 0.5, p: 0.1, q: 1.0, n: 0.6}
    vectors = np.array([[np.cos(at[text]), np.sin(at[text])] for _, _, text in rows])
    found = compute_metrics(NAMES, Outputs("retrieval", vectors, np.array(rows)))
    # a: p, n, q with p and q right; b: n, p, q with p right
    assert found["recall@1"] == pytest.approx((0.5 + 0) / 2)
    assert found["recall@10"] == 1.0
    assert found["mrr@10"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["map"] == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert found["nearest_neighbour_accuracy"] == 0.5


def test_a_model_that_tells_nothing_apart_gets_no_credit():
    outputs = labelled()
    flat = Outputs("retrieval", np.ones_like(outputs.predictions), outputs.references)
    assert compute_metrics(["nearest_neighbour_accuracy"], flat)["nearest_neighbour_accuracy"] == 0.0


def test_without_any_answer_measures_are_undefined():
    outputs = labelled(10, 1)
    lonely = np.stack([np.full(10, 7), np.arange(10), np.arange(10)], 1)
    assert all(np.isnan(v) for v in compute_metrics(NAMES, Outputs("retrieval", outputs.predictions, lonely)).values())
