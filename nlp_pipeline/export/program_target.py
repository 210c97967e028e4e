"""A torch.export program: the model as a graph that PyTorch runs without the model's Python code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .stand_in import StandIn
from .tracing import flags, free_shapes, quiet, tensors_of, tracing

FILE = "model.pt2"


def make_program(model: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    """The model as transformers' `ExportedModel` with an `ExportedProgram`."""
    with tracing(model, "exported-program"):
        from transformers.exporters.configs import DynamoConfig
        from transformers.exporters.exporter_dynamo import DynamoExporter

        settings = DynamoConfig(dynamic=True, dynamic_shapes=free_shapes(inputs))
        given: dict[str, Any] = {**inputs, **flags(model)}
        exported = DynamoExporter().export(model, given, settings)
    exported.program.example_inputs = None  # it would be saved with them
    for module in exported.program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:  # lines of source code with this machine's paths
                node.meta.pop("stack_trace", None)
    return exported


class ProgramModel(StandIn):
    """A program read back from its file, for the check.

    Args:
        names: of the inputs, in the order in which they were traced.
    """

    def __init__(self, folder: Path, config: Any, names: list[str]) -> None:
        super().__init__(config)
        with quiet():
            self.program = torch.export.load(folder / FILE).module()
        self.names = names

    def answer(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the program gives."""
        return tensors_of(self.program(**{name: inputs[name] for name in self.names}))

    def train(self, mode: bool = True) -> "ProgramModel":
        """A program is what it was traced as; it has no other mode."""
        return self
