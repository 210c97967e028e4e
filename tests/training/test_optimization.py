"""Schedules against transformers', parameter groups, losses against torch's."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline.config.schema import TrainingConfig
from nlp_pipeline.modeling.losses import binary_cross_entropy_sum, cross_entropy_sum, target_weights
from nlp_pipeline.modeling.parameters import depth_from_head, freeze
from nlp_pipeline.training.optimization import make_schedule, parameter_groups


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant", "inverse_sqrt"])
@pytest.mark.parametrize("warmup", [0, 10])
def test_schedules_equal_those_of_transformers(kind, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    makers = {
        "linear": lambda: transformers.get_linear_schedule_with_warmup(optimizer, warmup, 50),
        "cosine": lambda: transformers.get_cosine_schedule_with_warmup(optimizer, warmup, 50),
        "constant": lambda: transformers.get_constant_schedule_with_warmup(optimizer, warmup),
        "inverse_sqrt": lambda: transformers.get_inverse_sqrt_schedule(optimizer, warmup),
    }
    theirs = makers[kind]()
    ours = make_schedule(TrainingConfig(schedule=kind, warmup=warmup), 50)
    for step in range(50):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_warmup_below_one_is_a_share_of_the_steps():
    assert make_schedule(TrainingConfig(warmup=0.1), 200).warmup_steps == 20


@pytest.fixture
def model(tiny_bert):
    return transformers.AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=3)


def test_biases_and_norms_are_not_decayed_and_every_parameter_is_in_one_group(model):
    groups = parameter_groups(model, TrainingConfig(weight_decay=0.1))
    names = [name for group in groups for name in group["names"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    for group in groups:
        for name in group["names"]:
            assert (group["weight_decay"] == 0) == ("bias" in name or "LayerNorm" in name), name


def test_layer_decay_falls_from_the_head_to_the_embeddings(model):
    groups = parameter_groups(model, TrainingConfig(layer_decay=0.5))
    scale = {name: group["lr_scale"] for group in groups for name in group["names"]}
    assert scale["classifier.weight"] == 1.0
    assert scale["bert.pooler.dense.weight"] == 0.5
    assert scale["bert.encoder.layer.1.output.dense.weight"] == 0.5
    assert scale["bert.encoder.layer.0.output.dense.weight"] == 0.25
    assert scale["bert.embeddings.word_embeddings.weight"] == 0.125
    assert scale["bert.embeddings.LayerNorm.weight"] == 0.125


@pytest.mark.parametrize(
    ("pattern", "frozen"),
    [("embeddings", "embeddings"), ("encoder", "bert."), ("layers:1", "layer.0."), ("*.attention.*", ".attention.")],
)
def test_freezing(model, pattern, frozen):
    freeze(model, [pattern])
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != (frozen in name), name


def test_freezing_what_is_not_there_is_an_error(model):
    from nlp_pipeline import ConfigError

    with pytest.raises(ConfigError, match="matches no parameter"):
        freeze(model, ["*.nothing.*"])
    with pytest.raises(ConfigError, match="nothing is left"):
        freeze(model, ["*"])


@given(st.integers(1, 20), st.integers(2, 5), st.floats(0, 0.5), st.booleans(), st.integers(0, 99))
def test_cross_entropy_equals_torchs_mean(rows, classes, smoothing, weighted, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator)
    targets = torch.randint(0, classes, (rows,), generator=generator)
    targets[torch.rand(rows, generator=generator) < 0.3] = -100
    targets[0] = 0
    weights = torch.rand(classes, generator=generator) + 0.1 if weighted else None
    smoothing = 0.0 if weighted else smoothing  # torch weighs the smoothed part otherwise: see the docstring
    ours = cross_entropy_sum(logits, targets, weights, smoothing) / target_weights(targets, weights).sum()
    theirs = torch.nn.functional.cross_entropy(logits, targets, weights, label_smoothing=smoothing)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_binary_cross_entropy_equals_torchs_mean():
    logits, targets = torch.randn(5, 4), torch.randint(0, 2, (5, 4)).float()
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(binary_cross_entropy_sum(logits, targets) / 5, theirs)


def test_an_adapted_model_has_its_layers_at_the_same_depth():
    names = {"score.weight": 0, "model.layers.2.mlp.up_proj.weight": 1, "model.embed_tokens.weight": 4}
    for name, depth in names.items():
        assert depth_from_head(name, 3, "model") == depth
        assert depth_from_head(f"base_model.model.{name}", 3, "model") == depth
