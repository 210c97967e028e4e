"""A logistic regression over embeddings: a linear head that is fitted at once, not by gradient steps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

FILE = "logistic_head.safetensors"
ABSENT = -1e4
"""The logit of a label that no training row has: its probability is 0 in float32."""


@dataclass(frozen=True)
class LogisticHead:
    """`weight` float32[labels, features] and `bias` float32[labels]; a softmax of the logits gives probabilities."""

    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def fit(cls, vectors: np.ndarray, labels: np.ndarray, size: int, regularization: float) -> "LogisticHead":
        """Multinomial, L2-regularised (scikit-learn's LogisticRegression).

        Args:
            vectors: float[texts, features].
            labels: int64[texts], below `size`; at least two different ones.
            regularization: scikit-learn's C: the smaller, the smaller the weights.
        """
        from sklearn.linear_model import LogisticRegression

        found = LogisticRegression(C=regularization, max_iter=1000).fit(vectors.astype(np.float64), labels)
        weight, bias = np.zeros((size, vectors.shape[1]), np.float32), np.full(size, ABSENT, np.float32)
        if len(found.classes_) == 2:  # the log-odds of the second label
            bias[found.classes_[0]] = 0.0
            weight[found.classes_[1]], bias[found.classes_[1]] = found.coef_[0], found.intercept_[0]
        else:
            weight[found.classes_], bias[found.classes_] = found.coef_, found.intercept_
        return cls(weight, bias)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """float32[texts, labels] logits of float32[texts, features]."""
        logits: np.ndarray = vectors @ self.weight.T + self.bias
        return logits

    def save(self, folder: Path) -> None:
        """Write it beside a model."""
        from safetensors.numpy import save_file

        save_file({"weight": self.weight, "bias": self.bias}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "LogisticHead":
        """Read it back.

        Raises:
            ModelError: it isn't there or isn't one.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        from ..errors import ModelError

        try:
            found = load_file(folder / FILE)
            return cls(found["weight"], found["bias"])
        except (OSError, SafetensorError, KeyError):
            raise ModelError(f"{folder / FILE} is missing or damaged; the run has to be trained again") from None
