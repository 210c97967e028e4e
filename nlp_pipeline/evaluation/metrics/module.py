"""The adapter: a built-in metric as an `evaluate.Metric`. Imported only when a metric is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from nlp_pipeline.evaluation.metrics.outputs import KINDS, Kind, Outputs, is_listed
from nlp_pipeline.evaluation.metrics.specs import MetricSpec

SCORES = "prediction_scores"
"""The column's name in the Hub's roc_auc."""


class BuiltinMetric(evaluate.Metric):
    """One `MetricSpec` behind the interface of `evaluate`: add, add_batch, compute, combine.

    `evaluate.Metric` writes batches to an Arrow file in the user's cache, reads them back as Python lists,
    and seeds numpy's global generator while it computes. This class keeps the batches as arrays in memory
    instead: no file, no copy of the scores through Python floats, no state shared between instances. One
    instance serves one thread; different instances are independent. It gathers nothing across processes:
    the caller hands over the whole split.
    """

    def __init__(self, spec: MetricSpec) -> None:
        self.spec = spec
        self._columns: dict[str, list[Any]] = {}
        super().__init__(keep_in_memory=True)
        self.info.module_name = spec.name

    def _info(self) -> evaluate.MetricInfo:
        kinds = [kind for kind in KINDS if kind in self.spec.kinds]
        return evaluate.MetricInfo(
            description=self.spec.description,
            citation="",
            inputs_description="\n\nKeyword `label_names`: one name per label, in index order.",
            features=[self._features(kind) for kind in kinds],
        )

    def _features(self, kind: Kind) -> datasets.Features:
        if self.spec.needs_scores:
            scores = datasets.Sequence(datasets.Value("float64"))
            return datasets.Features({"references": _feature(KINDS[kind].references), SCORES: scores})
        types = {"predictions": KINDS[kind].predictions, "references": KINDS[kind].references}
        return datasets.Features({name: _feature(kind) for name, kind in types.items()})

    def _build_data_dir(self) -> str:
        """No folder: the base class would create one in the user's cache."""
        return ""

    def __len__(self) -> int:
        return sum(len(batch) for batch in self._columns.get("references", []))

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Add one prediction and its reference."""
        one = {"predictions": prediction, "references": reference, **kwargs}
        self.add_batch(**{name: [value] for name, value in one.items() if value is not None})

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Add lists or arrays of predictions and references, one item a row."""
        # copied, since the caller may refill its buffers before compute()
        self._store({"predictions": predictions, "references": references, **kwargs}, copy=True)

    def _store(self, columns: Mapping[str, Any], copy: bool) -> None:
        """Check one batch and keep it."""
        given = {name: batch for name, batch in columns.items() if batch is not None}
        wanted = self._feature_names()
        if set(given) != set(wanted):
            raise ValueError(f"metric {self.name} takes {', '.join(wanted)}; found {', '.join(given)}")
        lengths = {name: len(batch) for name, batch in given.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"metric {self.name} needs columns of one length; found {lengths}")
        for name, batch in given.items():
            self._columns.setdefault(name, []).append(self._copied(batch) if copy else batch)

    def _copied(self, batch: Any) -> Any:
        # asarray(...).copy(), since np.array(tensor) warns that torch takes no `copy` argument
        return list(batch) if any(is_listed(kind) for kind in self.spec.kinds) else np.asarray(batch).copy()

    def compute(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> dict[str, float]:
        """Compute over the rows given here and those added before, then forget them."""
        given = {"predictions": predictions, "references": references}
        given |= {name: kwargs.pop(name) for name in self._feature_names() if name in kwargs}
        try:
            if any(batch is not None for batch in given.values()):
                self._store(given, copy=False)
            if not self._columns:
                raise ValueError(f"metric {self.name} has no rows: call add, add_batch or compute(...) with some")
            return self._compute(**self._columns, **kwargs)
        finally:
            self._columns = {}

    def _compute(
        self,
        *,
        references: list[Any],
        predictions: list[Any] | None = None,
        prediction_scores: list[Any] | None = None,
        label_names: Sequence[str] = (),
    ) -> dict[str, float]:
        """Join the batches and call the pure function."""
        kind = self._kind(references)
        truth = _join(references, kind)
        scores = None if prediction_scores is None else _concatenate(prediction_scores)
        # a metric of scores reads no predictions; the references stand in to keep the rows in step
        guess = truth if predictions is None else _join(predictions, kind)
        return self.spec.values(Outputs(kind, guess, truth, scores, tuple(label_names)))

    def _kind(self, references: list[Any]) -> Kind:
        """The kind of prediction, which the references' shape decides where a metric fits several."""
        if "multi_label" not in self.spec.kinds:
            return next(kind for kind in KINDS if kind in self.spec.kinds)
        return "multi_label" if np.ndim(_concatenate(references)) == 2 else "single_label"


def _feature(name: str) -> Any:
    """The type of `datasets` that a KindSpec names."""
    value = datasets.Value(name.strip("[]"))
    return datasets.Sequence(value) if name.startswith("[") else value


def _join(batches: list[Any], kind: Kind) -> Any:
    """All batches as one column of the type that `Outputs` states for `kind`."""
    if is_listed(kind):
        # One batch stays as it is: it may be a column that makes its lists when they are asked for.
        return batches[0] if len(batches) == 1 else [row for batch in batches for row in batch]
    column = _concatenate(batches)
    if kind == "multi_label" and column.dtype == bool:
        return column
    if "float" in KINDS[kind].predictions:
        return column.astype(np.float64)
    labels = column.astype(np.int64)
    if not np.array_equal(labels, column):
        raise ValueError(f"labels must be whole numbers, found {column[labels != column][:3].tolist()}")
    return labels.astype(bool) if kind == "multi_label" else labels


def _concatenate(batches: list[Any]) -> np.ndarray[Any, Any]:
    """Arrays joined along rows. Empty lists have no width to agree on, so they are left out."""
    arrays = [np.asarray(batch) for batch in batches]
    filled = [array for array in arrays if len(array)] or arrays[:1]
    return filled[0] if len(filled) == 1 else np.concatenate(filled)


def module_inputs(module: evaluate.EvaluationModule) -> set[str]:
    """The names of the columns a module asks for."""
    features = module.features[0] if isinstance(module.features, list) else module.features
    return set(features)


def as_columns(outputs: Outputs) -> Mapping[str, Any]:
    """`Outputs` under the column names that modules of `evaluate` use, as plain integers and floats."""
    columns: dict[str, Any] = {"predictions": outputs.predictions, "references": outputs.references}
    if outputs.kind == "multi_label":
        columns = {name: np.asarray(column).astype(np.int64) for name, column in columns.items()}
    if outputs.scores is not None:
        columns[SCORES] = outputs.scores
    return columns
