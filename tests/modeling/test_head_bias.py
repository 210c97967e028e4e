"""A new head for several labels starts at their log-odds; one that comes with the checkpoint stays as it is."""

import numpy as np
import pytest
import torch

from nlp_pipeline import TextClassification
from nlp_pipeline.data.labels import Labels, log_odds
from nlp_pipeline.modeling.loading import load_model

ROWS = [{"text": f"card {i}", "labels": ["a"] if i % 4 else ["a", "b"]} for i in range(16)]


def test_log_odds_give_back_the_shares():
    values = log_odds(np.array([2, 8, 0, 16]), 16)
    assert 1 / (1 + np.exp(-values)) == pytest.approx([2.5 / 17, 8.5 / 17, 0.5 / 17, 16.5 / 17])


def test_before_training_the_probabilities_are_the_shares(tiny_bert, tmp_path):
    recipe = TextClassification(model=tiny_bert, train=ROWS, options={"problem": "multi_label"}, dir=str(tmp_path))
    recipe.load()
    torch.manual_seed(0)
    model = load_model(recipe.config.model, recipe.auto_model, recipe.model_settings(), 0, recipe.head_bias)
    assert model.classifier.bias.tolist() == pytest.approx([np.log(16.5 / 0.5), np.log(4.5 / 12.5)], abs=1e-4)
    model.save_pretrained(tmp_path / "saved")
    source = recipe.config.model.model_copy(update={"name": str(tmp_path / "saved")})
    settings = Labels(("a", "b")).model_settings()
    again = load_model(source, recipe.auto_model, settings, 0, np.array([7.0, 7.0], np.float32))
    assert torch.equal(again.classifier.bias, model.classifier.bias)
