"""Each target's export: written into a folder, read back from it, checked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ExportError
from .checking import Check, Judged, coarse_problems, compare, float_problems
from .rows import CheckRows

if TYPE_CHECKING:
    import torch

    from ..progress import Reporter
    from ..recipe import Recipe


@dataclass
class Source:
    """The model to export, and what every target needs of it."""

    recipe: "Recipe"
    folder: Path
    """The saved model."""
    run: Path | None
    """The run directory, if the model is that of one."""
    model: Any
    """The PyTorch model, padded, in float32 on the CPU."""
    rows: CheckRows
    expected: Judged
    inputs: "dict[str, torch.Tensor]"
    tolerance: float
    score_tolerance: float
    reporter: "Reporter"
    graphs: list[Any] = field(default_factory=list)
    """The float ONNX graph, once it is made."""

    def compared(self, export: Any, tolerance: float | None = None, model: Any = None) -> Check:
        """An export beside the model."""
        limit = self.tolerance if tolerance is None else tolerance
        return compare(self.recipe, model or self.model, export, self.rows, self.expected, limit)

    def onnx_graph(self) -> Any:
        """The model as transformers' `ExportedModel` with a float ONNX graph; made once."""
        from .onnx_target import make_graph

        if not self.graphs:
            self.graphs.append(make_graph(self.model, self.inputs))
        return self.graphs[0]


@dataclass
class Made:
    """What was made."""

    answers: Any
    """Stands for the model, read back from the folder."""
    check: Check
    facts: dict[str, Any]
    """For `export.json`."""
    note: str = ""


def make(source: Source, target: str, folder: Path) -> Made:
    """Make and check one export in a folder.

    Raises:
        ExportError: it isn't what the model is.
    """
    makers: dict[str, Callable[[Source, Path], Made]] = {
        "onnx": _onnx,
        "onnx-int8": _int8,
        "exported-program": _program,
        "merged": _merged,
    }
    return makers[target](source, folder)


def _onnx(source: Source, folder: Path) -> Made:
    from .onnx_model import OnnxModel
    from .onnx_target import write_onnx

    exported = source.onnx_graph()
    write_onnx(exported, folder)
    answers = OnnxModel(folder, source.model.config)
    check = source.compared(answers)
    _refuse("onnx", float_problems(check, source.tolerance))
    return Made(answers, check, _graph_facts(exported))


def _int8(source: Source, folder: Path) -> Made:
    from .int8_target import CHOICES, quantized
    from .onnx_model import OnnxModel
    from .onnx_target import write_onnx

    recipe, problems = source.recipe, []
    for choice in CHOICES:
        exported = quantized(source.onnx_graph(), source.inputs, choice)
        write_onnx(exported, folder)
        answers = OnnxModel(folder, source.model.config)
        check = source.compared(answers, source.score_tolerance)
        found = coarse_problems(check, source.expected, source.score_tolerance, recipe.greater_is_better)
        bits = 7 if choice["reduce_range"] else 8
        note = f"weights of {bits} bits in {choice['weights']}"
        if not found:
            return Made(answers, check, {**_graph_facts(exported), "quantization": dict(choice)}, note)
        source.reporter.say(f"onnx-int8: not with {note}: {found[0]}")
        problems += [f"{note}: {problem}" for problem in found]
    raise ExportError(f"onnx-int8: {problem}" for problem in problems)


def _program(source: Source, folder: Path) -> Made:
    from .program_target import ProgramModel, make_program
    from .tracing import DIMENSIONS

    exported = make_program(source.model, source.inputs)
    exported.save_pretrained(folder)
    answers = ProgramModel(folder, source.model.config, list(source.inputs))
    check = source.compared(answers)
    _refuse("exported-program", float_problems(check, source.tolerance))
    named = {name: list(DIMENSIONS[tensor.ndim]) for name, tensor in source.inputs.items()}
    return Made(answers, check, {"inputs": named})


def _merged(source: Source, folder: Path) -> Made:
    from ..stages.predicting import plain_model
    from .merged_target import adapted_model, write_merged

    write_merged(source.folder, folder)
    answers = plain_model(source.recipe, folder).eval()
    adapted, note = adapted_model(source.recipe, source.run)
    check = source.compared(answers, model=adapted)
    _refuse("merged", float_problems(check, source.tolerance))
    beside = "the saved model" if adapted is None else "the pretrained model under its adapters"
    return Made(answers, check, {"beside": beside}, f"compared with {beside}" + (f": {note}" if note else ""))


def _graph_facts(exported: Any) -> dict[str, Any]:
    graph = exported.program.graph
    parts = {"inputs": graph.inputs, "outputs": graph.outputs}
    named = {kind: {v.name: [_size(size) for size in v.shape] for v in values} for kind, values in parts.items()}
    return {"opset": exported.program.opset_imports[""], **named}


def _size(size: Any) -> int | str:
    return size if isinstance(size, int) else str(size.value)


def _refuse(target: str, problems: list[str]) -> None:
    if problems:
        raise ExportError(f"{target}: {problem}" for problem in problems)
