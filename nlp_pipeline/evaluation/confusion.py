"""Which labels are taken for which."""

from typing import Any

import numpy as np

from .metrics.outputs import Outputs

MOST_LABELS = 30
"""A matrix of more labels is nothing that one reads."""


def confusion_matrix(outputs: Outputs) -> dict[str, Any] | None:
    """`labels`, and `counts` of rows: [labels, labels], a row for each right label, a column for each predicted one.

    None where labels don't exclude each other, have no names, or are too many.
    """
    size = len(outputs.label_names)
    if outputs.kind != "single_label" or not 2 <= size <= MOST_LABELS:
        return None
    cells = np.asarray(outputs.references, np.int64) * size + np.asarray(outputs.predictions, np.int64)
    counts = np.bincount(cells, minlength=size * size).reshape(size, size)
    return {"labels": list(outputs.label_names), "counts": counts.tolist()}
