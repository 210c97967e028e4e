"""Losses over the embeddings of a whole batch. All give a sum, float32[]; similarity is the cosine.

`vectors` float[texts, features] need not have length 1. A temperature divides similarities before a softmax; the scale
of other libraries is one by it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .embeddings import unit

if TYPE_CHECKING:
    import torch


def nested(vectors: "torch.Tensor", dimensions: Sequence[int]) -> "list[torch.Tensor]":
    """The vectors, and their first so many features for each number (Matryoshka, Kusupati 2022, arXiv:2205.13147).

    Raises:
        ConfigError: they have no more features than that.
    """
    largest, features = max(dimensions, default=0), vectors.shape[1]
    if largest >= features:
        raise ConfigError(f"options.dimensions: found {largest}, expected sizes below {features}, this model's own")
    return [vectors, *(vectors[:, :size] for size in dimensions)]


def in_batch_negatives_sum(
    vectors: "torch.Tensor", sizes: "torch.Tensor", keys: "torch.Tensor", temperature: float
) -> "torch.Tensor":
    """Sum over examples of the cross entropy of a softmax over all texts but anchors, the example's own being right.

    Multiple negatives ranking (Henderson et al. 2017, arXiv:1705.00652), InfoNCE. Texts that answer the same anchor in
    another example, and copies of the right text or of the anchor, are no negatives.

    Args:
        vectors: of each example its anchor, its positive, and any number of negatives.
        sizes: int64[examples], the texts of each.
        keys: int64[texts], equal for equal texts.
    """
    import torch
    import torch.nn.functional as F

    first = sizes.cumsum(0) - sizes
    is_anchor = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
    is_anchor[first] = True
    places = torch.cumsum(~is_anchor, 0) - 1
    right = places[first + 1]
    normal = unit(vectors.float())
    scores = (normal[first] @ normal[~is_anchor].T) / temperature
    others, anchors = keys[~is_anchor], keys[first]
    same = (others[None, :] == keys[first + 1][:, None]) | (others[None, :] == anchors[:, None])
    same[:, right] |= anchors[:, None] == anchors[None, :]  # what is right for an equal anchor elsewhere
    same[torch.arange(len(sizes), device=vectors.device), right] = False
    # In float64: what is added to all scores changes nothing, and rounding alone would move it.
    return F.cross_entropy(scores.double().masked_fill(same, -torch.inf), right, reduction="sum").float()


def cosines(vectors: "torch.Tensor") -> "torch.Tensor":
    """float32[pairs], of vectors that lie one pair after another."""
    normal = unit(vectors.float())
    return (normal[0::2] * normal[1::2]).sum(-1)


def cosent_sum(found: "torch.Tensor", scores: "torch.Tensor", temperature: float) -> "torch.Tensor":
    """Pairs × log(1 + the sum of exp((cosine of the worse - cosine of the better) / temperature)) (Su 2022, CoSENT).

    The sum is over all two pairs of which one has the higher score.

    Args:
        found: float[pairs], cosines; `scores` likewise, on any scale.
    """
    import torch

    exact = found.double() / temperature
    apart = exact[None, :] - exact[:, None]  # [better, worse]
    apart = apart.masked_fill(scores[:, None] <= scores[None, :], -torch.inf).flatten()
    return len(found) * torch.logsumexp(torch.cat([apart.new_zeros(1), apart]), 0).float()


def with_partners(labels: "torch.Tensor") -> "torch.Tensor":
    """bool[texts], whether another text has the same label."""
    return (labels[:, None] == labels[None, :]).sum(1) > 1


def supervised_contrastive_sum(vectors: "torch.Tensor", labels: "torch.Tensor", temperature: float) -> "torch.Tensor":
    """Sum over texts with partners of the mean over these of -log of a partner's share in a softmax over all others.

    Khosla et al. 2020, arXiv:2004.11362, equation 2.

    Args:
        labels: int64[texts].
    """
    import torch

    normal = unit(vectors.float())
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    scores = (normal @ normal.T / temperature).double().masked_fill(itself, -torch.inf)
    partner = (labels[:, None] == labels[None, :]) & ~itself
    shares = scores.log_softmax(-1).masked_fill(~partner, 0.0)
    return -(shares.sum(1) / partner.sum(1).clamp(min=1)).sum().float()


def batch_hard_triplet_sum(vectors: "torch.Tensor", labels: "torch.Tensor", temperature: float) -> "torch.Tensor":
    """Sum over texts with partners of softplus((nearest other label - farthest partner) / temperature), by cosine.

    Hermans et al. 2017, arXiv:1703.07737, batch hard with the soft margin.

    Args:
        labels: int64[texts].
    """
    import torch
    import torch.nn.functional as F

    normal = unit(vectors.float())
    scores = (normal @ normal.T / temperature).double()
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    same = labels[:, None] == labels[None, :]
    farthest = scores.masked_fill(~same | itself, torch.inf).amin(1)
    nearest = scores.masked_fill(same, -torch.inf).amax(1)
    return F.softplus(nearest - farthest)[with_partners(labels)].sum().float()


def nested_loss_sum(
    loss: str,
    vectors: "torch.Tensor",
    targets: "Mapping[str, torch.Tensor]",
    dimensions: Sequence[int],
    *scale: float,
) -> "torch.Tensor":
    """The mean of a loss over whole vectors and their first so many features, each as `embedding_loss_sum` has it.

    Args:
        scale: temperature, lowest and highest.
    """
    losses = [embedding_loss_sum(loss, part, targets, *scale) for part in nested(vectors, dimensions)]
    return sum(losses[1:], losses[0]) / len(losses)


def embedding_loss_sum(
    loss: str,
    vectors: "torch.Tensor",
    targets: "Mapping[str, torch.Tensor]",
    temperature: float,
    lowest: float,
    highest: float,
) -> "torch.Tensor":
    """One of the losses above, by name, or `cosine`: the squared distance of cosines from scores.

    Args:
        targets: `sizes`, and `keys` or `labels`.
        lowest: the score to which a cosine of 0 belongs, `highest` that of a cosine of 1.
    """
    if loss == "in_batch_negatives":
        return in_batch_negatives_sum(vectors, targets["sizes"], targets["keys"], temperature)
    labels = targets["labels"]
    if loss == "cosent":
        return cosent_sum(cosines(vectors), labels, temperature)
    if loss == "cosine":
        return (cosines(vectors) - (labels.float() - lowest) / (highest - lowest)).square().sum()
    if loss == "batch_triplet":
        return batch_hard_triplet_sum(vectors, labels, temperature)
    return supervised_contrastive_sum(vectors, labels, temperature)
