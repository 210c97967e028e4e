"""A saved model traced for another runtime, by transformers' own exporters, with every dimension free."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import ModelError
from ..modeling.loading import quiet_transformers
from .stand_in import StandIn

if TYPE_CHECKING:
    from ..data.token_table import TokenTable
    from ..recipe import Recipe

DIMENSIONS = {2: ("batch", "length"), 3: ("batch", "choices", "length")}
"""What an input's dimensions are called, by their number."""
TALKERS = ("torch.onnx", "torch.export", "torch.fx", "root")


class Recorder(StandIn):
    """Keeps what a model is called with."""

    def __init__(self, model: Any) -> None:
        super().__init__(model.config)
        self.model = model
        self.calls: list[dict[str, torch.Tensor]] = []

    def answer(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The model's own outputs."""
        self.calls.append(dict(inputs))
        return tensors_of(self.model(**inputs))


def tensors_of(outputs: Any) -> dict[str, torch.Tensor]:
    """The tensors among a model's outputs, by name."""
    named = outputs.items() if isinstance(outputs, Mapping) else vars(outputs).items()
    return {name: value for name, value in named if isinstance(value, torch.Tensor)}


def model_inputs(recipe: "Recipe", model: Any, table: "TokenTable", examples: np.ndarray) -> dict[str, torch.Tensor]:
    """What the task gives its model for some examples, by name: [sequences, length], or [1, sequences, length]."""
    recorder = Recorder(model)
    with torch.inference_mode():
        recipe.forward(recorder, recipe.batch(table, examples))
    return {name: tensor.clone() for name, tensor in recorder.calls[0].items() if isinstance(tensor, torch.Tensor)}


def examples_to_trace(table: "TokenTable") -> np.ndarray:
    """int64[2]: the longest example and one of middling length."""
    order = np.argsort(table.lengths, kind="stable")
    return np.unique(order[[len(order) // 2, -1]])


def trace_inputs(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of the same kinds that hold nothing of the user's rows, with no dimension of size 1.

    Tracing would take such a dimension for a constant, and a file might keep what was traced with.
    """
    made = {}
    for name, tensor in inputs.items():
        empty = torch.zeros([max(2, size) for size in tensor.shape], dtype=tensor.dtype)
        made[name] = torch.ones_like(empty) if name == "attention_mask" else empty
    return made


def free_shapes(inputs: Mapping[str, torch.Tensor]) -> dict[str, dict[int, Any]]:
    """Every dimension of every input as one that may be of any size."""
    from torch.export import Dim

    return {name: dict.fromkeys(range(tensor.ndim), Dim.DYNAMIC) for name, tensor in inputs.items()}


def flags(model: Any) -> dict[str, bool]:
    """Outputs that are not wanted: no cache of keys and values."""
    return {"use_cache": False} if hasattr(model.config, "use_cache") else {}


@contextlib.contextmanager
def tracing(model: Any, target: str) -> Iterator[None]:
    """Quiet, and an error of the exporter, of which there are dozens of types, is one message.

    Raises:
        ModelError: this architecture can't be exported.
    """
    try:
        with quiet(), torch.no_grad():
            yield
    except Exception as error:
        said = next(iter(str(error).strip().splitlines()), "")
        raise ModelError(
            f"--to {target}: transformers' exporter can't export {type(model).__name__}: {type(error).__name__}: "
            f"{said}; export it with --to merged and serve it with PyTorch"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters print, log and warn of on their way; errors come through."""
    loggers = [logging.getLogger(name) for name in ("", *TALKERS)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with quiet_transformers(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
