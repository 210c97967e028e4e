"""Training in which one process meets a fault: RANK STEP FAULT, then the words of `nlp-pipeline train`."""

import os
import signal
import sys

import torch

from nlp_pipeline.cli import main
from nlp_pipeline.devices import launched_rank
from nlp_pipeline.stages import directory
from nlp_pipeline.training import resuming
from nlp_pipeline.training.step import Stepper


def meet(fault: str) -> None:
    """Raise or die in the named way."""
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "memory":
        torch.empty(2**60)
    raise ZeroDivisionError("a fault of the test's own")


def spoil(recipe) -> None:
    """Have every loss be no number from now on, in this process."""
    loss = recipe.loss
    recipe.loss = lambda *inputs: loss(*inputs) * float("nan")


def look_elsewhere() -> None:
    """Have this process find no checkpoint, as on a disk of its own."""
    resuming.find_checkpoint = lambda folder, identity: (None, [])


def work_elsewhere() -> None:
    """Have this process write and read somewhere else, as on a machine that doesn't share the disk."""
    directory.SHARED_WITHIN = 0.5
    os.makedirs("elsewhere", exist_ok=True)
    os.chdir("elsewhere")


def inject(rank: int, step: int, fault: str) -> None:
    """Have the fault happen in the forward passes of one step (from 1) of one process; `disk` and `machine` are there at once."""
    at_once = {"disk": look_elsewhere, "machine": work_elsewhere}
    if fault in at_once:
        if launched_rank() == rank:
            at_once[fault]()
        return
    gradient = Stepper.gradient

    def faulty(self, given):
        if given.number + 1 == step and launched_rank() == rank:
            spoil(self.recipe) if fault == "nan" else meet(fault)
        return gradient(self, given)

    Stepper.gradient = faulty


if __name__ == "__main__":
    inject(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    del sys.argv[1:4]
    main(["train", *sys.argv[1:]])
