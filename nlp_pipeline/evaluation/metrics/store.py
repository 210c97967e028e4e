"""Outputs gathered window after window: in memory while they are small, in a temporary file beyond that.

What grows with the rows is a few bytes a row; a matrix of rows and labels is kept only where a metric reads it whole.
Parts of a file that are in use count as resident memory until the system wants it back.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np

from nlp_pipeline.evaluation.metrics.compute import compute_metrics, wants_scores
from nlp_pipeline.evaluation.metrics.outputs import Kind, Outputs, is_listed
from nlp_pipeline.evaluation.metrics.specs import METRICS

SPILL_BYTES = 64 * 2**20
"""Largest array that is kept in memory."""


class OutputStore:
    """The outputs of a split, from those of its windows.

    Args:
        names: the metrics that will be asked for: what none of them reads isn't kept.
        rows: about how many outputs there will be.
    """

    def __init__(self, names: Iterable[str], rows: int) -> None:
        self.names = list(dict.fromkeys(names))
        self._rows = rows
        self._whole = any(wants_scores(name) for name in self.names)
        self._chosen = any(name in METRICS and METRICS[name].reference_score_does for name in self.names)
        self._columns: dict[str, GrowingArray | TagColumn | TextColumn] = {}
        self._grouped = 0
        self._first: tuple[Kind, tuple[str, ...]] | None = None

    def add(self, outputs: Outputs) -> None:
        """Keep what the metrics need of the next rows."""
        self._first = self._first or (outputs.kind, outputs.label_names)
        columns = {"predictions": outputs.predictions, "references": outputs.references}
        if outputs.scores is not None and self._whole:
            columns["scores"] = outputs.scores
        elif outputs.scores is not None and self._chosen:
            columns["reference_scores"] = outputs.scores[np.arange(len(outputs)), np.asarray(outputs.references)]
        elif outputs.reference_scores is not None and self._chosen:
            columns["reference_scores"] = outputs.reference_scores
        if outputs.row_of is not None:
            columns["row_of"] = outputs.row_of + self._grouped
            self._grouped += int(outputs.row_of.max(initial=-1)) + 1
        listed = is_listed(outputs.kind)
        for name, values in columns.items():
            if name not in self._columns:
                texts = TagColumn if outputs.kind == "tags" else TextColumn
                self._columns[name] = texts() if listed else GrowingArray(self._rows)
            self._columns[name].append(values if listed else np.asarray(values))  # type: ignore[arg-type]

    @property
    def kind(self) -> str | None:
        """That of the outputs, once some have come."""
        return self._first[0] if self._first else None

    def outputs(self) -> Outputs:
        """All of them, as views; at least one window must have come."""
        assert self._first is not None, "no window was added"
        kind, names = self._first
        columns = {k: c.array if isinstance(c, GrowingArray) else c for k, c in self._columns.items()}
        return Outputs(kind, label_names=names, **columns)  # type: ignore[arg-type]

    def compute(self) -> dict[str, float]:
        """Every metric over all the rows."""
        return compute_metrics(self.names, self.outputs())


class GrowingArray:
    """Rows appended to one array; labels lie one after another, so that reading one label's column is quick.

    Args:
        capacity: rows to make room for at first.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = max(1, capacity)
        self._rows = 0
        self._array: np.ndarray[Any, Any] | None = None

    def append(self, part: np.ndarray[Any, Any]) -> None:
        """Add [n, ...] rows, of the first part's type and width."""
        end = self._rows + len(part)
        if self._array is None or end > len(self._array):
            before = self.array if self._array is not None else part[:0]
            self._capacity = max(self._capacity if self._array is None else 2 * self._capacity, end)
            self._array = _allocate((self._capacity, *part.shape[1:]), part.dtype)
            self._array[: self._rows] = before
        self._array[self._rows : end] = part
        self._rows = end

    @property
    def array(self) -> np.ndarray[Any, Any]:
        """The rows so far, as a view."""
        assert self._array is not None, "nothing was appended"
        return self._array[: self._rows]


class TextColumn(list[Any]):
    """Texts, or lists of them, as they are."""

    def append(self, texts: Sequence[Any]) -> None:
        """Add those of some rows."""
        self.extend(texts)


class TagColumn(Sequence[list[str]]):
    """Lists of tags, kept as numbers: a few bytes a tag in place of a list of strings."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._ids: dict[str, int] = {}
        self._tags = GrowingArray(1)
        self._ends = GrowingArray(1)
        self._ends.append(np.zeros(1, np.int64))

    def append(self, sentences: Sequence[Sequence[str]]) -> None:
        """Add the tags of some sentences."""
        for tag in {tag for tags in sentences for tag in tags} - self._ids.keys():
            self._ids[tag] = len(self._names)
            self._names.append(tag)
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
        ids = np.fromiter((self._ids[tag] for tags in sentences for tag in tags), np.int32, int(lengths.sum()))
        self._tags.append(ids)
        self._ends.append(self._ends.array[-1] + np.cumsum(lengths))

    def __len__(self) -> int:
        return len(self._ends.array) - 1

    @overload
    def __getitem__(self, index: int) -> list[str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[str]]: ...
    def __getitem__(self, index: int | slice) -> list[str] | list[list[str]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        start, end = self._ends.array[index % len(self) :][:2]
        return [self._names[i] for i in self._tags.array[start:end].tolist()]


def _allocate(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """An array without values, in a file that goes with it if it is large."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= SPILL_BYTES:
        return np.empty(shape, dtype, order="F")
    with tempfile.TemporaryFile(prefix="nlp-pipeline-") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, not a crash at the first write
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, "w+", shape=shape, order="F")
