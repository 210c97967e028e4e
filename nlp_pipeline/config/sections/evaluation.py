"""What is measured, when, and how texts are generated for it."""

from typing import Annotated, Literal

from pydantic import Field

from .base import Section


class GenerationSettings(Section):
    """How texts are generated, by tasks that predict them: at evaluation, at prediction, and by the saved model."""

    max_new_tokens: int = Field(128, ge=1)
    """Longest text, in tokens."""
    num_beams: int = Field(1, ge=1)
    """Beginnings that beam search keeps; 1 takes the likeliest next token each time."""
    length_penalty: float = 1.0
    """Beam search divides a text's log-likelihood by its length to this power: above 0 favours long ones."""
    do_sample: bool = False
    """Draw each token by its probability; the same draws for the same rows and `training.seed`."""
    temperature: float = Field(1.0, gt=0)
    """Sampling: below 1 makes likely tokens likelier."""
    top_k: int = Field(0, ge=0)
    """Sampling: only from so many likeliest tokens; 0 from all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sampling: only from the likeliest tokens that have this probability together."""
    repetition_penalty: float = Field(1.0, gt=0)
    """Above 1 makes tokens that a text has already less likely (Keskar et al. 2019, arXiv:1909.05858)."""
    no_repeat_ngram_size: int = Field(0, ge=0)
    """No run of so many tokens occurs twice in a text; 0 allows it."""


class IntervalsConfig(Section):
    """Percentile bootstrap of the final scores: rows drawn with replacement (Efron 1979)."""

    confidence: float = Field(0.95, gt=0, lt=1)
    """Share of such intervals that hold the score of endlessly many rows like these."""
    resamples: int = Field(1000, ge=100)
    """Draws of the rows; fewer are made of many rows where a metric is slow, or none at all."""
    seed: int = Field(0, ge=0)
    """Seed of the draws."""


class EvaluationConfig(Section):
    """What is measured, and when."""

    every: Annotated[int, Field(ge=1)] | Literal["epoch"] = "epoch"
    """Evaluate on the validation rows every epoch or every N steps; a checkpoint is saved at the same moments."""
    metrics: list[str] | None = None
    """Metric names or paths; by default the task's."""
    best: str | None = None
    """The metric that decides which checkpoint is best, or `loss`; by default the task's."""
    greater_is_better: bool | None = None
    """Whether a larger `best` is better; only needed for a metric that isn't built in."""
    intervals: IntervalsConfig | None = IntervalsConfig()
    """Confidence intervals of the final scores; null leaves them out."""
