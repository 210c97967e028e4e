"""Metrics of probabilities: float[n, labels], or float[n] for the second of two labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from nlp_pipeline.evaluation.metrics.counts import Floats
from nlp_pipeline.evaluation.metrics.outputs import Outputs

NAN = float("nan")


def log_loss(outputs: Outputs) -> dict[str, float]:
    """Mean negative log probability of the reference label, in nats.

    Columns are label indices, so a label that is absent from the references changes nothing.
    Probabilities are clipped to [eps, 1 - eps] of their own precision, as scikit-learn does, which keeps one
    confident mistake from making the mean infinite. nan for empty input.
    """
    if len(outputs) == 0:
        return {"log_loss": NAN}
    chosen = outputs.reference_scores
    if chosen is None:
        scores = _scores(outputs)
        if scores.ndim == 1:
            scores = np.stack([1 - scores, scores], axis=1)
        chosen = scores[np.arange(len(outputs)), np.asarray(outputs.references, dtype=np.int64)]
    if not np.isfinite(chosen).all():
        return {"log_loss": NAN}
    eps = np.finfo(chosen.dtype).eps
    # float64 before clipping: 1 - eps is not a float16
    chosen = np.clip(chosen.astype(np.float64), eps, 1 - eps)
    return {"log_loss": float(-np.log(chosen).mean())}


def roc_auc(outputs: Outputs) -> dict[str, float]:
    """Area under the ROC curve.

    single_label with two labels: of the second; with more: the mean of one label against the rest, over the
    labels that have both positive and negative rows. multi_label: the same mean over its labels. nan when
    no label has both, and when a score is nan.
    """
    if len(outputs) == 0:
        return {"roc_auc": NAN}
    scores, references = _scores(outputs), np.asarray(outputs.references)
    if outputs.kind == "multi_label":
        if scores.shape != references.shape:
            raise ValueError(f"roc_auc needs scores of shape {references.shape}, found {scores.shape}")
        # A label at a time: the scores may be larger than memory.
        areas = [_area(scores[:, k], references[:, k].astype(bool)) for k in range(scores.shape[1])]
    elif scores.ndim == 1 or scores.shape[1] <= 2:
        areas = [_area(scores.reshape(len(outputs), -1)[:, -1], references == 1)]
    else:
        areas = [_area(scores[:, k], references == k) for k in range(scores.shape[1])]
    defined = [area for area in areas if area is not None]
    return {"roc_auc": float(np.mean(defined)) if defined else NAN}


def _area(scores: np.ndarray[Any, Any], positive: np.ndarray[Any, Any]) -> float | None:
    """Area for float[n] scores and bool[n] truth as the Mann-Whitney statistic; None for one class only."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return None
    if np.isnan(scores).any():
        return NAN
    ranks: Floats = rankdata(scores)  # ties share their mean rank, which counts them as half right
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _scores(outputs: Outputs) -> np.ndarray[Any, Any]:
    """The scores as a float array in their own precision."""
    if outputs.scores is None:
        raise ValueError("this metric needs scores (probabilities), and the outputs have none")
    scores = np.asarray(outputs.scores)
    return scores if np.issubdtype(scores.dtype, np.floating) else scores.astype(np.float64)
