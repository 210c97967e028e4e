"""Numbers that are looked at one step late: on CUDA, where reading one lets the device idle.

The device itself leaves out a step whose numbers aren't finite. The host reads that once the next gradient is on its
way, and then makes the step good and that gradient anew.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from .bad_numbers import are_bad, make_good
from .inputs import StepInput

if TYPE_CHECKING:
    import torch

    from .step import Stepper


class Unchecked(NamedTuple):
    """A step whose numbers nobody has looked at yet, and what it takes to make it anew."""

    given: StepInput
    loss: "torch.Tensor"
    bad: "torch.Tensor"
    """On the host, and to be read once `ready`."""
    ready: Any
    rates: list[float]
    decay: float


def update_unless_bad(stepper: "Stepper", given: StepInput, loss: "torch.Tensor", norm: "torch.Tensor") -> None:
    """The optimizer step, which the device itself leaves out if a number isn't finite; nothing is waited for.

    As a gradient scaler has it: the fused optimizer reads `found_inf` where it runs and then changes neither
    weights nor moments nor its count of steps.
    """
    import torch

    bad = are_bad(stepper, norm, loss)
    stepper.inner().found_inf = bad.float()
    rates = [group["lr"] for group in stepper.optimizer.param_groups]
    decay = 1.0 if stepper.compact is None else stepper.compact.decay
    stepper.update()
    stepper.inner().found_inf = None
    copied, ready = bad.to("cpu", non_blocking=True), None
    if bad.is_cuda:
        ready = torch.cuda.Event()
        ready.record()
    stepper.unchecked = Unchecked(given, loss, copied, ready, rates, decay)


def settle(stepper: "Stepper") -> bool:
    """Make the last step good if its numbers were not finite. Returns whether there was anything to do.

    To be called before losses are read and weights are saved or evaluated, where steps are checked late.
    """
    if stepper.unchecked is None:
        return False
    (given, loss, bad, ready, rates, decay), stepper.unchecked = stepper.unchecked, None
    if ready is not None:
        ready.synchronize()
    if not bool(bad):
        return False
    groups = stepper.optimizer.param_groups
    now = [group["lr"] for group in groups]
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate
    if stepper.compact is not None:
        stepper.compact.decay = decay
    loss.copy_(make_good(stepper, given))
    for group, rate in zip(groups, now, strict=True):
        group["lr"] = rate
    return True
