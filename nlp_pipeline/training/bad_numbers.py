"""What is done about a step whose numbers aren't finite: it is made once more, in float32, or else left out."""

import math
from typing import TYPE_CHECKING

from .guard import MOST_SKIPPED, bad_rows, stop
from .inputs import StepInput
from .out_of_memory import gradient_that_fits

if TYPE_CHECKING:
    import torch

    from .step import Stepper


def is_bad(stepper: "Stepper", norm: "torch.Tensor", loss: "torch.Tensor") -> bool:
    """Whether the step must not be made.

    Under fp16 the gradient scaler leaves out, and makes smaller, gradients that are too large because of it. The
    loss is not, nor are gradients at a scale of 1, which it comes down to when many steps in a row fail.

    The norm of the exchanged gradients is the same on every process, so that all decide alike.
    """
    bad = bool(are_bad(stepper, norm, loss))
    if not bad or stepper.scaler is None or stepper.scaler.get_scale() <= 1:
        return bad
    return stepper.exchange.anyone(not bool(loss.isfinite()))


def are_bad(stepper: "Stepper", norm: "torch.Tensor", loss: "torch.Tensor") -> "torch.Tensor":
    """The same, bool on the device."""
    bad = ~norm.isfinite()
    return bad | ~loss.isfinite() if stepper.accelerator.num_processes == 1 else bad


def make_good(stepper: "Stepper", given: StepInput) -> "torch.Tensor":
    """Once more, after numbers that weren't finite: as before if memory ran out somewhere, else in float32.

    If those aren't finite either, leave the step out or stop.

    Returns this process's part of the loss, not a number if the step was left out.
    """
    import torch

    if stepper.exchange.anyone(stepper.ran_out):
        loss, norm = _anew(stepper, given)
        if not is_bad(stepper, norm, loss):
            stepper.update()
            return loss
    loss, norm = _second_try(stepper, given)
    if bool(are_bad(stepper, norm, loss)):
        _forget(stepper)
        if stepper.training.on_non_finite == "stop" or stepper.all_skipped >= MOST_SKIPPED:
            raise stop(stepper, given, "the loss or gradient")
        stepper.skipped[given.number + 1] = bad_rows(stepper, given)
        return torch.full_like(loss, math.nan)
    stepper.overflows.append(given.number + 1)
    stepper.update()
    return loss


def _second_try(stepper: "Stepper", given: StepInput) -> "tuple[torch.Tensor, torch.Tensor]":
    """(loss, gradient norm) of the step in float32: tells an overflow from bad data."""
    with stepper.full_precision():
        return _anew(stepper, given)


def _anew(stepper: "Stepper", given: StepInput) -> "tuple[torch.Tensor, torch.Tensor]":
    """(loss, gradient norm) of a step made once more, as often as memory runs out on some process."""
    while True:
        _forget(stepper)
        stepper.ran_out = False
        loss, norm = gradient_that_fits(stepper, given), stepper.clip()
        if not (bool(are_bad(stepper, norm, loss)) and stepper.exchange.anyone(stepper.ran_out)):
            return loss, norm


def _forget(stepper: "Stepper") -> None:
    """Have no gradients, and the gradient scaler not know of any."""
    stepper.optimizer.zero_grad(set_to_none=True)
    if stepper.scaler is not None:
        stepper.scaler.update(stepper.scaler.get_scale())
