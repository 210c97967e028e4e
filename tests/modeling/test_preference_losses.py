"""Losses over pairs of replies, against values computed by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline.data.fields import IGNORED
from nlp_pipeline.evaluation.metrics import Outputs, compute_metrics
from nlp_pipeline.modeling.heads import log_likelihoods
from nlp_pipeline.modeling.losses import dpo_loss_sum, ipo_loss_sum, orpo_loss_sum, preference_loss_sum


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_dpo_by_hand():
    """ln 2 without a margin; beta 0.1 and margins 5 and -10: -ln sigmoid(0.5) - ln sigmoid(-1) = 0.4741 + 1.3133."""
    assert float(dpo_loss_sum(torch.zeros(3), 0.1)) == pytest.approx(3 * math.log(2))
    assert float(dpo_loss_sum(torch.tensor([5.0, -10.0]), 0.1)) == pytest.approx(0.474077 + 1.313262, abs=1e-5)
    smoothed = -0.9 * math.log(sigmoid(0.5)) - 0.1 * math.log(sigmoid(-0.5))
    assert float(dpo_loss_sum(torch.tensor([5.0]), 0.1, 0.1)) == pytest.approx(smoothed)


def test_ipo_by_hand():
    """tau 0.1 draws margins to 5: (5 - 5)^2 + (2 - 5)^2 = 9."""
    assert float(ipo_loss_sum(torch.tensor([5.0, 2.0]), 0.1)) == pytest.approx(9.0)


def test_orpo_by_hand():
    """Mean probabilities 1/2 and 1/5 a token: odds 1 and 1/4, ratio 4; ln 2 - 0.1 ln sigmoid(ln 4) = ln 2 - 0.1 ln 0.8."""
    chosen, rejected = torch.tensor([0.5]).log(), torch.tensor([0.2]).log()
    assert float(orpo_loss_sum(chosen, rejected, 0.1)) == pytest.approx(math.log(2) - 0.1 * math.log(0.8))


@given(st.lists(st.floats(-500, 500), min_size=1, max_size=5), st.floats(0.01, 2))
def test_losses_fall_with_the_margin_and_stay_finite(margins, beta):
    given = torch.tensor(margins, requires_grad=True)
    loss = dpo_loss_sum(given, beta)
    loss.backward()
    assert bool(loss.isfinite())
    assert bool((given.grad <= 0).all())
    below = -torch.tensor(margins).abs().clamp(min=1e-9).requires_grad_()
    certain = orpo_loss_sum(below, torch.full_like(below, -1.0), beta)
    assert bool(certain.isfinite())


def test_log_likelihoods_are_sums_over_each_sequence():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 7, requires_grad=True)
    labels = torch.tensor([[1, IGNORED, 3], [IGNORED, IGNORED, 6]])
    found = log_likelihoods(logits[labels != IGNORED], labels)
    whole = logits.log_softmax(-1)
    torch.testing.assert_close(found, torch.stack([whole[0, 0, 1] + whole[0, 2, 3], whole[1, 2, 6]]))
    found.sum().backward()
    assert (logits.grad[0, 1] == 0).all()
    assert log_likelihoods(logits[labels == 99], torch.full((1, 3), IGNORED)).tolist() == [0.0]


def test_metrics_of_pairs():
    rewards = np.array([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]])
    likelihoods = np.array([[-3.0, -6.0], [-1.0, -2.0], [-2.0, -1.0]])
    names = ["preference_accuracy", "reward_margin", "chosen_log_probability", "rejected_log_probability"]
    scores = compute_metrics(names, Outputs("preference", rewards, likelihoods))
    assert scores == pytest.approx(dict(zip(names, (1 / 3, -2 / 3, -2.0, -3.0), strict=True)))


def test_losses_of_pairs_by_hand():
    """Gains 2 and -1 of 4 and 2 tokens: margin 3 in all, 1 by the token."""
    scores, reference = torch.tensor([-4.0, -3.0]), torch.tensor([-6.0, -2.0])
    tokens = torch.tensor([4, 2])
    assert float(preference_loss_sum("dpo", scores, tokens, reference, 0.5)) == pytest.approx(-math.log(sigmoid(1.5)))
    assert float(preference_loss_sum("ipo", scores, tokens, reference, 0.25)) == pytest.approx((1 - 2) ** 2)
    odds = [math.exp(m) / (1 - math.exp(m)) for m in (-1.0, -1.5)]
    expected = 1.0 - 0.5 * math.log(sigmoid(math.log(odds[0] / odds[1])))
    assert float(preference_loss_sum("orpo", scores, tokens, None, 0.5)) == pytest.approx(expected)
