"""Generated summaries beside right ones: ROUGE (Lin 2004), computed by Google's rouge-score."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from nlp_pipeline.evaluation.metrics.counts import Floats, Tally, sums_tally
from nlp_pipeline.evaluation.metrics.outputs import Outputs

NAMES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def rouge(outputs: Outputs, *, counted: Floats | None = None) -> dict[str, float]:
    """Mean F1 of shared words, word pairs and longest common sequences, from 0 to 1, words stemmed.

    `rougeLsum` goes by lines, the others by whole texts. Of several right texts the best one counts for each.
    """
    sums = _columns(outputs).sum(0) if counted is None else counted
    return {
        name: float(value / sums[-1]) if sums[-1] else float("nan") for name, value in zip(NAMES, sums, strict=False)
    }


def tally(outputs: Outputs) -> Tally:
    """The sums that all are functions of."""
    return sums_tally(_columns(outputs))


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(NAMES, use_stemmer=True)


def _columns(outputs: Outputs) -> Floats:
    """float64[texts, 5]: the F1 of each measure, and 1."""
    rows = []
    for found, right in zip(outputs.predictions, outputs.references, strict=True):
        scores = _scorer().score_multi(list(right) or [""], found)
        rows.append([*(scores[name].fmeasure for name in NAMES), 1.0])
    return np.array(rows, np.float64).reshape(-1, len(NAMES) + 1)
