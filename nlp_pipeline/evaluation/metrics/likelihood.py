"""How well a language model foresees texts."""

from __future__ import annotations

import math

import numpy as np

from nlp_pipeline.evaluation.metrics.counts import Floats, Tally, sums_tally
from nlp_pipeline.evaluation.metrics.outputs import Outputs


def perplexity(outputs: Outputs, name: str = "perplexity", *, counted: Floats | None = None) -> dict[str, float]:
    """exp of the mean negative log-likelihood of a token, over the tokens of all texts; nan without any."""
    nats, tokens, _ = _columns(outputs).sum(0) if counted is None else counted
    loss = float(nats / tokens) if tokens else math.nan
    return {name: math.exp(loss) if loss < 700 else math.inf if loss == loss else loss}


def bits_per_byte(outputs: Outputs, *, counted: Floats | None = None) -> dict[str, float]:
    """Negative log2-likelihood of the texts by their length in UTF-8: the same scale for every tokenizer."""
    nats, _, size = _columns(outputs).sum(0) if counted is None else counted
    return {"bits_per_byte": float(nats / math.log(2) / size) if size else math.nan}


def tally(outputs: Outputs) -> Tally:
    """The sums that both are functions of."""
    return sums_tally(_columns(outputs))


def _columns(outputs: Outputs) -> Floats:
    """float64[texts, 3]: negative log-likelihood, tokens, bytes."""
    references = np.asarray(outputs.references, np.float64).reshape(-1, 2)
    return np.column_stack([np.asarray(outputs.predictions, np.float64), references])
