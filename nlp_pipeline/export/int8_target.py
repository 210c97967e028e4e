"""ONNX with weights of 8 bits; what layers are given is brought to 8 bits as it comes (dynamic quantization)."""

import copy
from collections.abc import Mapping
from typing import Any

from .tracing import quiet

LAYERS = ("MatMul", "Gemm")
EMBEDDINGS = ("Gather",)
CHOICES: tuple[dict[str, Any], ...] = (
    {"weights": "layers and embeddings", "per_channel": True, "reduce_range": True},
    {"weights": "layers", "per_channel": True, "reduce_range": True},
    {"weights": "layers", "per_channel": True, "reduce_range": False},
)
"""What is tried in turn until the score holds, the smallest and safest first.

With `reduce_range` weights have 7 of the 8 bits: CPUs without VNNI add products of 8 bits in 16, which overflow
silently, so that a model measured on a CPU with VNNI would be another one there."""


def quantized(exported: Any, inputs: Mapping[str, Any], choice: Mapping[str, Any]) -> Any:
    """The same model with weights of 8 bits, by ONNX Runtime's own tools.

    Args:
        exported: transformers' `ExportedModel` with a float graph, which stays as it is.
    """
    with quiet():
        from transformers.exporters.configs import ExportFormat
        from transformers.exporters.quantizers.quantizer_onnxruntime import (
            OnnxRuntimeDynamicConfig,
            OnnxRuntimeQuantizer,
        )

        kinds = [*LAYERS, *(EMBEDDINGS if "embeddings" in choice["weights"] else ())]
        settings = OnnxRuntimeDynamicConfig(
            op_types_to_quantize=kinds, per_channel=choice["per_channel"], reduce_range=choice["reduce_range"]
        )
        program = OnnxRuntimeQuantizer(settings).quantize(exported.program, dict(inputs), ExportFormat.ONNX)
    made = copy.copy(exported)
    component = copy.copy(exported.components["model"])
    component.program = program
    made.components = {"model": component}
    return made
