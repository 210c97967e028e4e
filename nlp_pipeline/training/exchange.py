"""Several processes' gradients become one, also when memory runs out in one of them.

Processes exchange gradients while the last backward pass of a step runs (DistributedDataParallel; Li et al. 2020,
arXiv:2006.15704), each as many times as the others. Before that pass a process may start over alone. After, it owes the
others its part of the exchange: it completes it with a number that is none, by which all of them see that the step
has to be made anew. Steps that go well cost nothing for this.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator


class Exchange:
    """Which passes exchange gradients, and what is owed to the other processes.

    Args:
        model: as accelerate prepared it, or in shards. A model in shards exchanges in every pass: the gradient of the
            whole of it would not fit on one process.
    """

    def __init__(self, accelerator: "Accelerator", model: Any, sharded: bool) -> None:
        self.accelerator, self.model, self.sharded = accelerator, model, sharded
        self.several = accelerator.num_processes > 1
        self.owed = False
        """Whether the other processes wait for this one's gradients of this step, if there are others."""
        self._before: list[tuple[int, int]] | None = None
        self._trained = [p for p in model.parameters() if p.requires_grad]
        if self.several and not sharded:
            # The wrapper would broadcast the first process's buffers before a forward pass, which may come twice.
            model.require_forward_param_sync = False

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Inside, nothing is exchanged but in the backward pass that is in `together`."""
        with contextlib.nullcontext() if self.sharded else self.accelerator.no_sync(self.model):
            yield

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Inside, the backward pass exchanges the gradients that it completes, as soon as it has them."""
        if self.sharded or not self.several:
            yield
            return
        self.owed = True
        self._before = [_state(parameter) for parameter in self._trained]
        with self.accelerator.trigger_sync_in_backward(self.model):
            yield
        self.owed, self._before = False, None

    def complete_with_nan(self) -> bool:
        """What is owed, with numbers that are none. Returns whether there was anything left that could be.

        Gradients that are there must be left as they are until then.
        """
        import torch

        before, self._before, self.owed = self._before, None, False
        missing = self._trained
        if before is not None:  # what that pass had reached is in the wrapper's hands already
            missing = [p for p, state in zip(missing, before, strict=True) if _state(p) == state]
        if not missing:
            return False
        begin = contextlib.nullcontext()
        if before is None:
            self.model.reducer._rebuild_buckets()  # the others did, in their forward passes: once a run it is exchanged
            begin = self.accelerator.trigger_sync_in_backward(self.model)
        with begin:
            torch.autograd.backward(missing, [p.new_full((), math.nan).expand_as(p) for p in missing])
        return True

    def every(self, mine: int) -> list[int]:
        """Each process's number. All of them have to ask."""
        import torch

        if not self.several:
            return [mine]
        found: list[int] = self.accelerator.gather(torch.tensor([mine], device=self.accelerator.device)).tolist()
        return found

    def anyone(self, mine: bool) -> bool:
        """Whether it is so on any process. All of them have to ask."""
        return any(self.every(int(mine)))


def _state(parameter: "torch.Tensor") -> tuple[int, int]:
    """What differs once a backward pass has put or added something into a parameter's gradient."""
    gradient = parameter.grad
    return (0, 0) if gradient is None else (id(gradient), gradient._version)
