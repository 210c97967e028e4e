"""What a student learns from a teacher (Hinton et al. 2015): the outputs that are kept, and the loss against them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config.checks import teacher_folder
from ..data.fields import IGNORED, Field
from ..errors import ConfigError, ModelError

if TYPE_CHECKING:
    import torch

    from ..config.schema import TeacherConfig
    from ..data.fields import Batch
    from .embeddings import Pooling

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
        same_labels: whether answers belong to labels, so that both models must have the same ones.
        about: the setting that `record` goes by, if any.
    """

    field: Field
    record: "Callable[[Any, Batch], list[np.ndarray]]"
    loss: "Callable[[Any, Mapping[str, torch.Tensor], float], torch.Tensor]"
    same_tokens: bool = False
    same_labels: bool = True
    about: str = ""


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


def vector_targets(pooling: "Pooling", weigh: "Callable[[Mapping[str, torch.Tensor]], float]") -> SoftTargets:
    """The vectors of all the texts of an effective batch, which `loss` sees at once.

    Args:
        pooling: how the teacher makes a vector of its token states.
        weigh: what the summed loss is divided by, so that the vectors' part is a mean over texts.
    """
    from .embeddings import pooled, unit

    def record(outputs: Any, batch: "Batch") -> list[np.ndarray]:
        vectors = unit(pooled(outputs.last_hidden_state, batch.inputs["attention_mask"], pooling))
        return batch.by_example(vectors.cpu().numpy())

    def loss(outputs: Any, targets: "Mapping[str, torch.Tensor]", temperature: float) -> "torch.Tensor":
        return weigh(targets) * mean_vector_distance(outputs.representations, targets[NAME])

    kept = Field(NAME, "vector", "float32", target=True)
    return SoftTargets(kept, record, loss, same_labels=False, about=pooling)


def vector_teacher_problems(teacher: "TeacherConfig | None") -> list[str]:
    """What is wrong with a teacher of vectors, as far as the disk can tell; that there is none is said elsewhere."""
    problems: list[str] = []
    if teacher is not None:
        if teacher.temperature != type(teacher).model_fields["temperature"].default:
            problems.append("teacher.temperature: vectors have no softmax; leave it out")
        try:
            teacher_pooling(teacher)
        except ModelError as error:
            problems += [f"teacher: {problem}" for problem in error.problems]
    return problems


def teacher_pooling(teacher: "TeacherConfig") -> "Pooling | None":
    """How a teacher makes a vector of its token states; None where its folder doesn't say.

    Raises:
        ModelError: in a way that isn't known here.
    """
    from .embeddings import read_pooling

    try:
        folder = teacher_folder(teacher.name)
    except ConfigError:
        return None
    return read_pooling(folder) if folder else None


def mean_vector_distance(student: "torch.Tensor", teacher: "torch.Tensor") -> "torch.Tensor":
    """Mean over texts of the squared distance of both vectors at length 1, float32[]: 2 - 2 × their cosine.

    The squared error of Reimers & Gurevych 2020 (arXiv:2004.09813), summed over features so that its size doesn't
    depend on their number. Where the models have different numbers of features: the mean over pairs of texts of the
    squared difference between the student's cosine and the teacher's (similarity-preserving, Tung & Mori 2019,
    arXiv:1907.09682).

    Args:
        student: [texts, features], of any length.
        teacher: [texts, the teacher's features].
    """
    import torch

    from .embeddings import unit

    ours, theirs = unit(student.float()), unit(teacher.float())
    if ours.shape == theirs.shape:
        return (ours - theirs).square().sum(-1).mean()
    apart = ours @ ours.T - theirs @ theirs.T
    others = ~torch.eye(len(apart), dtype=torch.bool, device=apart.device)
    return apart[others].square().sum() / max(int(others.sum()), 1)


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
