"""A loss over the whole batch has the same gradient however the batch is cut, with the same dropout masks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import set_seed

from nlp_pipeline import SentenceEmbedding
from nlp_pipeline.modeling.dropout import use_fast_dropout
from nlp_pipeline.modeling.loading import load_model
from nlp_pipeline.modeling.padding_free import PaddingFree
from nlp_pipeline.training.inputs import InputMaker
from nlp_pipeline.training.step import Stepper

ROWS = [
    {"anchor": f"where is {'my ' * (i % 4)}card {i}", "positive": f"card {i} is late", "negatives": ["no"] * (i % 3)}
    for i in range(10)
]


class Keep(torch.optim.SGD):
    """Keeps gradients, changes nothing."""

    def __init__(self, model):
        super().__init__(model.parameters(), lr=0.0)
        self.model, self.kept = model, {}

    def step(self, closure=None):
        self.kept = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}


def recipe_and_model(tiny_bert, tmp_path, fast=False):
    settings = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
    recipe = SentenceEmbedding(
        model={"name": tiny_bert, "settings": settings}, train=ROWS, dir=str(tmp_path / "run"), batch={"micro": 3},
        max_grad_norm=None, precision="fp32",
    )  # fmt: skip
    recipe.tokenize()
    set_seed(1)
    model = load_model(recipe.config.model, recipe.auto_model, {}).train()
    if fast:
        use_fast_dropout(model)
        PaddingFree(model)
    return recipe, model


def stepper_of(recipe, model):
    table, training = recipe.tables["train"], recipe.config.training
    optimizer = Keep(model)
    return Stepper(recipe, model, optimizer, recipe.accelerator, table, training), optimizer


@pytest.mark.parametrize("fast", [False, True], ids=["padded", "packed"])
def test_second_passes_have_the_masks_of_the_first(tiny_bert, tmp_path, fast):
    """As one graph over all the passes has it: their outputs kept, one loss over all, one backward pass."""
    recipe, model = recipe_and_model(tiny_bert, tmp_path, fast)
    stepper, optimizer = stepper_of(recipe, model)
    given = InputMaker(recipe, recipe.tables["train"], 0, 1, 3, 10**6, True, 10)((4, np.arange(10)))
    assert len(given.batches) == 4
    loss = stepper.step(given)
    found = optimizer.kept
    kept = []
    for number, batch in enumerate(given.batches):
        stepper.seed(given, number)
        with stepper.packed(batch):
            kept.append(recipe.forward(model, batch).representations)
    targets = recipe.batch(recipe.tables["train"], given.rows, 0, recipe.weighing_fields()).targets
    wanted = recipe.loss(SimpleNamespace(representations=torch.cat(kept)), targets) / len(ROWS)
    wanted.backward()
    torch.testing.assert_close(loss, wanted.detach())
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == found.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_dropout_differs_from_step_to_step_and_from_part_to_part(tiny_bert, tmp_path):
    recipe, model = recipe_and_model(tiny_bert, tmp_path)
    stepper, _ = stepper_of(recipe, model)
    make = InputMaker(recipe, recipe.tables["train"], 0, 1, 3, 10**6, True, 10)
    drawn = []
    for step, part in ((0, 0), (0, 1), (1, 0), (0, 0)):
        stepper.seed(make((step, np.arange(6))), part)
        drawn.append(float(torch.rand(())))
    assert len(set(drawn)) == 3
    assert drawn[0] == drawn[3]


def test_a_batch_too_large_for_memory_is_cut_and_stays_the_same_batch(tiny_bert, tmp_path, monkeypatch):
    recipe, model = recipe_and_model(tiny_bert, tmp_path)
    model.eval()  # masks go by parts, so without them
    stepper, optimizer = stepper_of(recipe, model)
    given = InputMaker(recipe, recipe.tables["train"], 0, 1, 10, 10**6, True, 10)((0, np.arange(10)))
    whole = float(stepper.step(given))
    wanted = optimizer.kept
    forward = type(recipe).forward

    def small(self, model, batch):
        if len(batch.rows) > 5:
            raise MemoryError("no memory")
        return forward(self, model, batch)

    monkeypatch.setattr(type(recipe), "forward", small)
    assert float(stepper.step(given)) == pytest.approx(whole, rel=1e-5)
    assert stepper.splits == 1
    for name, gradient in wanted.items():
        torch.testing.assert_close(optimizer.kept[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
