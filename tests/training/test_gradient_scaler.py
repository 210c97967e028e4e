"""Numbers that aren't finite under fp16: what the gradient scaler sees to, and what it must not hide.

A CPU has no fp16 training of ours; torch's scaler runs there, and stands for the device's, around a model in float32 or
one whose forward pass is in float16.
"""

import math

import numpy as np
import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer

from nlp_pipeline import TextClassification
from nlp_pipeline.errors import NonFiniteError
from nlp_pipeline.modeling.loading import load_model
from nlp_pipeline.training.inputs import InputMaker
from nlp_pipeline.training.optimization import make_optimizer
from nlp_pipeline.training.step import Stepper

ROWS = [{"id": f"row-{i}", "text": f"the card {i} is late", "label": "ab"[i % 2]} for i in range(8)]


class Scaled:
    """A stepper with a gradient scaler, and inputs for its steps."""

    def __init__(self, tiny_bert, folder, scale=2.0**10, **training):
        training = {"precision": "fp32", "learning_rate": 1e-3} | training
        self.recipe = TextClassification(model=tiny_bert, train=ROWS, training=training, dir=str(folder))
        self.recipe.tokenize()
        torch.manual_seed(0)
        self.model = load_model(self.recipe.config.model, self.recipe.auto_model, self.recipe.model_settings())
        self.model.eval()
        accelerator, table = self.recipe.accelerator, self.recipe.tables["train"]
        accelerator.scaler = self.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
        optimizer = AcceleratedOptimizer(make_optimizer(self.model, self.recipe.config.training), scaler=self.scaler)
        accelerator._optimizers.append(optimizer)
        accelerator.native_amp, accelerator.state._mixed_precision = True, "fp16"  # else it unscales nothing
        self.stepper = Stepper(self.recipe, self.model, optimizer, accelerator, table, self.recipe.config.training)
        self.make = InputMaker(self.recipe, table, 0, 1, None, 10**6, True, 2)

    def step(self, number=0):
        """One step. Returns whether it changed the weights."""
        before = [p.detach().clone() for p in self.model.parameters()]
        self.loss = float(self.stepper.step(self.make((number, np.arange(4) + 4 * (number % 2)))))
        return any((a != b).any() for a, b in zip(before, self.model.parameters(), strict=True))

    def in_half(self):
        """Have the forward pass be in float16, as accelerate has it."""
        forward = self.model.forward

        def mixed(*args, **kwargs):
            with torch.autocast("cpu", torch.float16):
                outputs = forward(*args, **kwargs)
            outputs.logits = outputs.logits.float()
            return outputs

        self.model._original_forward, self.model.forward = forward, mixed


def spoil(monkeypatch, what):
    """Have every gradient, or with `loss` also what is told of the loss, be infinite."""
    gradient = Stepper.gradient

    def injected(self, given):
        loss = gradient(self, given)
        next(p for p in self.model.parameters() if p.grad is not None).grad.flatten()[3] = math.inf
        return loss * math.nan if what == "loss" else loss

    monkeypatch.setattr(Stepper, "gradient", injected)


def test_a_good_step_is_made_as_without_a_scaler(tiny_bert, tmp_path):
    # AdamW would make whole steps of gradients that are 0 but for rounding.
    scaled = Scaled(tiny_bert, tmp_path / "scaled", epsilon=1e-3)
    plain = Scaled(tiny_bert, tmp_path / "plain", epsilon=1e-3)
    plain.stepper.scaler = plain.recipe.accelerator.scaler = plain.stepper.optimizer.scaler = None
    for number in range(3):
        assert scaled.step(number)
        assert plain.step(number)
        assert scaled.loss == pytest.approx(plain.loss, rel=1e-6)


def test_gradients_too_large_at_this_scale_are_left_to_the_scaler(tiny_bert, tmp_path, monkeypatch):
    scaled = Scaled(tiny_bert, tmp_path / "run")
    with monkeypatch.context() as patch:
        spoil(patch, "gradient")
        for scale in (2.0**9, 2.0**8):
            assert not scaled.step()
            assert scaled.scaler.get_scale() == scale
    assert scaled.step(1)
    assert (scaled.stepper.overflows, scaled.stepper.skipped) == ([], {})


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_bad_loss_stops_at_once_and_bad_gradients_do_at_a_scale_of_one(tiny_bert, tmp_path, monkeypatch, what):
    scaled = Scaled(tiny_bert, tmp_path / "run", scale=4.0)
    spoil(monkeypatch, what)
    left_to_the_scaler = 0 if what == "loss" else 2
    for _ in range(left_to_the_scaler):
        assert not scaled.step()
    weights = [p.detach().clone() for p in scaled.model.parameters()]
    with pytest.raises(NonFiniteError, match=r"step 1 is not a finite number, in fp32 neither; rows: row-0, row-1"):
        scaled.step()
    assert scaled.scaler.get_scale() == 4.0 / 2**left_to_the_scaler
    assert all((a == b).all() for a, b in zip(weights, scaled.model.parameters(), strict=True))


def test_a_batch_is_left_out_if_wanted_and_the_next_is_made(tiny_bert, tmp_path, monkeypatch):
    scaled = Scaled(tiny_bert, tmp_path / "run", on_non_finite="skip")
    token = scaled.recipe.encoder.tokenizer.convert_tokens_to_ids("2")
    with torch.no_grad():
        scaled.model.get_input_embeddings().weight[token] = math.nan
    scaled.step(0)
    assert math.isnan(scaled.loss)
    assert scaled.stepper.skipped == {1: [2]}
    assert scaled.step(1)
    assert math.isfinite(scaled.loss)
    assert scaled.scaler.get_scale() == 2.0**10


def test_a_forward_pass_beyond_float16_is_made_up_for_in_fp32(tiny_bert, tmp_path):
    scaled = Scaled(tiny_bert, tmp_path / "run")
    with torch.no_grad():
        scaled.model.classifier.weight.mul_(1e9)  # 0.02 times that is more than the 65,504 that float16 holds
    scaled.in_half()
    assert scaled.step()
    assert math.isfinite(scaled.loss)
    assert scaled.stepper.overflows == [1]
    assert scaled.scaler.get_scale() == 2.0**10
