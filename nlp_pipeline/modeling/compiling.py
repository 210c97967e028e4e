"""torch.compile over a model's layers: one graph for all of them, for any number of tokens.

CUDA graphs are not used: they replay fixed shapes, and packed batches differ in length from step to step.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

COMPILE_SECONDS = 60.0
"""What compiling costs on CUDA before it saves anything. Taken high: half a minute is usual."""
SAVED = 0.15
"""Share of a step's time that compiled layers save on CUDA. Taken low, and not read on a GPU by this project yet."""
READS = 3
"""Readings of the clock before the step's time counts as known: between the first two the device still warms up."""


def compile_layers(model: torch.nn.Module) -> int:
    """Compile each of a model's repeated layers in place. Returns how many there are.

    The layers are alike, so that one compilation serves all; the number of tokens is left open, so that no batch asks
    for another. Attention stays outside: it depends on each batch's row lengths. Beyond torch's own limit of
    recompilations (`torch._dynamo.config.recompile_limit`, 8 a function) the rest runs uncompiled.
    """
    stacks = [list(m) for m in model.modules() if isinstance(m, torch.nn.ModuleList)]
    alike = [stack for stack in stacks if len({type(layer) for layer in stack}) == 1]
    layers = max(alike, key=len, default=[])
    for layer in layers:
        layer.compile(dynamic=True)
    return len(layers)


def compiled_graphs() -> int:
    """Graphs compiled so far in this process, recompilations included."""
    counters: Any = torch._dynamo.utils.counters
    return int(counters["stats"]["unique_graphs"])


def repays(steps_left: int, step_seconds: float) -> bool:
    """Whether compiling now saves more time in the steps to come than it costs, as far as can be told."""
    return steps_left * step_seconds * SAVED > COMPILE_SECONDS


@dataclass
class Compilation:
    """When the layers of a model are compiled: at once, never, or as soon as the run's own pace shows that it repays.

    Args:
        setting: `training.compile`; `auto` decides once, on CUDA only.
        device: the type of the device that trains.
        recompute: whether activations are recomputed in the backward pass; torch keeps compiled code out of that.
        total_steps: optimizer steps of the whole run.
        say: takes a line for the user.
        agree: gives the main process's answer to all processes.
    """

    model: torch.nn.Module
    setting: bool | Literal["auto"]
    device: str
    recompute: bool
    total_steps: int
    say: Callable[[str], None]
    agree: Callable[[bool], bool]
    before: int | None = field(default=None, init=False)
    """Graphs of this process before the layers were compiled; None while they are not."""
    decided: bool = field(default=False, init=False)
    last: tuple[int, float] | None = field(default=None, init=False)
    pace: list[float] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.decided = self.setting != "auto" or self.device != "cuda" or self.recompute
        if self.setting is True and self.recompute:
            self.say("compile: off, torch compiles nothing whose activations are recomputed")
        elif self.setting is True:
            self._switch_on("when the first batch comes")

    def note(self, step: int, seconds: float) -> None:
        """Called where the losses are read, with the steps made and the seconds that training has taken so far."""
        if self.decided:
            return
        if self.last is not None and step > self.last[0]:
            self.pace.append((seconds - self.last[1]) / (step - self.last[0]))
        self.last = (step, seconds)
        if len(self.pace) < READS - 1:
            return
        self.decided = True
        # The shortest: an evaluation may lie in between.
        left, each = self.total_steps - step, min(self.pace)
        of_them = f"{left:,} steps of {each:.2g} s are left"
        if self.agree(repays(left, each)):
            self._switch_on(f"from step {step + 1:,} on: {of_them}")
        else:
            self.say(f"compile: off, {of_them}, too few to repay about {COMPILE_SECONDS:.0f} s of compiling")

    def report(self) -> None:
        """Say how many graphs it took."""
        if self.before is not None:
            self.say(f"compile: {compiled_graphs() - self.before} graphs in all")

    def _switch_on(self, when: str) -> None:
        self.before = compiled_graphs()
        self.say(f"compile: {compile_layers(self.model)} layers, {when}")
