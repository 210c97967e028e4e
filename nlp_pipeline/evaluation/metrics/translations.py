"""Generated texts beside right ones by their n-grams, as sacreBLEU counts them (Post 2018, arXiv:1804.08771)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from nlp_pipeline.evaluation.metrics.counts import Floats, Tally, sums_tally
from nlp_pipeline.evaluation.metrics.outputs import Outputs

BLEU_COLUMNS = 10
"""Lengths of both, and of 1- to 4-grams those that match and all."""


def bleu(outputs: Outputs, *, counted: Floats | None = None) -> dict[str, float]:
    """Corpus BLEU from 0 to 100 (Papineni et al. 2002), words split as by mteval-v13a; any number of right texts."""
    return {"bleu": _score("bleu", _columns(outputs).sum(0) if counted is None else counted)}


def chrf(outputs: Outputs, *, counted: Floats | None = None) -> dict[str, float]:
    """Corpus chrF from 0 to 100 (Popović 2015): character n-grams; of several right texts the one that fits best."""
    return {"chrf": _score("chrf", _columns(outputs).sum(0) if counted is None else counted)}


def tally(outputs: Outputs) -> Tally:
    """The sums that both are functions of."""
    return sums_tally(_columns(outputs))


@cache
def _counters() -> dict[str, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {"bleu": BLEU(), "chrf": CHRF()}


def _score(name: str, sums: Floats) -> float:
    part = sums[:BLEU_COLUMNS] if name == "bleu" else sums[BLEU_COLUMNS:-1]
    if not sums[-1]:
        return float("nan")
    return float(_counters()[name]._compute_score_from_stats(part.tolist()).score)


def _columns(outputs: Outputs) -> Floats:
    """float64[texts, 29], what each text adds to the counts of BLEU and of chrF, and 1."""
    counters = _counters().values()
    width = BLEU_COLUMNS + 3 * _counters()["chrf"].order + 1
    rows = []
    for found, right in zip(outputs.predictions, outputs.references, strict=True):
        row: list[float] = []
        for counter in counters:
            prepared = [counter._preprocess_segment(text) for text in (found, *(right or [""]))]
            row += counter._compute_segment_statistics(prepared[0], counter._extract_reference_info(prepared[1:]))
        rows.append([*row, 1.0])
    return np.array(rows, np.float64).reshape(-1, width)
