"""ONNX, in float32."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .tracing import DIMENSIONS, flags, free_shapes, quiet, tracing

if TYPE_CHECKING:
    import torch

OPSET = 20
"""Read by ONNX Runtime from 1.17 on."""


def make_graph(model: Any, inputs: "Mapping[str, torch.Tensor]") -> Any:
    """The model as transformers' `ExportedModel` with an ONNX graph.

    Args:
        inputs: as `tracing.trace_inputs` gives them.
    """
    with tracing(model, "onnx"):
        from transformers.exporters.configs import OnnxConfig
        from transformers.exporters.exporter_onnx import OnnxExporter

        settings = OnnxConfig(dynamic=True, dynamic_shapes=free_shapes(inputs), opset_version=OPSET)
        given: dict[str, Any] = {**inputs, **flags(model)}
        exported = OnnxExporter().export(model, given, settings)
    tidy(exported.program, {name: DIMENSIONS[tensor.ndim] for name, tensor in inputs.items()})
    return exported


def tidy(graph: Any, dimensions: Mapping[str, tuple[str, ...]]) -> None:
    """Name the free dimensions, and take out what tracing noted of this machine: file paths, lines of source code.

    Args:
        graph: an `onnx_ir.Model`, changed in place.
        dimensions: the names of each input's dimensions.
    """
    names: dict[str, str] = {}
    for value in graph.graph.inputs:
        for size, name in zip(value.shape, dimensions[value.name], strict=True):
            if not isinstance(size, int):
                names.setdefault(str(size.value), name)
    graph.metadata_props.clear()
    graph.doc_string = None
    for part in graph.graphs():
        part.metadata_props.clear()
        part.doc_string = None
        values = [*part.inputs, *part.initializers.values()]
        for node in part:
            node.metadata_props.clear()
            node.doc_string = None
            values += node.outputs
        for value in values:
            value.metadata_props.clear()
            value.doc_string = None
            if value.shape is not None and not value.shape.frozen:
                for place, size in enumerate(value.shape):
                    if not isinstance(size, int) and str(size.value) in names:
                        value.shape[place] = names[str(size.value)]


def write_onnx(exported: Any, folder: Path) -> None:
    """`model.onnx` with its weights beside it."""
    with quiet():
        exported.save_pretrained(folder)
