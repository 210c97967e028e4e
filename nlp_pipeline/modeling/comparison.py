"""Two sets of saved weights, tensor by tensor and bit by bit."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TensorDifference:
    """A tensor that is not the same in both.

    Attributes:
        name: the parameter's or buffer's name.
        shape: of each, or None where it is missing, with the type of its numbers.
        largest: the largest absolute difference; infinite where a number is missing or NaN in one of them.
        share: the share of numbers that differ.
    """

    name: str
    shape: tuple[str | None, str | None]
    largest: float
    share: float

    def __str__(self) -> str:
        if self.shape[0] != self.shape[1]:
            return f"{self.name}: {self.shape[0] or 'absent'} in the one, {self.shape[1] or 'absent'} in the other"
        return f"{self.name}: {self.share:.2%} of its numbers differ, by {self.largest:.3g} at most"


def compare_weights(first: Path, second: Path, order: Sequence[str] = ()) -> tuple[int, list[TensorDifference]]:
    """How many tensors two folders of safetensors files hold, and those that differ in any bit.

    Args:
        order: names in the order wanted, such as the model's own; what isn't named there follows by name.
    """
    with ExitStack() as stack:
        ours, theirs = (_open(folder, stack) for folder in (first, second))
        names = [name for name in order if name in ours or name in theirs]
        names += sorted((ours.keys() | theirs.keys()) - set(names))
        found = [_compare(name, ours.get(name), theirs.get(name)) for name in names]
    return len(names), [difference for difference in found if difference is not None]


def unreadable(folder: Path) -> list[Path]:
    """The safetensors files of a folder that are not whole."""
    from safetensors import SafetensorError, safe_open

    bad = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (OSError, SafetensorError):
            bad.append(path)
    return bad


def _open(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """The open file that holds each tensor, by the tensor's name."""
    from safetensors import safe_open

    files = [stack.enter_context(safe_open(path, framework="pt")) for path in sorted(folder.glob("*.safetensors"))]
    return {name: file for file in files for name in file.keys()}  # noqa: SIM118 (the file is no mapping)


def _compare(name: str, ours: Any | None, theirs: Any | None) -> TensorDifference | None:
    import torch

    pair: list[Any] = [None if file is None else file.get_tensor(name) for file in (ours, theirs)]
    shapes = [None if tensor is None else f"{tensor.dtype}{list(tensor.shape)}" for tensor in pair]
    if shapes[0] != shapes[1]:
        return TensorDifference(name, (shapes[0], shapes[1]), float("inf"), 1.0)
    a, b = (tensor.reshape(-1) for tensor in pair)
    if torch.equal(a.view(torch.uint8), b.view(torch.uint8)):
        return None
    gap = (a.double() - b.double()).abs().nan_to_num(nan=float("inf"))
    different = (a.view(torch.uint8) != b.view(torch.uint8)).view(len(a), -1).any(dim=1)
    return TensorDifference(name, (shapes[0], shapes[1]), float(gap[different].max()), float(different.double().mean()))
