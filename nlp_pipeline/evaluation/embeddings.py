"""Embeddings in the user's words and beside what is known of their texts, and those of the starting model."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.labels import column
from ..data.text_groups import keys_of, text_groups
from .metrics import Outputs
from .metrics.retrieval import ANSWER, DOCUMENT, QUERY

if TYPE_CHECKING:
    import datasets

    from ..recipe import Recipe

DIGITS = 7
"""Decimal places of an embedding's numbers in a record: all that float32 has of a vector of length 1."""


def similarity(pair: np.ndarray) -> float:
    """The cosine of the first two of some vectors."""
    first, second = pair[:2].astype(np.float64)
    return float(first @ second / max(np.linalg.norm(first) * np.linalg.norm(second), 1e-12))


def embedding_record(vectors: np.ndarray) -> dict[str, Any]:
    """The embedding of one text, or the cosine of the first two."""
    if len(vectors) > 1:
        return {"prediction": similarity(vectors)}
    return {"prediction": np.round(vectors[0].astype(np.float64), DIGITS).tolist()}


def embedding_outputs(
    values: Sequence[np.ndarray], rows: "datasets.Dataset", kind: str, names: Sequence[str]
) -> Outputs:
    """What metrics of pairs, scored pairs or labelled texts read.

    Args:
        values: float32[texts, features] a row.
        kind: what a row is.
        names: the columns of the texts, in the order of `values`.
    """
    if kind == "scored":
        return Outputs("regression", np.array([similarity(row) for row in values]), np.array(column(rows, "score")))
    texts = text_groups(rows, names)
    keys = keys_of(column(rows, "label")) if kind == "labelled" else keys_of(group[0] for group in texts)
    roles = [QUERY + DOCUMENT + ANSWER] if kind == "labelled" else [QUERY, DOCUMENT + ANSWER]
    what = [[*roles, *[DOCUMENT] * len(group)][: len(group)] for group in texts]
    references = np.column_stack(
        [
            [role for row in what for role in row],
            np.repeat(keys, [len(group) for group in texts]),
            keys_of(text for group in texts for text in group),
        ]
    )
    given = [row[: len(group)] for row, group in zip(values, texts, strict=True)]  # without negatives that were mined
    return Outputs("retrieval", np.concatenate(given), references.astype(np.int64))


def starting_values(recipe: "Recipe") -> "Callable[[datasets.Dataset], Sequence[np.ndarray]]":
    """What the model that training started from, untouched, says of some rows."""
    from ..data.tokenization import tokenize_window
    from ..stages.reference import reference_values

    def embed(rows: "datasets.Dataset") -> Sequence[np.ndarray]:
        table = tokenize_window(rows, lambda part: recipe.preprocess(part, recipe.encoder))
        return reference_values(recipe, table, recipe.config.model, exact=True)

    return embed
