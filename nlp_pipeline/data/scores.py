"""Scores on a scale of the user's own."""

from collections.abc import Sequence

from .labels import shown
from .problems import RowProblem


def scale_problems(lowest: float, highest: float) -> list[str]:
    """A scale without extent, as the options of these names give it."""
    right = lowest < highest
    return [] if right else [f"options.highest: found {highest}, expected more than lowest ({lowest})"]


def score_problems(
    scores: Sequence[float], lowest: float, highest: float, row_ids: Sequence[str], split: str
) -> list[str]:
    """Scores that are off the scale."""
    off = [(i, score) for i, score in zip(row_ids, scores, strict=True) if not lowest <= score <= highest]
    if not off:
        return []
    least, most = min(score for _, score in off), max(score for _, score in off)
    ids = [i for i, _ in off]
    message = (
        f"{split}: the scores of rows {shown(ids)} are off the scale of {lowest:g} to {highest:g} (found {least:g} "
    )
    message += f"to {most:g}); set options.lowest and options.highest to the scale's ends"
    return [RowProblem(message, "values", {split: ids})]
