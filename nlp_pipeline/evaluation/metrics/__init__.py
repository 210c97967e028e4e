"""Metrics as `evaluate.Metric` modules that live in the package and need no network.

Pure functions do the arithmetic (`classification`, `scores`, `regression`, `tagging`), one adapter
(`module`) makes each of them an `evaluate.Metric`, and `compute` runs a list of them over what a task
predicted. Importing this package costs nothing heavy: the config layer reads the names from here before
torch, evaluate or datasets are loaded.
"""

from nlp_pipeline.evaluation.metrics.compute import compute_metrics, load_metric
from nlp_pipeline.evaluation.metrics.outputs import Kind, Outputs
from nlp_pipeline.evaluation.metrics.specs import (
    METRICS,
    MetricSpec,
    check_metric_names,
    greater_is_better,
    main_key,
)

__all__ = [
    "METRICS",
    "Kind",
    "MetricSpec",
    "Outputs",
    "check_metric_names",
    "compute_metrics",
    "greater_is_better",
    "load_metric",
    "main_key",
]
