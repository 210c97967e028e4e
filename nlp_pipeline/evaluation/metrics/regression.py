"""Metrics of numbers: predictions and references float[n], computed in float64.

A nan or infinite prediction, as a diverged model gives, makes every metric nan; so does empty input.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from nlp_pipeline.evaluation.metrics.counts import Floats
from nlp_pipeline.evaluation.metrics.outputs import Outputs

NAN = float("nan")


def mse(outputs: Outputs) -> dict[str, float]:
    """Mean squared error, in squared target units."""
    return {"mse": _mean_squared_error(outputs)}


def rmse(outputs: Outputs) -> dict[str, float]:
    """Root mean squared error, in target units."""
    return {"rmse": float(np.sqrt(_mean_squared_error(outputs)))}


def mae(outputs: Outputs) -> dict[str, float]:
    """Mean absolute error, in target units."""
    columns = _columns(outputs)
    if columns is None:
        return {"mae": NAN}
    with np.errstate(over="ignore"):
        return {"mae": float(np.abs(columns[0] - columns[1]).mean())}


def r2(outputs: Outputs) -> dict[str, float]:
    """1 - residual / total sum of squares; nan for constant references, which have nothing to explain."""
    columns = _columns(outputs)
    if columns is None or _is_constant(columns[1]):
        return {"r2": NAN}
    predictions, references = columns
    # a huge prediction may overflow to an infinite residual: the right answer, no need of a warning
    with np.errstate(over="ignore", invalid="ignore"):
        residual = np.square(references - predictions).sum()
        total = np.square(references - references.mean()).sum()
        return {"r2": float(1 - residual / total) if total > 0 else NAN}


def pearson(outputs: Outputs) -> dict[str, float]:
    """Linear correlation in [-1, 1]; nan when either side is constant."""
    columns = _columns(outputs)
    return {"pearson": NAN if columns is None else _correlation(*columns)}


def spearman(outputs: Outputs) -> dict[str, float]:
    """Rank correlation in [-1, 1], ties at their mean rank; nan when either side is constant."""
    columns = _columns(outputs)
    value = NAN if columns is None else _correlation(rankdata(columns[0]), rankdata(columns[1]))
    return {"spearman": value}


def _columns(outputs: Outputs) -> tuple[Floats, Floats] | None:
    """Predictions and references as float64[n], or None where no metric is defined."""
    predictions = np.asarray(outputs.predictions, dtype=np.float64).reshape(-1)
    references = np.asarray(outputs.references, dtype=np.float64).reshape(-1)
    if predictions.shape != references.shape:
        raise ValueError(f"regression needs one number per row, found {predictions.size} for {references.size}")
    if len(references) == 0 or not (np.isfinite(predictions).all() and np.isfinite(references).all()):
        return None
    return predictions, references


def _mean_squared_error(outputs: Outputs) -> float:
    columns = _columns(outputs)
    if columns is None:
        return NAN
    with np.errstate(over="ignore"):
        return float(np.square(columns[0] - columns[1]).mean())


def _is_constant(values: Floats) -> bool:
    """Exact comparison: the mean's rounding would leave a constant column a tiny false variance."""
    return bool((values == values[0]).all())


def _correlation(left: Floats, right: Floats) -> float:
    """Pearson's r by hand: scipy's warns on constant and near-constant input and refuses n = 1."""
    if _is_constant(left) or _is_constant(right):
        return NAN
    left, right = _centred(left), _centred(right)
    norms = float(np.sqrt((left @ left) * (right @ right)))
    return min(1.0, max(-1.0, float(left @ right) / norms)) if norms > 0 else NAN


def _centred(values: Floats) -> Floats:
    """Mean 0 and largest magnitude 1, so that squares neither overflow nor underflow."""
    centred = values / np.abs(values).max()
    centred = centred - centred.mean()
    largest = np.abs(centred).max()
    scaled: Floats = centred / largest if largest > 0 else centred
    return scaled
