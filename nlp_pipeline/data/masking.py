"""Tokens hidden from a model that is to foresee them, as in BERT (Devlin et al. 2019, arXiv:1810.04805)."""

import numpy as np

from .fields import IGNORED

NO_WORD = -1
"""`words` of special tokens and padding."""
OPEN = -2
"""`words` of a mask that stands in the text itself, for a prediction to fill."""


def mask_words(
    ids: np.ndarray,
    words: np.ndarray,
    generator: np.random.Generator,
    share: float,
    mask_id: int,
    vocabulary: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Hide a share of a text's words, at least one: of the tokens of 8 in 10 of them nothing is left, of 1 in 10 each
    becomes any token, and 1 in 10 stays.

    Args:
        ids: int64[tokens].
        words: int64[tokens], the word that each token belongs to, below 0 for special tokens.
        generator: what is drawn from.
        share: of the words, 0 to 1.
        mask_id: the id of the mask token.
        vocabulary: int64[n], the ids that a token may be replaced by.

    Returns:
        (ids, labels), both int64[tokens]; `labels` is the hidden id, or IGNORED.
    """
    distinct = np.unique(words[words >= 0])
    labels = np.full(len(ids), IGNORED, np.int64)
    if not len(distinct):
        return ids, labels
    chosen = generator.permutation(distinct)[: max(1, round(share * len(distinct)))]
    fate = generator.random(len(chosen))
    hidden, replaced = np.isin(words, chosen[fate < 0.8]), np.isin(words, chosen[(fate >= 0.8) & (fate < 0.9)])
    where = np.isin(words, chosen)
    labels[where] = ids[where]
    found = np.where(hidden, mask_id, ids)
    found[replaced] = generator.choice(vocabulary, int(replaced.sum()))
    return found, labels
