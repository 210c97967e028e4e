"""What is done about losses that are no numbers, and losses that jump."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.labels import column, shown
from ..errors import NonFiniteError

if TYPE_CHECKING:
    from .inputs import StepInput
    from .step import Stepper

MOST_SKIPPED = 10
"""Batches that `training.on_non_finite=skip` leaves out before it gives up: more of them are no accident."""
SETTLED = 50
"""Losses read before a jump is called one."""
JUMP = 8.0
"""Standard deviations above the running mean that make a jump."""


def bad_rows(stepper: "Stepper", given: "StepInput") -> list[int]:
    """Positions of this step's rows whose own loss is no finite number, in float32 and without dropout.

    All of the step's rows when none is bad by itself.
    """
    import torch

    model = stepper.model
    training = model.training
    found: list[int] = []
    # A model in shards runs on all processes at once: those with fewer rows look at their first one again.
    looks = -(-len(given.rows) // stepper.accelerator.num_processes) if stepper.sharded else len(given.mine)
    again = (given.mine if len(given.mine) else given.rows)[:1].repeat(looks - len(given.mine))
    model.eval()
    with torch.no_grad(), stepper.full_precision():
        for row in np.concatenate([given.mine, again]):
            batch = stepper.recipe.batch(stepper.table, np.array([row]), given.epoch).to(stepper.accelerator.device)
            with stepper.packed(batch):
                loss = stepper.recipe.training_loss(stepper.recipe.forward(model, batch), batch.targets)
            if not math.isfinite(float(loss)):
                found.append(int(row))
    model.train(training)
    if stepper.accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        found = sorted(set(gather_object(found)))
    return found or given.rows.tolist()


def row_names(recipe: Any, examples: Iterable[int]) -> str:
    """The ids of the training rows that some examples come from, for a message."""
    rows = recipe.tables["train"].rows_of(np.fromiter(examples, np.int64))
    return shown(column(recipe.splits.train.select(list(dict.fromkeys(rows.tolist()))), "row_id"))


def stop(stepper: "Stepper", given: "StepInput", why: str) -> NonFiniteError:
    """The error that ends a run on a bad number."""
    tried = "" if stepper.sharded else ", in fp32 neither"  # shards have the precision that they were cut for
    return NonFiniteError(
        f"{why} of step {given.number + 1} is not a finite number{tried}; rows: "
        f"{row_names(stepper.recipe, bad_rows(stepper, given))}. The step was not made and the last checkpoint is from "
        "before it. Look at these rows, lower training.learning_rate, or leave such batches out with "
        "training.on_non_finite=skip"
    )


@dataclass
class SpikeWatch:
    """Finds losses that jump out of the course of the ones before them (mean and spread forget exponentially).

    `mean`, `variance` and `seen` are what a checkpoint keeps of it.
    """

    mean: float = 0.0
    variance: float = 0.0
    seen: int = 0
    recent: dict[int, np.ndarray] = field(default_factory=dict)
    """Rows of the steps whose losses haven't been read yet, by step number from 1."""

    @property
    def kept(self) -> dict[str, float]:
        """What a checkpoint keeps: arguments for a new one that goes on as this one does."""
        return {"mean": self.mean, "variance": self.variance, "seen": self.seen}

    def note(self, number: int, rows: np.ndarray) -> None:
        """Remember a step's rows until its loss is read."""
        self.recent[number] = rows

    def read(self, losses: Mapping[int, float]) -> list[tuple[int, float, np.ndarray]]:
        """(step, loss, rows) of each jump among the losses just read."""
        jumps = []
        for number, loss in losses.items():
            rows = self.recent.pop(number, np.zeros(0, np.int64))
            if not math.isfinite(loss):
                continue
            deviation = math.sqrt(self.variance)
            if self.seen >= SETTLED and loss > 2 * self.mean and loss > self.mean + JUMP * deviation:
                jumps.append((number, loss, rows))
                continue  # it must not widen what counts as usual
            self.seen += 1
            rate = max(0.02, 1 / self.seen)
            change = loss - self.mean
            self.mean += rate * change
            self.variance = (1 - rate) * (self.variance + rate * change * change)
        return jumps
