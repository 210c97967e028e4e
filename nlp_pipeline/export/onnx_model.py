"""An exported ONNX folder in place of the PyTorch model, for prediction and serving."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..config.schema import ModelConfig
from ..errors import MissingExtraError, ModelError
from ..modeling.loading import load_model_config
from .folder import EXPORT_FILE, facts_of
from .stand_in import StandIn

FILE = "model.onnx"


class OnnxModel(StandIn):
    """A graph in an ONNX Runtime session.

    Args:
        folder: with `model.onnx` and its weights beside it.
        config: the transformers config.
        threads: of one forward pass; by default as many as torch uses.

    Attributes:
        inputs: names of the tensors that the graph reads; others may be given where they are all 0.
        outputs: names of what it gives.
    """

    def __init__(self, folder: Path, config: Any, threads: int | None = None) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise MissingExtraError(f"the ONNX model in {folder}", "onnxruntime", "export")
        import onnxruntime

        super().__init__(config)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3  # errors: what it says of its own choices is not for users
        try:
            self.session = onnxruntime.InferenceSession(folder / FILE, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common type of their own
            first = str(error).splitlines()[0]
            raise ModelError(f"{folder / FILE} can't be loaded: {first}; is it whole? Export it again") from None
        self.inputs = tuple(spec.name for spec in self.session.get_inputs())
        self.outputs = tuple(spec.name for spec in self.session.get_outputs())

    def answer(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The graph's outputs on the device of the inputs.

        Raises:
            ModelError: the graph reads an input that isn't there, or can't read one that says something.
        """
        if absent := [name for name in self.inputs if name not in inputs]:
            raise ModelError(f"the ONNX model reads {', '.join(absent)}, which the rows don't give")
        foreign = [name for name, tensor in inputs.items() if name not in self.inputs and bool(tensor.any())]
        if foreign:
            raise ModelError(
                f"the ONNX model was exported without {', '.join(foreign)}, which these rows give: was it checked on "
                "single texts, and are these pairs? Export it again with --rows FILE that has rows like these"
            )
        device = next(iter(inputs.values())).device
        feed = {name: inputs[name].cpu().contiguous().numpy() for name in self.inputs}
        found = self.session.run(None, feed)
        pairs = zip(self.outputs, found, strict=True)
        return {name: torch.from_numpy(array).to(device) for name, array in pairs}


def exported_model(folder: Path, config: ModelConfig) -> OnnxModel | None:
    """What stands for the model of a folder that holds an ONNX export; None where PyTorch's own weights are.

    Raises:
        ModelError: it holds an export that prediction doesn't take.
    """
    target = facts_of(folder).get("target")
    if target in (None, "merged"):
        return None
    if target in ("onnx", "onnx-int8"):
        return OnnxModel(folder, load_model_config(config))
    raise ModelError(
        f"{folder} holds an export to {target} ({EXPORT_FILE} says so), which is for torch.export.load; expected an "
        "export to onnx, onnx-int8 or merged, or the run itself"
    )
