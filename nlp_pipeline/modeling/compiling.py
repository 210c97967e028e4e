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
RATE = 2e14
"""Floating-point operations a second of a fast GPU in training. Taken high, so that runs count as short ones."""


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


def training_flops(model: torch.nn.Module, tokens: float) -> float:
    """About what the matrix products of training on so many tokens take: 6 a weight and token (Kaplan et al., 2020)."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    return 6.0 * tokens * sum(p.numel() for p in model.parameters() if p.dim() > 1 and id(p) not in tables)


def repays(flops: float) -> bool:
    """Whether a run of so many operations is long enough for compiling to save more time than it costs."""
    return flops / RATE * SAVED > COMPILE_SECONDS


@dataclass
class Compilation:
    """Whether the layers of a model are compiled, settled before the first step.

    `auto` goes by the run's size alone, not by its pace: a run that was interrupted and one that wasn't then compute
    the same bits.

    Args:
        setting: `training.compile`; `auto` compiles on CUDA only.
        device: the type of the device that trains.
        recompute: whether activations are recomputed in the backward pass; torch keeps compiled code out of that.
        tokens: how many this process trains on in the whole run.
        say: takes a line for the user.
    """

    model: torch.nn.Module
    setting: bool | Literal["auto"]
    device: str
    recompute: bool
    tokens: float
    say: Callable[[str], None]
    before: int | None = field(default=None, init=False)
    """Graphs of this process before the layers were compiled; None while they are not."""

    def __post_init__(self) -> None:
        if self.setting is False or (self.setting == "auto" and self.device != "cuda"):
            return
        if self.recompute:
            if self.setting is True:
                self.say("compile: off, torch compiles nothing whose activations are recomputed")
            return
        flops = training_flops(self.model, self.tokens)
        if self.setting is True or repays(flops):
            self.before = compiled_graphs()
            self.say(f"compile: {compile_layers(self.model)} layers, when the first batch comes")
        else:
            self.say(f"compile: off, the run is too short to repay it ({flops:.1e} operations)")

    def report(self) -> None:
        """Say how many graphs it took."""
        if self.before is not None:
            self.say(f"compile: {compiled_graphs() - self.before} graphs in all")
