"""Label names and their ids: the one place where names become numbers and back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import DataError
from .problems import RowProblem

if TYPE_CHECKING:
    import pyarrow as pa

MAX_SHOWN = 10


@dataclass(frozen=True)
class Labels:
    """An ordered set of label names; a label's id is its position.

    Everything outside this class speaks of names. Ids exist only inside tensors, and a model carries the names in
    its config, so that no two files can disagree on what an id means.
    """

    names: tuple[str, ...]

    @classmethod
    def from_values(cls, values: Iterable[str], first: str | None = None) -> "Labels":
        """The distinct values, whole numbers in numeric order, all else in alphabetical; `first` leads if present."""
        distinct = set(values)
        numeric = all(value.lstrip("-").isdigit() for value in distinct)
        ordered = sorted(distinct, key=lambda value: (int(value), value)) if numeric else sorted(distinct)
        if first in distinct:
            ordered.remove(first)
            ordered.insert(0, first)
        return cls(tuple(ordered))

    @classmethod
    def from_model_config(cls, config: Any) -> "Labels | None":
        """The names that a model carries, transformers' placeholders LABEL_0, LABEL_1, … included."""
        names = {int(i): str(name) for i, name in (getattr(config, "id2label", None) or {}).items()}
        return cls(tuple(names[i] for i in sorted(names))) if names else None

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Name to id."""
        return {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, values: Sequence[str]) -> np.ndarray:
        """Names to ids, int64[n]. Names must be known: call `check` on the split first."""
        ids = self.ids
        return np.fromiter((ids[value] for value in values), np.int64, len(values))

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Ids to names."""
        return [self.names[i] for i in ids]

    def check(self, values: Iterable[Sequence[str]], row_ids: Sequence[str], split: str) -> list[str]:
        """Problems with the names of each row of a split that training never showed."""
        unknown: dict[str, list[str]] = {}
        for row_id, row_values in zip(row_ids, values, strict=True):
            for value in row_values:
                if value not in self.ids:
                    unknown.setdefault(value, []).append(row_id)
        fix = "remove these rows or add training rows with it"
        return [
            RowProblem(
                f"{split}: the label {name!r} (rows {shown(rows)}) is not among the training labels; {fix}",
                "unseen_label",
                {split: rows},
            )
            for name, rows in sorted(unknown.items())
        ]

    def counts(self, rows: Iterable[Sequence[str]]) -> np.ndarray:
        """int64[labels], how often each occurs; unknown names are passed over."""
        ids = self.ids
        flat = [ids[name] for names in rows for name in names if name in ids]
        return np.bincount(np.array(flat, np.int64), minlength=len(self))

    def reordered_like(self, other: "Labels | None") -> "Labels":
        """The other's order if it has exactly these names: a checkpoint's head then keeps its meaning."""
        return other if other is not None and set(other.names) == set(self.names) else self

    def model_settings(self) -> dict[str, Any]:
        """What goes into the model's config."""
        return {
            "num_labels": len(self),
            "id2label": dict(enumerate(self.names)),
            "label2id": dict(self.ids),
        }


def require_labels(labels: Labels, column: str, at_least: int = 2) -> None:
    """Raise DataError when there is nothing to tell apart."""
    if len(labels) < at_least:
        raise DataError(
            f"training rows: the column {column!r} has {len(labels)} distinct value(s) {list(labels.names)}; "
            f"expected at least {at_least} to learn from"
        )


def shown(items: Sequence[Any]) -> str:
    """The first few of a long list, for a message."""
    head = ", ".join(str(item) for item in items[:MAX_SHOWN])
    return f"{head} and {len(items) - MAX_SHOWN} more" if len(items) > MAX_SHOWN else head


def column(rows: Any, name: str) -> list[Any]:
    """A column of a `datasets.Dataset` as a plain list."""
    from .arrow_tables import table_of

    # A selection of rows should not gather what nobody asked for.
    rows = rows if rows._indices is None else rows.select_columns([name])
    return table_of(rows).column(name).to_pylist()


def label_column(values: Sequence[Any], kind: str, labels: Labels | None) -> "pa.Array":
    """Labels by their ids, lists of them (`multi_label`), or numbers (without `labels`), an entry a row."""
    import pyarrow as pa

    if labels is None:
        return pa.array(values, pa.float32())
    if kind == "single_label":
        return pa.array(labels.encode(values))
    return pa.array([labels.encode(names) for names in values], pa.list_(pa.int64()))


def log_odds(counts: np.ndarray, rows: int) -> np.ndarray:
    """float32[labels], the log-odds of each label's share: where the bias of several yes-or-no outputs should start.

    From 0 every rare label first has to be unlearned, by steps so large that they can wreck the layers below for good
    (Lin et al. 2017, arXiv:1708.02002, section 4.1).
    """
    share = (counts + 0.5) / (rows + 1.0)
    result: np.ndarray = np.log(share / (1 - share)).astype(np.float32)
    return result


ClassWeights = Literal["balanced"] | dict[str, float] | None


def label_weights(
    setting: ClassWeights, labels: Labels, rows: Sequence[Sequence[str]], kind: str
) -> tuple[np.ndarray | None, list[str]]:
    """float32[labels] weights in the loss, and problems with the setting.

    `balanced` gives rows / (labels × count), as scikit-learn does; for several labels a row, absent / present.
    """
    if setting is None:
        return None, []
    if setting == "balanced":
        counts = np.maximum(labels.counts(rows), 1)
        weights = (len(rows) - counts) / counts if kind == "multi_label" else counts.sum() / (len(labels) * counts)
        return np.maximum(weights, 1e-3).astype(np.float32), []
    problems = [
        f"options.class_weights: there is no label {name!r}; the labels are {shown(labels.names)}"
        for name in setting
        if name not in labels.ids
    ]
    problems += [
        f"options.class_weights.{n}: found {w}, expected a number above 0" for n, w in setting.items() if w <= 0
    ]
    return np.array([setting.get(name, 1.0) for name in labels.names], np.float32), problems
