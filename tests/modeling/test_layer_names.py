"""Which modules count as the repeated layers, by their names."""

import pytest

from nlp_pipeline.modeling.parameters import is_layer


@pytest.mark.parametrize(
    "name", ["bert.encoder.layer.0", "model.layers.11", "transformer.h.3", "base_model.model.bert.encoder.layer.1"]
)
def test_layers(name):
    assert is_layer(name)


@pytest.mark.parametrize(
    "name", ["", "bert.encoder.layer", "bert.encoder.layer.0.attention", "classifier", "layer_norm.0"]
)
def test_what_is_none(name):
    assert not is_layer(name)
