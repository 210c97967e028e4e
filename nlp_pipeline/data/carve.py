"""Draws validation and test rows out of the training rows, or folds of them: the same ones on every machine."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .problems import counted, listed, quoted


@dataclass(frozen=True)
class Carved:
    """Row numbers (from 0, ascending) of each part."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    notes: list[str] = field(default_factory=list)


def carve(
    rows: int,
    validation_fraction: float = 0.0,
    test_fraction: float = 0.0,
    seed: int = 0,
    labels: "Sequence[str] | pa.ChunkedArray | None" = None,
) -> Carved:
    """Splits `rows` rows; with `labels` every class gives its share, within one row.

    A class with fewer rows than there are parts stays in training. Training keeps at least one row of every
    class.
    """
    parts = 1 + bool(validation_fraction) + bool(test_fraction)
    classes = np.zeros(rows, np.int64)
    names: np.ndarray = np.array([""])
    if labels is not None and rows:
        names, classes = _encode(labels)
    sizes = np.bincount(classes, minlength=len(names))
    small = sizes < parts
    usable = np.where(small, 0, sizes)
    test = _shares(usable, test_fraction, np.maximum(usable - (parts - 1), 0))
    validation = _shares(usable, validation_fraction, np.maximum(usable - test - 1, 0))

    # Within each class, in random order: first the test rows, then the validation rows.
    order = np.lexsort((random_keys(rows, seed), classes))
    starts = np.cumsum(sizes) - sizes
    place = np.empty(rows, np.int64)
    place[order] = np.arange(rows) - np.repeat(starts, sizes)
    in_test = place < test[classes]
    in_validation = ~in_test & (place < (test + validation)[classes])
    return Carved(
        np.flatnonzero(~in_test & ~in_validation),
        np.flatnonzero(in_validation),
        np.flatnonzero(in_test),
        _note_small(names[small], sizes[small]) if parts > 1 and labels is not None else [],
    )


def assign_folds(
    rows: int, folds: int, seed: int = 0, labels: "Sequence[str] | pa.ChunkedArray | None" = None
) -> np.ndarray:
    """int64[rows], the fold of each row, from 0 on; all folds of one size, within one row.

    With `labels` every class is spread evenly over the folds too, within one row. The only row of a class is in no
    fold (-1): held out, nothing would be left to learn the class from.
    """
    classes = _encode(labels)[1] if labels is not None and rows else np.zeros(rows, np.int64)
    order = np.lexsort((random_keys(rows, seed, stream=1), classes))
    # Dealt out class after class, going on with the fold after the last: even in every class and in all.
    alone = np.bincount(classes, minlength=1)[classes] == 1 if labels is not None else np.zeros(rows, bool)
    dealt = order[~alone[order]]
    fold = np.full(rows, -1, np.int64)
    fold[dealt] = np.arange(len(dealt)) % folds
    return fold


def draw(rows: int, count: int, seed: int) -> np.ndarray:
    """`count` of `rows` row numbers, ascending."""
    # Another stream than the carve's: the same one would take the rows nearest to the carved ones.
    return np.sort(np.argsort(random_keys(rows, seed, stream=1), kind="stable")[:count])


def random_keys(rows: int, seed: int, stream: int = 0) -> np.ndarray:
    """A random number for each row, uint64: sorting by it shuffles.

    SplitMix64 (Steele et al. 2014) at (seed, row): numpy's own generators may change with its version.
    """
    mask = (1 << 64) - 1
    start = np.array([(seed * 2 + stream) & mask], np.uint64)
    base = _mix(_mix(start) + np.uint64(0x9E3779B97F4A7C15))
    return _mix(base + np.arange(1, rows + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _encode(labels: "Sequence[str] | pa.ChunkedArray") -> tuple[np.ndarray, np.ndarray]:
    """The distinct labels in order, and each row's place among them."""
    values = labels if isinstance(labels, pa.ChunkedArray) else pa.chunked_array([pa.array(labels, pa.string())])
    distinct = values.unique().sort()
    return distinct.to_numpy(zero_copy_only=False), pc.index_in(values, distinct).to_numpy().astype(np.int64)


def _shares(sizes: np.ndarray, fraction: float, most: np.ndarray) -> np.ndarray:
    """How many rows each class gives: its share, rounded so that the sum is the share of all rows."""
    if not fraction or not sizes.any():
        return np.zeros_like(sizes)
    exact = sizes * fraction
    shares = np.minimum(np.floor(exact + 1e-9).astype(np.int64), most)
    total = max(1, int(np.floor(sizes.sum() * fraction + 0.5)))
    # Largest remainders first; equal ones in the order of the class names.
    remainders = np.where((shares < most) & (exact > shares), exact - shares, -1.0)
    spare = min(total - int(shares.sum()), int((remainders > 0).sum()))
    shares[np.argsort(-remainders, kind="stable")[: max(spare, 0)]] += 1
    return shares


def _note_small(names: np.ndarray, sizes: np.ndarray) -> list[str]:
    if not len(names):
        return []
    found = listed(
        f"{quoted(str(name))} ({counted(int(size), 'row')})" for name, size in zip(names, sizes, strict=True)
    )
    return [f"fewer rows than splits, all kept for training: {found}"]
