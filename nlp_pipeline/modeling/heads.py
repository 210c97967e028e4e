"""Heads over a whole vocabulary, computed where a target needs them only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextmanager
def logits_at(model: Any, where: "torch.Tensor") -> Iterator[None]:
    """Inside, a language model's logits are [positions, vocabulary], those of some positions in the batch's order.

    The last layer is most of the memory and much of the time of a small model; the logits left out have no part in the
    loss or its gradient.

    Args:
        model: of transformers, perhaps wrapped for several processes.
        where: bool[sequences, longest].
    """
    head = getattr(model, "module", model).get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda module, args: (args[0][where], *args[1:]))
    try:
        yield
    finally:
        hook.remove()
