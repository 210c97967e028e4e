"""What a model makes of pairs of replies, of which people chose one."""

from __future__ import annotations

import numpy as np

from nlp_pipeline.evaluation.metrics.counts import Floats, Tally, sums_tally
from nlp_pipeline.evaluation.metrics.outputs import Outputs

_NAMES = ("preference_accuracy", "reward_margin", "chosen_log_probability", "rejected_log_probability")


def mean_of(outputs: Outputs, name: str, *, counted: Floats | None = None) -> dict[str, float]:
    """The mean over pairs of what `name` stands for; nan without any. Equal rewards are not rightly ordered."""
    sums = _columns(outputs).sum(0) if counted is None else counted
    return {name: float(sums[_NAMES.index(name)] / sums[-1]) if sums[-1] else float("nan")}


def tally(outputs: Outputs) -> Tally:
    """The sums that all are functions of."""
    return sums_tally(_columns(outputs))


def _columns(outputs: Outputs) -> Floats:
    """float64[pairs, 5]: whether the chosen reply's reward is larger, by how much, both log-likelihoods, 1."""
    rewards = np.asarray(outputs.predictions, np.float64).reshape(-1, 2)
    likelihoods = np.asarray(outputs.references, np.float64).reshape(-1, 2)
    margins = rewards[:, 0] - rewards[:, 1]
    return np.column_stack([margins > 0, margins, likelihoods, np.ones(len(margins))])
