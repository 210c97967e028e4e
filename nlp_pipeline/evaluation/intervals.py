"""Confidence intervals of scores: the percentile bootstrap (Efron 1979, Annals of Statistics 7(1)) over whole rows.

A score from n rows would have been another one from n other rows. Drawing n of the n rows with replacement, again and
again, shows by how much; the interval holds the middle share of the scores so found. It says nothing of what another
training seed would give, nor of rows of another kind.

A metric that is a function of counts never sees the rows again: rows that count alike make one group, how often each
group is drawn is multinomial, and the drawn counts are one matrix product. Of very many unlike rows it is random groups
that are drawn (metrics/counts.py). Other metrics are computed on drawn rows.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..config.schema import IntervalsConfig
from .metrics.counts import Floats
from .metrics.outputs import Outputs
from .metrics.specs import METRICS, MetricSpec

MOST_WORK = 3_000_000
"""Numbers that are looked at for one metric, in all resamples together: a fraction of a second."""
FEWEST = 200
"""Resamples below which an interval would be noise; a metric that can't afford them gets none."""
UNCERTAIN_KEYS = ("support",)
"""Results that say how much data there is, not how good the model is."""


def bootstrap_intervals(
    names: Iterable[str], outputs: Outputs, settings: IntervalsConfig | None
) -> dict[str, list[float]]:
    """[low, high] of every score that the built-in metrics among `names` give, by the score's key.

    The same for the same outputs and settings, and whatever other metrics are asked for. Never more than MOST_WORK a
    metric: with many rows a costly one gets fewer resamples, or no interval. Where all resamples lie to one side of
    the score itself (few rows, a biased metric), the interval is widened to it.

    Args:
        settings: None gives no interval.
    """
    if settings is None or len(outputs) == 0:
        return {}
    found: dict[str, list[float]] = {}
    counted: dict[str, list[Any]] = {}
    for name in dict.fromkeys(name for name in names if name in METRICS):
        spec = METRICS[name]
        if spec.needs_scores and outputs.scores is None and outputs.reference_scores is None:
            continue
        if spec.counts_rows is None:
            samples = list(_drawn_rows(spec, outputs, settings))
        else:
            if spec.counts_rows not in counted:
                counted[spec.counts_rows] = list(_drawn_counts(spec, outputs, settings))
            function = spec.resolve()
            samples = [function(outputs, counted=sums, **spec.options) for sums in counted[spec.counts_rows]]
        if samples:
            found |= _intervals(spec.values(outputs), samples, settings.confidence)
    return found


def _drawn_counts(spec: MetricSpec, outputs: Outputs, settings: IntervalsConfig) -> Iterator[Any]:
    """The counts of each resample, as the metrics of this kind take them."""
    if not _affordable(settings.resamples, 3 * len(outputs.label_names)):
        return
    tally = spec.tally(outputs)
    groups, columns = tally.table.shape
    resamples = _affordable(settings.resamples, groups + columns + tally.table.nnz // 10)
    rows = int(tally.times.sum())
    if not resamples or not rows:
        return
    times = np.random.default_rng(settings.seed).multinomial(rows, tally.times / rows, size=resamples)
    sums: Floats = np.asarray(tally.table.T @ times.T.astype(np.float64)).T
    for row in sums:
        yield tally.read(row)


def _drawn_rows(spec: MetricSpec, outputs: Outputs, settings: IntervalsConfig) -> Iterator[Mapping[str, float]]:
    """The metric of each resample's rows."""
    predictions, references = np.asarray(outputs.predictions), np.asarray(outputs.references)
    scores, chosen = (outputs.scores, outputs.reference_scores) if spec.needs_scores else (None, None)
    width = 1 if scores is None else int(np.prod(scores.shape[1:]))
    random = np.random.default_rng(settings.seed)
    for _ in range(_affordable(settings.resamples, len(outputs) * width)):
        rows = random.integers(0, len(outputs), len(outputs))
        drawn = [None if column is None else column[rows] for column in (scores, chosen)]
        labels = predictions[rows], references[rows]
        yield spec.values(Outputs(outputs.kind, *labels, drawn[0], outputs.label_names, drawn[1]))


def _affordable(wanted: int, work: int) -> int:
    """Resamples that MOST_WORK pays for; 0 where they are too few to say anything."""
    most = MOST_WORK // max(work, 1)
    return wanted if wanted <= most else most if most >= FEWEST else 0


def _intervals(
    scores: Mapping[str, float], samples: list[Mapping[str, float]], confidence: float
) -> dict[str, list[float]]:
    """The middle share of each score's samples; undefined ones (a label that wasn't drawn) don't count."""
    keys = [key for key, score in scores.items() if np.isfinite(score) and key.split("/")[0] not in UNCERTAIN_KEYS]
    table = np.array([[sample.get(key, np.nan) for key in keys] for sample in samples])
    tail = (1 - confidence) / 2
    intervals = {}
    for key, column in zip(keys, table.T, strict=True):
        if (defined := column[np.isfinite(column)]).size:
            low, high = np.quantile(defined, [tail, 1 - tail])
            intervals[key] = [float(min(low, scores[key])), float(max(high, scores[key]))]
    return intervals
