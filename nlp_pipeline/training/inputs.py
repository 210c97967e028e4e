"""What each optimizer step needs, made ready ahead of it in a thread of its own.

One thread is the design: rows are views of a mapped file, and training waited for it 0.1 % of the time (`data_wait`,
MiniLM on Banking77, 2 cores). What it makes depends on the step's number alone; more workers add an order to keep.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..data.batching import micro_batches, share
from ..data.fields import Batch

if TYPE_CHECKING:
    from ..data.token_table import TokenTable
    from ..recipe import Recipe

AHEAD = 2
"""Steps made ready before they are asked for."""
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class StepInput:
    """One optimizer step's batch.

    `number` counts steps from 0, `epoch` epochs; `rows` are the examples of all processes, `mine` this process's;
    `weight` is what the summed loss of all of them is divided by, `tokens` how many they have; `batches` are this
    process's forward passes, `fillers` passes over some example of the step that count for nothing: every process makes
    at least one pass, and in shards as many as the others.
    """

    number: int
    epoch: int
    rows: np.ndarray
    mine: np.ndarray
    weight: float
    tokens: int
    batches: list[Batch]
    fillers: list[Batch] = field(default_factory=list)


@dataclass(frozen=True)
class InputMaker:
    """Makes StepInputs: pure, so that it may run in any thread."""

    recipe: "Recipe"
    table: "TokenTable"
    rank: int
    processes: int
    micro: int | None
    max_tokens: int
    padded: bool
    steps_per_epoch: int
    pin: bool = False
    in_step: bool = False
    """Every process makes as many passes as the one that needs most."""

    def __call__(self, numbered: tuple[int, np.ndarray]) -> StepInput:
        """From (step, rows of the global batch)."""
        number, rows = numbered
        recipe, table, epoch = self.recipe, self.table, number // self.steps_per_epoch
        # Every process knows the whole batch: the weight that the loss is divided by needs no communication.
        weight = recipe.weigh(recipe.batch(table, rows, epoch, recipe.weighing_fields()).targets)
        mine = share(rows, self.rank, self.processes)
        parts = self._parts(mine) if len(mine) else []
        passes = max(len(self._parts(share(rows, rank, self.processes))) for rank in self._paced_by())
        short = rows[[int(table.lengths[rows].argmin())]]
        batches, fillers = (
            [recipe.batch(table, part, epoch) for part in some] for some in (parts, [short] * (passes - len(parts)))
        )
        if self.pin:
            batches, fillers = [batch.pin() for batch in batches], [batch.pin() for batch in fillers]
        return StepInput(number, epoch, rows, mine, weight, int(table.lengths[rows].sum()), batches, fillers)

    def _paced_by(self) -> Iterable[int]:
        """Processes whose number of passes this one has to match, itself among them."""
        return range(self.processes) if self.in_step else (self.rank,)

    def _parts(self, mine: np.ndarray) -> list[np.ndarray]:
        table = self.table
        return micro_batches(mine, table.lengths, self.micro, self.max_tokens, self.padded, table.longest, table.sizes)


class Prefetched(Iterator[Result]):
    """`make(item)` for every item, computed ahead in a thread; `waited` counts the seconds spent waiting for it.

    An exception of the thread is raised where its result would have come. Use as a context manager: the thread ends
    with it.
    """

    def __init__(self, items: Iterable[Item], make: Callable[[Item], Result], ahead: int = AHEAD) -> None:
        self.waited = 0.0
        self._queue: queue.Queue[tuple[bool, Any]] = queue.Queue(ahead)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(items, make), daemon=True, name="prefetch")
        self._thread.start()

    def _work(self, items: Iterable[Item], make: Callable[[Item], Result]) -> None:
        try:
            for item in items:
                if not self._put((True, make(item))):
                    return
            self._put((False, StopIteration()))
        except BaseException as error:
            self._put((False, error))

    def _put(self, entry: tuple[bool, Any]) -> bool:
        while not self._ended.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def __next__(self) -> Result:
        began = time.monotonic()
        good, value = self._queue.get()
        self.waited += time.monotonic() - began
        if not good:
            self._put((False, value))  # asked again, it says so again
            raise value
        result: Result = value
        return result

    def __enter__(self) -> "Prefetched[Result]":
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join(timeout=5)
