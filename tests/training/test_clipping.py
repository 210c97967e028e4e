"""Clipping inside the fused optimizer is torch's clipping."""

from types import SimpleNamespace

import pytest
import torch

from nlp_pipeline.config.schema import TrainingConfig
from nlp_pipeline.training.optimization import make_optimizer
from nlp_pipeline.training.step import Stepper


class Small(torch.nn.Module):
    base_model_prefix = "base"

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(4, 3)


@pytest.mark.parametrize("limit", [0.05, 1e6, None])
def test_clipping_equals_torchs(limit):
    torch.manual_seed(0)
    ours, theirs = Small(), Small()
    theirs.load_state_dict(ours.state_dict())
    config = TrainingConfig(max_grad_norm=limit, learning_rate=0.1, epsilon=1e-3)
    optimizers = [make_optimizer(model, config) for model in (ours, theirs)]
    alone = SimpleNamespace(scaler=None, device=torch.device("cpu"), num_processes=1)
    stepper = Stepper(None, ours, optimizers[0], alone, None, config)
    for step in range(4):
        x = torch.randn(5, 4) * (step + 1)
        for model in (ours, theirs):
            model.head(x).square().sum().backward()
        norm = stepper.clip()
        wanted = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1e9 if limit is None else limit)
        torch.testing.assert_close(norm, wanted)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b)
