"""Measures of rankings: against scikit-learn's, and on rows that can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_pipeline.evaluation.metrics import Outputs, compute_metrics
from nlp_pipeline.evaluation.metrics.ranking import (
    average_precisions,
    in_order,
    normalised_gains,
    recalls,
    reciprocal_ranks,
)


def test_a_row_worked_out_by_hand():
    relevance = np.array([[0, 1, 0, 1.0], [0, 0, 0, 0]])
    np.testing.assert_allclose(reciprocal_ranks(relevance, 10), [1 / 2, 0])
    np.testing.assert_allclose(reciprocal_ranks(relevance, 1), [0, 0])
    np.testing.assert_allclose(average_precisions(relevance), [(1 / 2 + 2 / 4) / 2, 0])
    np.testing.assert_allclose(average_precisions(relevance, np.array([4.0, 0])), [(1 / 2 + 2 / 4) / 4, 0])
    np.testing.assert_allclose(recalls(relevance, 2), [1 / 2, 0])
    np.testing.assert_allclose(recalls(relevance, 2, np.array([4.0, 2])), [1 / 4, 0])
    best = 1 + 1 / np.log2(3)
    np.testing.assert_allclose(normalised_gains(relevance, 10), [(1 / np.log2(3) + 1 / np.log2(5)) / best, 0])


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(2, 15), min_size=1, max_size=6))
def test_they_are_scikit_learns(seed, sizes):
    from sklearn.metrics import average_precision_score, ndcg_score

    random = np.random.default_rng(seed)
    scores = [random.permutation(size).astype(float) for size in sizes]
    relevance = [np.append(random.integers(0, 2, size - 1), 1).astype(float) for size in sizes]
    found = compute_metrics(["ndcg@10", "map"], Outputs("ranking", scores, relevance))
    pairs = list(zip(relevance, scores, strict=True))
    assert found["ndcg@10"] == pytest.approx(np.mean([ndcg_score([r], [s], k=10) for r, s in pairs]))
    assert found["map"] == pytest.approx(np.mean([average_precision_score(r, s) for r, s in pairs]))


def test_equal_scores_earn_nothing_by_the_order_of_the_candidates():
    np.testing.assert_array_equal(in_order([[1, 1, 1]], [[1, 0, 0]]), [[0, 0, 1]])
    found = compute_metrics(["mrr@10"], Outputs("ranking", [[0, 0]], [[1.0, 0]]))
    assert found == {"mrr@10": 0.5}


def test_rows_without_anything_relevant_are_left_out():
    rows = Outputs("ranking", [[1.0, 0], [1.0]], [[1.0, 0], [0.0]])
    assert compute_metrics(["mrr@10"], rows) == {"mrr@10": 1.0}
