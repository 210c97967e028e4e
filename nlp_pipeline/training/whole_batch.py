"""Losses that see the whole effective batch at once, which need not fit into one forward pass for that.

GradCache (Gao et al. 2021, arXiv:2101.06983): the representations of all micro-batches, without a graph; the loss over
all of them together, and its gradient by each; then every micro-batch again, with its gradient pulling at what comes
out (`Stepper._accumulate`). The result is the gradient of the undivided batch: the second passes draw the dropout masks
of the first, since each micro-batch's are seeded by its number.
"""

from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from ..data.batching import share
from ..data.fields import Batch
from ..devices import ran_out_of_memory
from ..errors import OutOfMemoryError
from .inputs import StepInput

if TYPE_CHECKING:
    import torch

    from .step import Stepper


def pulls(
    stepper: "Stepper", given: StepInput, passes: list[tuple[Batch, float]]
) -> "tuple[torch.Tensor, list[torch.Tensor]]":
    """This process's part of the mean loss of the global batch, and the summed loss's gradient by what comes out.

    Every process computes the loss of all the examples, from everyone's representations.

    Args:
        passes: micro-batches, with 1, or 0 for one that counts for nothing.

    Returns:
        The loss float32[], and float32[sequences, features] for each pass.
    """
    import torch

    recipe, accelerator = stepper.recipe, stepper.accelerator
    found = []
    with torch.no_grad():
        for number, (batch, _) in enumerate(passes):
            batch.to(accelerator.device)
            stepper.seed(given, number)
            # Outside a last micro-batch nothing is exchanged, so that processes may differ in their number of passes.
            with stepper.exchange.apart(), stepper.packed(batch):
                found.append(recipe.forward(stepper.model, batch).representations.float())
    mine = [part for part, (_, counts) in zip(found, passes, strict=True) if counts]
    # The order in which the processes' shares come one after another.
    shares = [share(given.rows, rank, accelerator.num_processes) for rank in range(accelerator.num_processes)]
    sizes = stepper.table.sizes
    counts = [len(rows) if sizes is None else int(sizes[rows].sum()) for rows in shares]
    whole = _gathered(torch.cat(mine) if mine else found[0][:0], counts, stepper).requires_grad_()
    fields = (*recipe.weighing_fields(), *recipe.soft_fields())
    targets = recipe.batch(stepper.table, np.concatenate(shares), given.epoch, fields).to(accelerator.device).targets
    with torch.enable_grad():
        try:
            loss = recipe.training_loss(SimpleNamespace(representations=whole), targets)
            (gradient,) = torch.autograd.grad(loss, whole)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            said = str(error).partition("\n")[0]
            raise OutOfMemoryError(
                f"step {given.number + 1}: the loss over all {len(whole):,} texts of a batch does not fit into memory "
                f"({said}); lower batch.size"
            ) from error
    first = sum(counts[: accelerator.process_index])
    edges = np.cumsum([first, *(len(part) for part in mine)]).tolist()
    cut = iter([gradient[a:b] for a, b in pairwise(edges)])
    gradients = [
        next(cut) if counts else torch.zeros_like(part) for part, (_, counts) in zip(found, passes, strict=True)
    ]
    return loss.detach() / (max(given.weight, 1e-12) * accelerator.num_processes), gradients


def _gathered(mine: "torch.Tensor", counts: list[int], stepper: "Stepper") -> "torch.Tensor":
    """[all sequences, features], each process's one after another; so many of each."""
    import torch

    if not stepper.exchange.several:
        return mine
    padded = mine.new_zeros(max(counts), mine.shape[1])
    padded[: len(mine)] = mine
    every = stepper.accelerator.gather(padded).view(len(counts), *padded.shape)
    stepper.exchange.owed = True  # from here on the others wait for gradients
    return torch.cat([part[:count] for part, count in zip(every, counts, strict=True)])
