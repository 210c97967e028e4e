"""Confident learning against an example worked by hand, the paper's own, and seeded label flips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_pipeline.evaluation.confident_learning import (
    calibrated_joint,
    class_thresholds,
    confident_classes,
    confident_joint,
    likely_errors,
    self_confidence,
    suggested_classes,
)

# Seven rows of three classes; row 2 is labelled 0 and looks like 1, row 6 is unsure of everything.
PROBABILITIES = np.array(
    [
        [0.90, 0.05, 0.05],
        [0.80, 0.10, 0.10],
        [0.10, 0.85, 0.05],
        [0.20, 0.80, 0.00],
        [0.25, 0.75, 0.00],
        [0.00, 0.10, 0.90],
        [0.30, 0.35, 0.35],
    ]
)
GIVEN = np.array([0, 0, 0, 1, 1, 2, 2])


def test_every_step_by_hand():
    thresholds = class_thresholds(PROBABILITIES, GIVEN)
    assert thresholds == pytest.approx([(0.9 + 0.8 + 0.1) / 3, (0.8 + 0.75) / 2, (0.9 + 0.35) / 2])
    # row 4 has 0.75 of class 1, below 0.775; row 6 reaches nothing
    assert confident_classes(PROBABILITIES, thresholds).tolist() == [0, 0, 1, 1, -1, 2, -1]
    joint = confident_joint(PROBABILITIES, GIVEN)
    assert joint.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 1]]
    # rows sum to the labels given: 3, 2, 2
    assert calibrated_joint(joint, np.array([3, 2, 2])).tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 2]]
    for prune in ("noise_rate", "class", "both"):
        assert np.flatnonzero(likely_errors(PROBABILITIES, GIVEN, prune)).tolist() == [2]
    assert self_confidence(PROBABILITIES, GIVEN).tolist() == [0.9, 0.8, 0.1, 0.8, 0.75, 0.9, 0.35]
    assert suggested_classes(PROBABILITIES, GIVEN).tolist() == [1, 1, 1, 0, 0, 1, 1]


def test_the_paper_s_calibration():
    """Figure 1 of the paper: its confident joint becomes its joint, in hundredths."""
    joint = np.array([[100, 40, 20], [56, 60, 0], [32, 12, 80]])
    calibrated = calibrated_joint(joint, joint.sum(axis=1))
    assert np.round(calibrated / calibrated.sum(), 2).tolist() == [
        [0.25, 0.1, 0.05],
        [0.14, 0.15, 0],
        [0.08, 0.03, 0.2],
    ]


def test_a_class_without_confident_rows_keeps_its_labels():
    joint = calibrated_joint(np.array([[0, 0], [1, 3]]), np.array([5, 8]))
    assert joint.tolist() == [[5, 0], [2, 6]]


def test_a_class_that_labels_nothing_is_never_suspected():
    probabilities = np.array([[0.5, 0.1, 0.4], [0.1, 0.2, 0.7]])
    assert confident_joint(probabilities, np.array([0, 1]))[:, 2].tolist() == [0, 0, 0]
    assert not likely_errors(probabilities, np.array([0, 1])).any()


def predicted(truth, classes, random, certainty):
    """Probabilities of a model that is right: the true class gets `certainty` and a share of the noise."""
    noise = random.dirichlet(np.ones(classes), len(truth)) * (1 - certainty)
    noise[np.arange(len(truth)), truth] += certainty
    return noise


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 8), certainty=st.floats(0.55, 0.99))
@settings(max_examples=40)
def test_clean_labels_are_never_flagged(seed, classes, certainty):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, 120)
    assert not likely_errors(predicted(truth, classes, random, certainty), truth).any()


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 8), prune=st.sampled_from(["noise_rate", "class", "both"]))
@settings(max_examples=40)
def test_flipped_labels_are_found(seed, classes, prune):
    precision, recall = quality(seed, classes, prune)
    assert precision > 0.95
    assert recall > 0.45  # the counts of rare pairs are rounded


@pytest.mark.parametrize("prune", ["noise_rate", "class", "both"])
def test_most_flipped_labels_are_found(prune):
    assert np.mean([quality(seed, 4, prune)[1] for seed in range(20)]) > 0.8


def quality(seed, classes, prune):
    """Precision and recall with one label in ten flipped to any other."""
    random = np.random.default_rng(seed)
    truth = np.arange(600) % classes
    flipped = random.random(600) < 0.1
    given = np.where(flipped, (truth + random.integers(1, classes, 600)) % classes, truth)
    found = likely_errors(predicted(truth, classes, random, 0.6), given, prune)
    return (found & flipped).sum() / max(found.sum(), 1), (found & flipped).sum() / flipped.sum()


def test_worse_labels_have_less_confidence():
    random = np.random.default_rng(0)
    truth = np.arange(300) % 3
    given = np.where(np.arange(300) < 30, (truth + 1) % 3, truth)
    sure = self_confidence(predicted(truth, 3, random, 0.6), given)
    assert sorted(np.argsort(sure)[:30].tolist()) == list(range(30))
