"""How long a run trains, and when it evaluates and saves."""

import math
from dataclasses import dataclass

from ..config.schema import Config


@dataclass(frozen=True)
class Plan:
    """How many steps a run makes, and when it evaluates and saves. Pure arithmetic."""

    steps_per_epoch: int
    total_steps: int
    evaluate_every: int
    save_every: int | None
    length_setting: str = "training.epochs"
    """The setting that `total_steps` follows from, for messages."""

    @classmethod
    def make(cls, config: Config, steps_per_epoch: int) -> "Plan":
        """From the settings and the number of optimizer steps in an epoch."""
        total = config.training.max_steps or max(1, math.ceil(config.training.epochs * steps_per_epoch))
        every = config.evaluation.every
        evaluate_every = steps_per_epoch if every == "epoch" else every
        setting = "training.max_steps" if config.training.max_steps else "training.epochs"
        return cls(steps_per_epoch, total, evaluate_every, config.checkpoint.every, setting)

    def evaluates_after(self, step: int) -> bool:
        """Whether an evaluation follows optimizer step number `step` (counted from 1)."""
        return step % self.evaluate_every == 0 or step == self.total_steps

    def saves_after(self, step: int) -> bool:
        """Whether a checkpoint follows it."""
        return self.evaluates_after(step) or bool(self.save_every and step % self.save_every == 0)
