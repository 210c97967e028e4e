"""What is done when memory runs out: the forward passes of a step are cut in halves, and the step stays the same."""

import math
from typing import TYPE_CHECKING

import numpy as np

from ..data.fields import Batch
from ..devices import ran_out_of_memory
from ..errors import OutOfMemoryError
from .inputs import StepInput

if TYPE_CHECKING:
    import torch

    from .step import Stepper


def gradient_that_fits(stepper: "Stepper", given: StepInput) -> "torch.Tensor":
    """`Stepper.gradient`, its forward passes cut in halves when memory runs out.

    Where other processes wait for this one's gradients already, they are no numbers, and `ran_out` says why.

    Raises:
        OutOfMemoryError: they can't be cut.
    """
    import torch

    while True:
        try:
            return stepper.gradient(given)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            largest = max((len(batch.rows) for batch in split(stepper, given)), default=1)
            if stepper.sharded or largest < 2:
                raise OutOfMemoryError(_no_memory(given, largest, error, stepper.sharded)) from error
            first = str(error).partition("\n")[0]
        stepper.splits += 1
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not stepper.exchange.owed:
            stepper.optimizer.zero_grad(set_to_none=True)
            continue
        stepper.ran_out = True
        if not stepper.exchange.complete_with_nan():
            raise OutOfMemoryError(_no_memory(given, largest, first))
        return torch.full((), math.nan, device=stepper.accelerator.device)


def split(stepper: "Stepper", given: StepInput) -> list[Batch]:
    """The step's forward passes, each halved as often as memory has run out so far."""
    if not stepper.splits or stepper.sharded:
        return given.batches
    parts = [part for batch in given.batches for part in np.array_split(batch.rows, 2**stepper.splits) if len(part)]
    return [stepper.recipe.batch(stepper.table, part, given.epoch) for part in parts]


def _no_memory(given: StepInput, largest: int, error: object, sharded: bool = False) -> str:
    """What ran out and what to lower; `largest` is the number of examples in the largest pass."""
    first = str(error).partition("\n")[0]
    if largest < 2:
        remedy = "lower tokenization.max_length, or set training.gradient_checkpointing=true or training.lora"
    else:
        remedy = f"set batch.micro below {largest}: the steps stay the same, in smaller forward passes"
    why = (
        ". The processes share the model (FSDP), so that none of them can cut its forward passes alone"
        if sharded
        else ""
    )
    return f"step {given.number + 1} does not fit into memory ({first}){why}; {remedy}"
