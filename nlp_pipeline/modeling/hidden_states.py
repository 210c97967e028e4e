"""A student that learns its teacher's states after each layer, beside what comes out in the end."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from .attention_layout import ROUND_TO, Layout
from .padding_free import find
from .parameters import layer_stack

if TYPE_CHECKING:
    import torch

    from ..data.fields import Batch
    from ..recipe import Recipe


class HiddenStates:
    """A teacher that reads every batch beside its student, and how far apart their states are.

    The state after the student's layer m of M is compared with the teacher's after layer m × N / M of N, so that the
    last ones meet (the uniform mapping of Jiao et al. 2019, arXiv:1909.10351), by 1 - cosine (Sanh et al. 2019,
    arXiv:1910.01108), at real tokens only. It draws nothing, so that a run that goes on sees the same states again.

    Args:
        teacher: on the device; with the student's tokenizer and as many features.
        student: before anything wraps it.
        weight: of the distance in the loss.

    Raises:
        ModelError: one of them isn't one stack of layers.
    """

    def __init__(self, teacher: Any, student: Any, weight: float) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.weight = weight
        self.ours = list(layer_stack(student, "teacher.hidden_states"))
        every = list(layer_stack(teacher, "teacher.hidden_states"))
        ends = [-(-(m + 1) * len(every) // len(self.ours)) for m in range(len(self.ours))]
        self.theirs = list(dict.fromkeys(every[end - 1] for end in ends))
        self.pairs = [self.theirs.index(every[end - 1]) for end in ends]

    def forward(
        self, recipe: "Recipe", model: Any, batch: "Batch", precision: AbstractContextManager[Any]
    ) -> "tuple[Any, torch.Tensor]":
        """The student's outputs, and weight × the distance summed over tokens (the mean over layers), float32[].

        Args:
            model: the student, perhaps wrapped for several processes.
            precision: the arithmetic of the teacher.
        """
        import torch

        runner = find(self.teacher)
        packed = runner.packed(Layout(batch.lengths, ROUND_TO)) if runner else nullcontext()
        with torch.no_grad(), precision, packed, _recorded(self.theirs) as states:
            recipe.forward(self.teacher, batch)
            wanted = [_real(state, runner, batch) for state in states]
        with _recorded(self.ours) as states:
            outputs = recipe.forward(model, batch)
        runner = find(model)
        apart = [
            (1 - torch.cosine_similarity(_real(state, runner, batch), aim, dim=-1)).sum()
            for state, aim in zip(states, (wanted[place] for place in self.pairs), strict=True)
        ]
        return outputs, self.weight * torch.stack(apart).mean()


@contextmanager
def _recorded(layers: "Sequence[torch.nn.Module]") -> "Iterator[list[torch.Tensor]]":
    """What comes out of each layer inside, in the order in which they run."""
    states: list[torch.Tensor] = []

    def record(module: Any, args: Any, output: Any) -> None:
        states.append(output if not isinstance(output, tuple) else output[0])

    hooks = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def _real(states: "torch.Tensor", runner: Any, batch: "Batch") -> "torch.Tensor":
    """float32[real tokens, features], of a model that runs packed or padded."""
    if runner is not None and runner.layout is not None:
        return states[0, : runner.layout.real_tokens].float()
    return states[batch.inputs["attention_mask"].bool()].float()
