"""Which rows make which batch: pure functions of (seed, epoch, index), so that any position can be sought at once.

Seeking makes one epoch's permutation and walks nothing: about half a second and 8 bytes a row for 10 million rows, so
plain shuffling need not give way to a pseudo-random permutation that is computed position by position.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

GROUP_BATCHES, GROUPS = 50, 4
"""Most batches whose rows are sorted by length together in length-grouped sampling, and the fewest such groups in an
epoch: sorted all together, rows would be in the same batches in every epoch."""


@dataclass(frozen=True)
class Sampler:
    """The order of training rows.

    Args:
        lengths: int[n], tokens a row.
        batch_size: rows of one optimizer step over all processes.
        seed: with the epoch's number, all that the order depends on: the number of processes plays no part.
        tokens: tokens of one optimizer step in place of `batch_size`: as many steps an epoch as that takes, each with
            an equal share of the tokens to within one row.
    """

    lengths: np.ndarray
    batch_size: int
    seed: int
    sampling: Literal["random", "length_grouped"] = "random"
    tokens: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass; the last one may hold fewer rows."""
        if self.tokens is None:
            return -(-len(self.lengths) // self.batch_size)
        return min(len(self.lengths), -(-int(self.lengths.sum()) // self.tokens))

    def epoch(self, epoch: int, first: int = 0) -> Iterator[np.ndarray]:
        """The batches of one epoch from its batch number `first` on: each row in exactly one, none without rows."""
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(len(self.lengths))
        if self.sampling == "length_grouped":
            order = self._group(order)
        edges = np.concatenate([[0], self._cuts(order), [len(order)]])
        steps = self.steps_per_epoch
        numbers = np.arange(steps)
        if self.sampling == "length_grouped":
            numbers[:-1] = generator.permutation(steps - 1)  # a short last batch stays last
        return (order[edges[number] : edges[number + 1]] for number in numbers[first:])

    def rows_before(self, step: int) -> int:
        """Rows of all steps before this one; with `tokens`, what they are on average (the epochs aren't walked)."""
        epochs, left = divmod(step, self.steps_per_epoch)
        partial = left * self.batch_size if self.tokens is None else left * len(self.lengths) // self.steps_per_epoch
        return epochs * len(self.lengths) + partial

    def _cuts(self, order: np.ndarray) -> np.ndarray:
        """Where an epoch's rows are cut into batches."""
        steps = self.steps_per_epoch
        if self.tokens is None:
            return np.arange(1, steps) * self.batch_size
        ends = np.cumsum(self.lengths[order])
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, steps) / steps)
        # Each batch keeps at least one row, however long one of them is.
        cuts = np.maximum.accumulate(np.maximum(cuts - np.arange(steps - 1), 1)) + np.arange(steps - 1)
        return np.minimum(cuts, len(order) - steps + np.arange(1, steps))

    def _group(self, order: np.ndarray) -> np.ndarray:
        """Sort by length inside windows of shuffled rows: batches stay random from epoch to epoch."""
        rows = self.batch_size if self.tokens is None else -(-len(order) // self.steps_per_epoch)
        window = min(GROUP_BATCHES, max(1, self.steps_per_epoch // GROUPS)) * rows
        parts = [order[i : i + window] for i in range(0, len(order), window)]
        return np.concatenate([part[np.argsort(-self.lengths[part], kind="stable")] for part in parts])

    def batches_from(self, step: int) -> Iterator[tuple[int, np.ndarray]]:
        """(step, rows) without end, from any step on; earlier batches are never walked through."""
        while True:
            epoch, first = divmod(step, self.steps_per_epoch)
            for batch in self.epoch(epoch, first):
                yield step, batch
                step += 1


def share(rows: np.ndarray, rank: int, processes: int) -> np.ndarray:
    """The rows of one process: shares differ by one row at most, none is lost and none is doubled."""
    return rows[rank::processes]


USUAL_LENGTH = 512
"""Tokens of a row by which evaluation batches are measured: of rows that are longer, fewer are run at once."""
PADDED_BACK = 4
"""A packed pass is padded again after the last layer: to no more than so many times the tokens that it may hold."""


def micro_batches(
    rows: np.ndarray,
    lengths: np.ndarray,
    micro: int | None,
    max_tokens: int,
    padded: bool = True,
    longest: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Split a process's share of a step into forward passes.

    Args:
        rows: int[n] positions.
        lengths: int[table] tokens of each example.
        micro: most examples in one pass, or None to go by `max_tokens`.
        max_tokens: tokens in one pass when `micro` is None; a single example may exceed it.
        padded: count a pass as its sequences times the longest of them, not as the sum of their tokens. These bound a
            packed pass too, PADDED_BACK times as loosely.
        longest: int[table] tokens of each example's longest sequence; None where each is one sequence.
        sizes: int[table] sequences of each example; None where each is one.

    Returns:
        Parts that together hold the examples in their order, none of them split. An empty share gives one empty part,
        since every process must take part in every backward pass.
    """
    if micro is not None:
        return [rows[i : i + micro] for i in range(0, len(rows), micro)] or [rows]
    tokens = lengths[rows]
    widths = tokens if longest is None else longest[rows]
    counts = np.ones(len(rows), np.int64) if sizes is None else sizes[rows]
    parts, start, width, total, sequences = [], 0, 0, 0, 0
    for i, (length, widest, count) in enumerate(zip(tokens.tolist(), widths.tolist(), counts.tolist(), strict=True)):
        width, total, sequences = max(width, widest), total + length, sequences + count
        full = width * sequences
        if i > start and (full > max_tokens if padded else total > max_tokens or full > PADDED_BACK * max_tokens):
            parts.append(rows[start:i])
            start, width, total, sequences = i, widest, length, count
    parts.append(rows[start:])
    return parts


def windows(rows: int, size: int) -> Iterator[range]:
    """Consecutive rows that are run together at evaluation and prediction: no more of the outputs is in memory."""
    return (range(start, min(start + size, rows)) for start in range(0, rows, size))


def sorted_batches(lengths: np.ndarray, batch_size: int, processes: int = 1) -> list[list[np.ndarray]]:
    """Evaluation batches for each process: longest rows first, so that too little memory shows at once.

    Every row stands in exactly one batch of one process; processes may differ in their number of batches. A batch is
    `batch_size` rows, of rows longer than USUAL_LENGTH as many as have no more tokens than that many of it.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches, start = [], 0
    while start < len(order):
        longest = max(USUAL_LENGTH, int(lengths[order[start]]))
        end = start + max(1, batch_size * USUAL_LENGTH // longest)
        batches.append(order[start:end])
        start = end
    return [batches[rank::processes] for rank in range(processes)]
