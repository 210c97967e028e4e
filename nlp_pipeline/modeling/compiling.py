"""torch.compile over a model's layers: one graph for all of them, for any number of tokens."""

from typing import Any

import torch


def compile_layers(model: torch.nn.Module) -> int:
    """Compile each of a model's repeated layers in place. Returns how many there are.

    The layers are alike, so that one compilation serves all; the number of tokens is left open, so that no batch asks
    for another. Attention stays outside: it depends on each batch's row lengths.
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
