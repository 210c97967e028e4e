"""Heads over a whole vocabulary, computed where a target needs them only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..data.fields import IGNORED

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..data.fields import Batch


def target_logits(model: Any, batch: "Batch") -> Any:
    """A language model's outputs with logits [targets, vocabulary], those at the labels that count."""
    with logits_at(model, batch.targets["labels"] != IGNORED):
        return model(**batch.inputs)


def target_losses(logits: "torch.Tensor", labels: "torch.Tensor") -> "list[np.ndarray]":
    """float64[2] a sequence, on the CPU: the cross entropy summed over its targets, in nats, and their number.

    Args:
        logits: [targets, vocabulary].
        labels: int64[sequences, longest]; IGNORED is no target.
    """
    import torch

    where = labels != IGNORED
    losses = torch.nn.functional.cross_entropy(logits.float(), labels[where], reduction="none")
    spread = torch.zeros(labels.shape, dtype=torch.float64, device=labels.device)
    spread[where] = losses.double()
    return sums_and_counts(spread, labels)


def log_likelihoods(logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
    """float32[sequences], the log-likelihood of each one's targets, with a gradient.

    Args:
        logits: [targets, vocabulary].
        labels: int64[sequences, longest]; IGNORED is no target.
    """
    import torch

    where = labels != IGNORED
    found = -torch.nn.functional.cross_entropy(logits.float(), labels[where], reduction="none")
    return found.new_zeros(len(labels)).index_add(0, where.nonzero()[:, 0], found)


def sums_and_counts(losses: "torch.Tensor", labels: "torch.Tensor") -> "list[np.ndarray]":
    """float64[2] a sequence, on the CPU: the sum of its losses [sequences, longest], and the number of its targets."""
    import torch

    return list(torch.stack([losses.sum(1), (labels != IGNORED).sum(1).double()], 1).cpu().numpy())


def pair_values(scores: "torch.Tensor", labels: "torch.Tensor", reference: "torch.Tensor | None") -> "list[np.ndarray]":
    """float64[2, 3] a pair of sequences, on the CPU: log-likelihood, tokens, and the reference model's log-likelihood.

    Args:
        scores: float[2 * pairs], log-likelihoods.
        labels: int64[2 * pairs, longest]; IGNORED is no token of the reply.
        reference: float[2 * pairs]; nan is put for those that aren't known.
    """
    import torch

    known = torch.full_like(scores, float("nan")) if reference is None else reference
    columns = scores, (labels != IGNORED).sum(1), known
    return list(torch.stack([part.double() for part in columns], 1).view(-1, 2, 3).cpu().numpy())


def losses_hidden_in_turn(model: Any, batch: "Batch", mask_id: int, folds: int) -> "torch.Tensor":
    """float64[sequences, longest], the cross entropy of each token from a pass in which its word is hidden.

    Args:
        batch: with `words` among its targets, and in `labels` the id of every token that counts.
        folds: passes; in each, every so many-th word of a text is hidden.
    """
    import torch

    ids, words, labels = batch.inputs["input_ids"], batch.targets["words"], batch.targets["labels"]
    losses = torch.zeros(labels.shape, dtype=torch.float64, device=labels.device)
    for fold in range(folds):
        where = (labels != IGNORED) & (words % folds == fold)
        if not bool(where.any()):
            continue
        with logits_at(model, where):
            logits = model(**{**batch.inputs, "input_ids": ids.masked_fill(where, mask_id)}).logits
        found = torch.nn.functional.cross_entropy(logits.float(), labels[where], reduction="none")
        losses[where] = found.double()
    return losses


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
