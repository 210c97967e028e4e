"""Losses as sums over targets.

The loop divides by the weight of all targets of the effective batch, so that any split of it into micro-batches and
processes gives the same gradient. Every function returns float32.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..data.fields import IGNORED

if TYPE_CHECKING:
    import torch


def cross_entropy_sum(
    logits: "torch.Tensor",
    targets: "torch.Tensor",
    class_weights: "torch.Tensor | None" = None,
    label_smoothing: float = 0.0,
) -> "torch.Tensor":
    """Sum over targets of weight × cross entropy.

    Args:
        logits: [..., classes].
        targets: int64[...]; IGNORED counts for nothing.
        class_weights: float[classes].
        label_smoothing: mass of each target spread evenly over all classes (Szegedy et al. 2016, arXiv:1512.00567).
    """
    import torch.nn.functional as F

    log_probabilities = F.log_softmax(logits.float().flatten(0, -2), dim=-1)
    flat = targets.flatten()
    loss = F.nll_loss(log_probabilities, flat, weight=class_weights, ignore_index=IGNORED, reduction="sum")
    if label_smoothing:
        # torch weighs the smoothed part by each class, not by the target's; here a row's weight is its target's
        weight = target_weights(flat, class_weights)
        smooth = -(log_probabilities.mean(dim=-1) * weight).sum()
        loss = (1 - label_smoothing) * loss + label_smoothing * smooth
    return loss


def by_example(values: "torch.Tensor", sizes: np.ndarray) -> "torch.Tensor":
    """[sequences] to [examples, most sequences of one], filled up with a number so low that a softmax makes it 0.

    Args:
        values: one number a sequence.
        sizes: int[examples], the sequences of each example.
    """
    import torch

    widest = int(sizes.max())
    starts = np.arange(len(sizes)) * widest - (np.cumsum(sizes) - sizes)
    places = torch.from_numpy(np.repeat(starts, sizes) + np.arange(int(sizes.sum()))).to(values.device)
    flat = values.float().new_full((len(sizes) * widest,), torch.finfo(torch.float32).min)
    return flat.index_copy(0, places, values.float()).view(len(sizes), widest)


def listwise_sum(scores: "torch.Tensor", relevance: "torch.Tensor") -> "torch.Tensor":
    """Sum over rows of the cross entropy of a softmax over candidates (Cao et al. 2007, ListNet's top-one probability).

    Args:
        scores: [rows, candidates], very low where a row has fewer.
        relevance: the same; of each row's candidates the share that the softmax should give to each.
    """
    shares = relevance / relevance.sum(-1, keepdim=True).clamp(min=1e-9)
    # In float64: a shift of all the scores changes nothing, and rounding alone would move what shifts them.
    return -(shares * scores.double().log_softmax(-1).clamp(min=-1e4)).sum().float()


def pairwise_sum(scores: "torch.Tensor", relevance: "torch.Tensor", real: "torch.Tensor") -> "torch.Tensor":
    """Sum over rows of the mean over pairs of log(1 + exp(worse - better)) (Burges et al. 2005, RankNet).

    Args:
        scores: [rows, candidates].
        relevance: the same; of two candidates the one with more is the better.
        real: bool, the same; false where a row has fewer candidates.
    """
    import torch.nn.functional as F

    above = (relevance[:, :, None] > relevance[:, None, :]) & real[:, :, None] & real[:, None, :]
    exact = scores.double()  # as above
    lead = (exact[:, :, None] - exact[:, None, :]).masked_fill(~above, 0.0)
    losses = F.softplus(-lead) * above
    return (losses.sum((1, 2)) / above.sum((1, 2)).clamp(min=1)).sum().float()


def ranking_loss_sum(
    kind: str,
    scores: "torch.Tensor",
    relevance: "torch.Tensor",
    sizes: "torch.Tensor",
    lowest: float,
    highest: float,
) -> "torch.Tensor":
    """The loss `listwise` or `pairwise` of queries, summed over them, or `pointwise` of texts alone, over these.

    Args:
        scores: float[texts], those of a query one after another; `relevance` likewise.
        sizes: int64[queries], the texts of each.
        lowest: pointwise, the relevance that counts as 0, `highest` the one that counts as 1.
    """
    if kind == "pointwise":
        return binary_cross_entropy_sum(scores[:, None], ((relevance - lowest) / (highest - lowest))[:, None])
    counts = sizes.cpu().numpy()
    laid, right = by_example(scores, counts), by_example(relevance, counts)
    real = right >= 0
    right = right.clamp(min=0)
    return pairwise_sum(laid, right, real) if kind == "pairwise" else listwise_sum(laid, right)


def target_weights(targets: "torch.Tensor", class_weights: "torch.Tensor | None" = None) -> "torch.Tensor":
    """float[targets]: 0 where ignored, else the weight of the target's class."""
    real = targets != IGNORED
    if class_weights is None:
        return real.float()
    return class_weights.to(targets.device)[targets.clamp(min=0)] * real


def binary_cross_entropy_sum(
    logits: "torch.Tensor", targets: "torch.Tensor", class_weights: "torch.Tensor | None" = None
) -> "torch.Tensor":
    """Sum over rows of the mean over labels. `class_weights` float[labels] weighs each label's positives."""
    import torch.nn.functional as F

    loss = F.binary_cross_entropy_with_logits(
        logits.float(), targets.float(), pos_weight=class_weights, reduction="none"
    )
    return loss.mean(dim=-1).sum()


def dpo_loss_sum(margins: "torch.Tensor", beta: float, label_smoothing: float = 0.0) -> "torch.Tensor":
    """Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290, equation 7), summed over pairs.

    Args:
        margins: float[pairs], how much more the log-likelihood of the chosen reply has grown than the rejected one's
            since the reference model.
        beta: how dear it is to move away from the reference model.
        label_smoothing: share of the pairs that may be the wrong way round (Mitchell 2023, conservative DPO).
    """
    import torch.nn.functional as F

    right, wrong = F.logsigmoid(beta * margins.float()), F.logsigmoid(-beta * margins.float())
    return -((1 - label_smoothing) * right + label_smoothing * wrong).sum()


def ipo_loss_sum(margins: "torch.Tensor", beta: float) -> "torch.Tensor":
    """Identity preference optimization (Azar et al. 2023, arXiv:2310.12036, equation 17), summed over pairs.

    Args:
        margins: float[pairs], as for DPO, but of log-likelihoods by the token.
        beta: the paper's tau: margins are drawn to 1 / (2 * beta).
    """
    return ((margins.float() - 1 / (2 * beta)) ** 2).sum()


def orpo_loss_sum(chosen: "torch.Tensor", rejected: "torch.Tensor", beta: float) -> "torch.Tensor":
    """Odds ratio preference optimization (Hong et al. 2024, arXiv:2403.07691, equations 6 and 7), summed over pairs.

    Args:
        chosen: float[pairs], mean log-likelihood of the chosen reply's tokens, below 0; `rejected` likewise.
        beta: the paper's lambda, the weight of the odds ratio beside the likelihood of the chosen reply.
    """
    import torch
    import torch.nn.functional as F

    def log_odds(mean: torch.Tensor) -> torch.Tensor:
        below = mean.float().clamp(max=-1e-6)  # a reply that is certain has no finite odds
        return below - torch.log(-torch.expm1(below))

    return -(chosen.float() + beta * F.logsigmoid(log_odds(chosen) - log_odds(rejected))).sum()


def preference_loss_sum(
    kind: str,
    scores: "torch.Tensor",
    tokens: "torch.Tensor",
    reference: "torch.Tensor | None",
    beta: float,
    label_smoothing: float = 0.0,
) -> "torch.Tensor":
    """The loss `dpo`, `ipo` or `orpo` of pairs of replies, summed.

    Args:
        scores: float[2 * pairs], the log-likelihoods of chosen and rejected replies in turn.
        tokens: int64[2 * pairs], how many tokens each is of.
        reference: float[2 * pairs], the reference model's log-likelihoods; not read for `orpo`.
    """
    tokens = tokens.clamp(min=1)
    if kind == "orpo":
        means = (scores / tokens).view(-1, 2)
        return orpo_loss_sum(means[:, 0], means[:, 1], beta)
    assert reference is not None
    gains = ((scores - reference) / (tokens if kind == "ipo" else 1)).view(-1, 2)
    margins = gains[:, 0] - gains[:, 1]
    return ipo_loss_sum(margins, beta) if kind == "ipo" else dpo_loss_sum(margins, beta, label_smoothing)


def squared_error_sum(values: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """Sum over rows of the squared error."""
    return ((values.float() - targets.float()) ** 2).sum()


def label_loss_sum(
    logits: "torch.Tensor",
    labels: "torch.Tensor",
    kind: str,
    class_weights: "torch.Tensor | None" = None,
    label_smoothing: float = 0.0,
) -> "torch.Tensor":
    """The loss that goes with a kind of label: cross entropy, of `multi_label` binary, of `regression` squared error.

    Args:
        logits: [rows, labels], of a regression [rows, 1], of words [rows, longest, labels].
        labels: int64[rows], float[rows, labels] of 0 and 1, float[rows], or int64[rows, longest] with IGNORED.
    """
    if kind == "regression":
        return squared_error_sum(logits.squeeze(-1), labels)
    if kind == "multi_label":
        return binary_cross_entropy_sum(logits, labels, class_weights)
    return cross_entropy_sum(logits, labels, class_weights, label_smoothing)


def label_weight(labels: "torch.Tensor", kind: str, class_weights: "torch.Tensor | None" = None) -> float:
    """What `label_loss_sum` is divided by for a mean: rows, or the sum of what single labels weigh in it."""
    if kind in ("regression", "multi_label"):
        return float(len(labels))
    return float(target_weights(labels, class_weights).sum())
