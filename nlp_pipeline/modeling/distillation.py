"""What a student learns from a teacher (Hinton et al. 2015): the outputs that are kept, and the loss against them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.fields import IGNORED, Field

if TYPE_CHECKING:
    import torch

    from ..data.fields import Batch

NAME = "soft_labels"


@dataclass(frozen=True)
class SoftTargets:
    """A task's answer to `soft_targets`.

    Attributes:
        field: the column that holds the teacher's answers in the training table, and the tensor it becomes.
        record: the teacher's outputs and the batch to one array an example, on the CPU; its last axis is the labels',
            in the teacher's order, where the task has labels.
        loss: (the student's outputs, targets, temperature) to the summed loss, float32[].
        same_tokens: whether answers belong to tokens, so that both models must have the same tokenizer.
    """

    field: Field
    record: "Callable[[Any, Batch], list[np.ndarray]]"
    loss: "Callable[[Any, Mapping[str, torch.Tensor], float], torch.Tensor]"
    same_tokens: bool = False


def label_targets(size: int, kind: str) -> SoftTargets:
    """Logits of a text: a softmax over labels, or a yes or no each (`multi_label`), or a number (`regression`)."""

    def record(outputs: Any, batch: "Batch") -> list[np.ndarray]:
        return list(outputs.logits.float().cpu().numpy())

    def loss(outputs: Any, targets: "Mapping[str, torch.Tensor]", temperature: float) -> "torch.Tensor":
        if kind == "regression":
            from .losses import squared_error_sum

            return squared_error_sum(outputs.logits, targets[NAME])
        if kind == "multi_label":
            return soft_binary_sum(outputs.logits, targets[NAME], temperature)
        return soft_cross_entropy_sum(outputs.logits, targets[NAME], temperature)

    return SoftTargets(Field(NAME, "vector", "float32", size=size, target=True), record, loss)


def token_targets(size: int) -> SoftTargets:
    """Logits of each token; those with a label of their own count."""

    def record(outputs: Any, batch: "Batch") -> list[np.ndarray]:
        rows = outputs.logits.float().cpu().numpy()
        return [row[:length] for row, length in zip(rows, batch.lengths, strict=True)]

    def loss(outputs: Any, targets: "Mapping[str, torch.Tensor]", temperature: float) -> "torch.Tensor":
        real = targets["labels"] != IGNORED
        return soft_cross_entropy_sum(outputs.logits[real], targets[NAME][real], temperature)

    return SoftTargets(Field(NAME, "token_vectors", "float32", size=size, target=True), record, loss, True)


def soft_cross_entropy_sum(student: "torch.Tensor", teacher: "torch.Tensor", temperature: float) -> "torch.Tensor":
    """Sum over rows of temperature² × the divergence of softmax(student / T) from softmax(teacher / T).

    The square keeps the gradient's size as T grows. Divergence, not cross entropy: 0 where both agree.

    Args:
        student: logits [rows, classes].
        teacher: the same.
    """
    import torch.nn.functional as F

    wanted = F.log_softmax(teacher.float() / temperature, -1)
    found = F.log_softmax(student.float() / temperature, -1)
    return temperature**2 * F.kl_div(found, wanted, reduction="sum", log_target=True)


def soft_binary_sum(student: "torch.Tensor", teacher: "torch.Tensor", temperature: float) -> "torch.Tensor":
    """Sum over rows of temperature² × the mean over labels of the divergence of the two yes-or-no distributions."""
    import torch.nn.functional as F

    student, teacher = student.float() / temperature, teacher.float() / temperature
    yes = teacher.sigmoid()
    apart = yes * (F.logsigmoid(teacher) - F.logsigmoid(student))
    apart = apart + (1 - yes) * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return temperature**2 * apart.mean(-1).sum()
