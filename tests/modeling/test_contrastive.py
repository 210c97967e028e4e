"""Losses over a batch of embeddings, beside plain formulas and sentence-transformers."""

import numpy as np
import pytest
import torch

from nlp_pipeline.modeling.contrastive import (
    batch_hard_triplet_sum,
    cosent_sum,
    cosines,
    in_batch_negatives_sum,
    supervised_contrastive_sum,
    with_partners,
)
from nlp_pipeline.modeling.embeddings import pooled, unit

VECTORS = torch.randn(12, 8, generator=torch.Generator().manual_seed(3))
LABELS = torch.tensor([5, 5, 7, 7, 7, 9, 5, 11, 7, 5, 12, 12])


class Ready(torch.nn.Module):
    """Stands for a model whose embeddings are there already."""

    def forward(self, features):
        return {"sentence_embedding": features["vectors"]}


def of_sentence_transformers(name, vectors, labels, **settings):
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    return getattr(losses, name)(Ready(), **settings)([{"vectors": part} for part in vectors], labels)


def test_in_batch_negatives_are_those_of_sentence_transformers():
    sizes, keys = torch.full((4,), 3), torch.arange(12)
    ours = in_batch_negatives_sum(VECTORS, sizes, keys, 0.05) / 4
    parts = [VECTORS[i::3] for i in range(3)]
    theirs = of_sentence_transformers("MultipleNegativesRankingLoss", parts, None, scale=20.0)
    torch.testing.assert_close(ours, theirs)


def test_copies_and_other_answers_are_no_negatives():
    """Rows 0 and 1 have the same anchor, rows 2 and 3 the same answer; row 4's anchor is row 2's negative."""
    sizes = torch.tensor([2, 2, 3, 2, 2])
    keys = torch.tensor([1, 10, 1, 11, 2, 12, 4, 3, 12, 4, 14])
    scores = unit(VECTORS[:11]) @ unit(VECTORS[:11]).T / 0.1
    allowed = [(0, 1, [5, 6, 8, 10]), (2, 3, [5, 6, 8, 10]), (4, 5, [1, 3, 6, 10]), (7, 8, [1, 3, 6, 10]),
               (9, 10, [1, 3, 5, 8])]  # fmt: skip
    wanted = sum(-scores[a, [p, *others]].log_softmax(0)[0] for a, p, others in allowed)
    torch.testing.assert_close(in_batch_negatives_sum(VECTORS[:11], sizes, keys, 0.1), wanted)


def test_cosent_is_that_of_sentence_transformers():
    scores = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.0, 1.0])
    ours = cosent_sum(cosines(VECTORS), scores, 0.05) / 6
    theirs = of_sentence_transformers("CoSENTLoss", [VECTORS[0::2], VECTORS[1::2]], scores, scale=20.0)
    torch.testing.assert_close(ours, theirs)


def test_supervised_contrastive_is_the_papers_formula():
    scores = (unit(VECTORS) @ unit(VECTORS).T / 0.1).double()
    total = 0.0
    for i, label in enumerate(LABELS.tolist()):
        others = [j for j in range(12) if j != i]
        partners = [j for j in others if LABELS[j] == label]
        if partners:
            bottom = torch.logsumexp(scores[i, others], 0)
            total += -sum(scores[i, j] - bottom for j in partners) / len(partners)
    torch.testing.assert_close(supervised_contrastive_sum(VECTORS, LABELS, 0.1), total.float())
    assert with_partners(LABELS).sum() == 10


def test_batch_hard_triplets_are_the_hardest():
    scores, total = (unit(VECTORS) @ unit(VECTORS).T / 0.1).double(), 0.0
    for i, label in enumerate(LABELS.tolist()):
        partners = [float(scores[i, j]) for j in range(12) if j != i and LABELS[j] == label]
        others = [float(scores[i, j]) for j in range(12) if LABELS[j] != label]
        if partners:
            total += np.log1p(np.exp(max(others) - min(partners)))
    assert float(batch_hard_triplet_sum(VECTORS, LABELS, 0.1)) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("labels", [torch.zeros(12, dtype=torch.int64), torch.arange(12)], ids=["one", "all"])
@pytest.mark.parametrize("loss", [supervised_contrastive_sum, batch_hard_triplet_sum])
def test_nothing_to_compare_leaves_a_finite_loss(loss, labels):
    vectors = VECTORS.clone().requires_grad_()
    found = loss(vectors, labels, 0.1)
    found.backward()
    assert found.isfinite()
    assert vectors.grad.isfinite().all()


def test_pooling_leaves_padding_out():
    states = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    torch.testing.assert_close(pooled(states, mask, "mean"), torch.tensor([[1.0, 2.0], [8.0, 9.0]]))
    torch.testing.assert_close(pooled(states, mask, "cls"), torch.tensor([[0.0, 1.0], [6.0, 7.0]]))
