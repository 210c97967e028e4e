"""The confusion matrix: as scikit-learn counts it, for a few labels that exclude each other."""

import numpy as np
from sklearn.metrics import confusion_matrix as theirs

from nlp_pipeline.evaluation.confusion import MOST_LABELS, confusion_matrix
from nlp_pipeline.evaluation.metrics.outputs import Outputs


def outputs(labels, rows=200, seed=0):
    random = np.random.default_rng(seed)
    names = tuple(f"label {i}" for i in range(labels))
    return Outputs("single_label", random.integers(labels, size=rows), random.integers(labels, size=rows), None, names)


def test_the_matrix_is_scikit_learns():
    for labels in (2, 5, MOST_LABELS):
        ours = outputs(labels, seed=labels)
        expected = theirs(ours.references, ours.predictions, labels=range(labels)).tolist()
        assert confusion_matrix(ours) == {"labels": list(ours.label_names), "counts": expected}


def test_a_label_that_never_occurs_has_its_row_and_column():
    one = Outputs("single_label", np.array([0, 2]), np.array([0, 0]), None, ("a", "b", "c"))
    assert confusion_matrix(one)["counts"] == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_there_is_none_where_nobody_would_read_it_or_labels_go_together():
    assert confusion_matrix(outputs(MOST_LABELS + 1)) is None
    assert confusion_matrix(Outputs("single_label", np.array([1]), np.array([0]))) is None
    both = np.ones((3, 2), bool)
    assert confusion_matrix(Outputs("multi_label", both, both, label_names=("a", "b"))) is None
