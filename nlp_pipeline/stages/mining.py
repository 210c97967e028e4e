"""Hard negatives: of the other training rows' texts those that the starting model takes for likest to an anchor."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from ..data.token_table import TokenTable
    from ..recipe import Recipe

CELLS = 4_000_000
"""Numbers of a block of anchors by texts."""


def with_hard_negatives(recipe: "Recipe", table: "TokenTable", count: int, margin: float) -> "TokenTable":
    """The training table, up to `count` mined texts added to each example; found once, then kept on disk."""
    from .reference import with_reference

    keys = np.concatenate(table.sequences("keys", np.arange(len(table))))
    compute = partial(mined_column, keys=keys, count=count, margin=margin)
    about = {"hard_negatives": [count, margin]}
    found = with_reference(recipe, table, recipe.config.model, compute, exact=True, about=about)
    mined = found.sequences("mined", np.arange(len(table)))
    recipe.reporter.say(f"hard negatives: {sum(map(len, mined)):,} for {len(table):,} rows, by the starting model")
    return table.with_sequences_of(mined)


def mined_column(values: Sequence[np.ndarray], keys: np.ndarray, count: int, margin: float) -> "Mapping[str, pa.Array]":
    """`mined`, list<int64> an example: the numbers of other examples' sequences.

    Args:
        values: float32[texts, features] an example, its anchor and its right text first.
        keys: int64[all texts], equal for equal texts.
    """
    import pyarrow as pa

    found = hard_negatives(np.concatenate(values), np.array([len(row) for row in values]), keys, count, margin)
    return {"mined": pa.array([row.tolist() for row in found], pa.list_(pa.int64()))}


def hard_negatives(
    vectors: np.ndarray, sizes: np.ndarray, keys: np.ndarray, count: int, margin: float
) -> list[np.ndarray[Any, Any]]:
    """int64[at most count] an example, from the likest down: texts that are no anchors, by their place among all.

    None is right for an equal anchor or equal to it, each text comes once, and its cosine with the anchor is below that
    of the right one by `margin` at least: what is nearer may well be right too.

    Args:
        vectors: float32[all texts, features].
        sizes: int64[examples], texts of each; the first is its anchor, the second the right one.
    """
    first = np.cumsum(sizes) - sizes
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    is_anchor = np.zeros(len(vectors), bool)
    is_anchor[first] = True
    others = np.flatnonzero(~is_anchor)
    texts = others[np.unique(keys[others], return_index=True)[1]]
    right: dict[int, set[int]] = {}
    for place in first.tolist():
        right.setdefault(int(keys[place]), {int(keys[place])}).add(int(keys[place + 1]))
    places = {key: column for column, key in enumerate(keys[texts].tolist())}
    found = []
    block = max(1, CELLS // max(len(texts), 1))
    for start in range(0, len(first), block):
        anchors = first[start : start + block]
        scores = vectors[anchors] @ vectors[texts].T
        own = (vectors[anchors] * vectors[anchors + 1]).sum(-1, keepdims=True)
        scores[scores > own - margin] = -np.inf
        for row, anchor in zip(scores, anchors.tolist(), strict=True):
            row[[places[key] for key in right[int(keys[anchor])] if key in places]] = -np.inf
            best = np.argsort(-row, kind="stable")[:count]
            found.append(texts[best[np.isfinite(row[best])]])
    return found
