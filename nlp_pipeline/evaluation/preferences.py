"""Pairs of replies as numbers: rewards, records and metrics of what a model and its reference say of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from .metrics import Outputs

if TYPE_CHECKING:
    import pyarrow as pa


def rewards(values: np.ndarray, beta: float, by_token: bool = False) -> np.ndarray:
    """float64[pairs, 2], of the chosen and the rejected reply; nan where the reference model isn't known.

    Args:
        values: float64[pairs, 2, 3], each reply's log-likelihood, tokens, and log-likelihood by the reference model.
        by_token: beta times the mean log-likelihood of a token, as ORPO has it, which knows no reference; else beta
            times what the log-likelihood has gained on the reference's.
    """
    likelihoods, tokens, known = np.moveaxis(values.reshape(-1, 2, 3), -1, 0)
    gained: np.ndarray = likelihoods / np.maximum(tokens, 1) if by_token else likelihoods - known
    return beta * gained


def pair_record(likelihoods: np.ndarray, reward: np.ndarray, sides: Sequence[str]) -> dict[str, Any]:
    """What `predict` says of a pair: `prediction` is by how much the chosen reply is the likelier one, in nats.

    Args:
        likelihoods: float64[2], log-likelihoods.
        reward: float64[2], nan if unknown, and then left out.
    """
    record = {"prediction": float(likelihoods[0] - likelihoods[1])}
    record |= {f"{side}_log_probability": float(value) for side, value in zip(sides, likelihoods, strict=True)}
    if not np.isnan(reward).any():
        record |= {f"{side}_reward": float(value) for side, value in zip(sides, reward, strict=True)}
    return record


def preference_outputs(found: np.ndarray, values: np.ndarray) -> Outputs:
    """For the metrics: rewards float64[pairs, 2], and the log-likelihoods in `values`, which are as in `rewards`.

    Raises:
        ModelError: the reference model isn't known.
    """
    if np.isnan(found).any():
        raise ModelError(
            "rewards are against the model that training started from, and a saved model doesn't know where that "
            "lies; name it in the recipe with options.reference to evaluate other rows than those of the run"
        )
    return Outputs("preference", found, values.reshape(-1, 2, 3)[..., 0])


def reference_column(values: "Sequence[np.ndarray]") -> "dict[str, pa.Array]":
    """`reference`, list<float32>: both log-likelihoods of each pair, of what the reference model says."""
    import pyarrow as pa

    pairs = np.array(values).reshape(-1, 2, 3)[..., 0].astype(np.float32)
    offsets = pa.array(np.arange(len(pairs) + 1, dtype=np.int32) * 2)
    return {"reference": pa.ListArray.from_arrays(offsets, pa.array(pairs.reshape(-1)))}
