"""AdamW's parameter groups and the course of the learning rate."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.schema import TrainingConfig
from ..modeling.parameters import count_layers, depth_from_head

if TYPE_CHECKING:
    import torch

INVERSE_SQRT_TIMESCALE = 10_000
"""Steps over which the inverse square root falls by 1/√2, when there is no warm-up to take it from."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate's factor as a pure function of the step: nothing to save, nothing to restore."""

    kind: str
    total_steps: int
    warmup_steps: int

    def __call__(self, step: int) -> float:
        """Factor of the peak learning rate in optimizer step `step`, counted from 0."""
        if step < self.warmup_steps:
            return step / self.warmup_steps
        left = max(0, self.total_steps - step) / max(1, self.total_steps - self.warmup_steps)
        if self.kind == "linear":
            return left
        if self.kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (1 - left)))
        if self.kind == "inverse_sqrt":
            timescale = self.warmup_steps or INVERSE_SQRT_TIMESCALE
            return math.sqrt(timescale / (step - self.warmup_steps + timescale))
        return 1.0


def make_schedule(config: TrainingConfig, total_steps: int) -> Schedule:
    """The schedule of a run of `total_steps` optimizer steps."""
    warmup = config.warmup if config.warmup >= 1 else config.warmup * total_steps
    return Schedule(config.schedule, total_steps, min(round(warmup), max(0, total_steps - 1)))


def parameter_groups(model: Any, config: TrainingConfig) -> list[dict[str, Any]]:
    """Trainable parameters by weight decay and learning rate.

    Biases and norm weights (everything with fewer than two dimensions) are not decayed. Each group keeps its
    parameters' names under `names`, by which checkpoints store the optimizer's state, and its share of the learning
    rate under `lr_scale`.
    """
    base = getattr(model, "get_base_model", lambda: model)()  # inside adapters
    layers = count_layers(model)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = config.layer_decay ** depth_from_head(name, layers, base.base_model_prefix)
        decay = config.weight_decay if parameter.dim() >= 2 else 0.0
        group = groups.setdefault(
            (scale, decay),
            {
                "params": [],
                "names": [],
                "weight_decay": decay,
                "lr_scale": scale,
                "lr": config.learning_rate * scale,
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def make_optimizer(model: Any, config: TrainingConfig) -> "torch.optim.AdamW":
    """Fused AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) over the trainable parameters."""
    import torch

    return torch.optim.AdamW(
        parameter_groups(model, config),
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        fused=True,
    )


def set_learning_rate(optimizer: Any, rate: float) -> None:
    """Set every group to its share of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
