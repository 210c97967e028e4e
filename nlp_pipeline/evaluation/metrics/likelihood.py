"""How well a language model foresees texts."""

from __future__ import annotations

import math

import numpy as np

from nlp_pipeline.evaluation.metrics.outputs import Outputs


def perplexity(outputs: Outputs, name: str = "perplexity") -> dict[str, float]:
    """exp of the mean negative log-likelihood of a token, over the tokens of all texts; nan without any."""
    tokens = float(np.asarray(outputs.references)[:, 0].sum()) if len(outputs) else 0.0
    loss = float(np.asarray(outputs.predictions).sum()) / tokens if tokens else math.nan
    return {name: math.exp(loss) if loss < 700 else math.inf if loss == loss else loss}


def bits_per_byte(outputs: Outputs) -> dict[str, float]:
    """Negative log2-likelihood of the texts by their length in UTF-8: the same scale for every tokenizer."""
    size = float(np.asarray(outputs.references)[:, 1].sum()) if len(outputs) else 0.0
    loss = float(np.asarray(outputs.predictions).sum())
    return {"bits_per_byte": loss / math.log(2) / size if size else math.nan}
