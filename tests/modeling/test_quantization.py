"""QLoRA: refused with what to do where it can't run, and the config that it would give where it can."""

import importlib.metadata
import importlib.util

import pytest

from nlp_pipeline import ConfigError, TextClassification
from nlp_pipeline.config.schema import ModelConfig
from nlp_pipeline.modeling.loading import load_model, model_identity

ROWS = [{"text": f"card {i}", "label": "ab"[i % 2]} for i in range(8)]


@pytest.fixture
def installed(monkeypatch):
    """As if bitsandbytes were installed."""
    spec, version = importlib.util.find_spec, importlib.metadata.version
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: spec("json") if name == "bitsandbytes" else spec(name, *a)
    )
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.50.0" if name == "bitsandbytes" else version(name)
    )


def made(model, **settings):
    return TextClassification(model={"name": model, "quantization": "4bit"}, train=ROWS, **settings)


def test_everything_that_is_missing_is_named(tiny_bert, monkeypatch):
    spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else spec(name, *a)
    )
    with pytest.raises(ConfigError) as error:
        made(tiny_bert)
    assert "training.lora.r=16" in str(error.value)
    assert "nlp-pipeline[qlora]" in str(error.value)


def test_a_machine_without_cuda_is_told_before_anything_is_loaded(tiny_bert, installed, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = made(tiny_bert, training={"lora": {"r": 4}})
    with pytest.raises(ConfigError, match=r"needs a CUDA device.*leave it out"):
        recipe.audit()


def test_the_settings_are_those_of_the_paper(tiny_bert, installed, monkeypatch):
    import torch
    import transformers

    given = {}

    class Stop(OSError):
        pass

    def from_pretrained(*args, **options):
        given.update(options)
        raise Stop("enough")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(transformers.AutoModelForSequenceClassification, "from_pretrained", from_pretrained)
    config = ModelConfig(name=tiny_bert, quantization="4bit")
    with pytest.raises(Exception, match="enough"):
        load_model(config, "AutoModelForSequenceClassification", {})
    found = given["quantization_config"].to_dict()
    assert found["load_in_4bit"] is True
    assert found["bnb_4bit_quant_type"] == "nf4"
    assert found["bnb_4bit_use_double_quant"] is True
    assert found["bnb_4bit_compute_dtype"] == "bfloat16"
    assert given["device_map"] == {"": 0}
    assert model_identity(config) != model_identity(ModelConfig(name=tiny_bert))
