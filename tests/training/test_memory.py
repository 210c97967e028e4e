"""The search for the largest forward pass."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline import TextClassification
from nlp_pipeline.training import memory
from nlp_pipeline.training.memory import CPU_TOKENS, MARGIN, largest_that_fits, micro_tokens

ROWS = [{"text": "the card is late " * (1 + i % 5), "label": "ab"[i % 2]} for i in range(12)]


@given(st.integers(1, 10**6), st.integers(1, 4096), st.integers(1, 10**6))
def test_the_largest_power_of_two_that_fits(memory, low, high):
    tried = []

    def fits(size):
        tried.append(size)
        return size <= memory

    found = largest_that_fits(fits, low, high)
    assert found == low or found <= min(memory, high)
    assert found * 2 > min(memory, high) or found == low
    assert tried == sorted(tried)
    assert sum(size > memory for size in tried) <= 1


class Device:
    """Stands for a GPU whose forward passes hold so many tokens, and for the model that runs on it."""

    def __init__(self, folder, tokens, name="GPU", precision="bf16", **settings):
        settings = {"model": "a-model", "tokenization": {"cache_dir": str(folder)}} | settings
        config = TextClassification(train=ROWS, dir=str(folder / "run"), **settings).config
        self.tokens, self.name, self.said = tokens, name, []
        self.passes = []
        self.recipe = SimpleNamespace(
            config=config, task="text-classification", padded_because=None,
            accelerator=SimpleNamespace(mixed_precision=precision), reporter=SimpleNamespace(say=self.said.append),
        )  # fmt: skip
        self.stepper = SimpleNamespace(
            model=torch.nn.Linear(2, 2), sharded=False, teacher=None, accelerator=SimpleNamespace(device="cpu")
        )

    def run(self, recipe, stepper, table, rows):
        """Stands for a forward and backward pass."""
        assert len(rows)
        self.passes.append(int(table.lengths[rows].sum()))
        if self.passes[-1] > self.tokens:
            raise torch.OutOfMemoryError("no memory")

    def find(self, lengths, share=10**9, default=256):
        """What one forward pass is said to hold."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: True)
            patch.setattr(torch.cuda, "empty_cache", lambda: None)
            patch.setattr(torch.cuda, "get_device_name", lambda: self.name)
            patch.setattr(memory, "_pass", self.run)
            table = SimpleNamespace(lengths=np.array(lengths))
            return micro_tokens(self.recipe, self.stepper, table, share, default)


FOLDERS = itertools.count()


@given(
    st.lists(st.integers(1, 128), min_size=1, max_size=60),
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(16, 512),
)
def test_what_is_found_has_been_run_and_is_no_more_than_a_step_needs(tmp_path_factory, lengths, tokens, share, default):
    device = Device(tmp_path_factory.getbasetemp() / f"memory-{next(FOLDERS)}", tokens)
    found, low = device.find(lengths, share, default), default // 16
    assert 1 <= found <= max(default, share)
    fitted = [size for size in device.passes if size <= tokens]
    if found > low:
        assert found <= max(fitted) or max(fitted) == sum(lengths)  # there is no more than that to run
    assert len(device.passes) - len(fitted) <= 1
    again = len(device.passes)
    assert device.find(lengths, share, default) == found
    assert (len(device.passes) == again) == bool(device.said)  # what all rows fit into says nothing of more rows


def test_another_model_length_device_or_precision_is_looked_for_anew(tmp_path):
    lengths = [100] * 400
    first = Device(tmp_path, 9_000)
    found = first.find(lengths)
    assert found == int(8192 * MARGIN)
    assert [json.loads(file.read_text())["tokens"] for file in (tmp_path / "memory").iterdir()] == [found]
    same = Device(tmp_path, 0)
    assert (same.find(lengths[1:]), same.passes) == (found, [])
    others = {
        "length": (Device(tmp_path, 2_000), [99] * 400),
        "model": (Device(tmp_path, 2_000, model="another-model"), lengths),
        "device": (Device(tmp_path, 2_000, name="another GPU"), lengths),
        "precision": (Device(tmp_path, 2_000, precision="fp16"), lengths),
        "recomputing": (Device(tmp_path, 2_000, training={"gradient_checkpointing": True}), lengths),
    }
    for name, (device, rows) in others.items():
        assert device.find(rows) == int(1024 * MARGIN), name
        assert device.passes, name
    assert Device(tmp_path, 0).find(lengths) == found
    assert len(list((tmp_path / "memory").iterdir())) == 1 + len(others)


def test_an_error_that_is_no_lack_of_memory_is_not_hidden(tmp_path, monkeypatch):
    device = Device(tmp_path, 10)
    monkeypatch.setattr(device, "run", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        device.find([4] * 100)
    assert not (tmp_path / "memory").exists()


def test_a_model_in_shards_and_a_cpu_look_for_nothing(tmp_path):
    device = Device(tmp_path, 0)
    device.stepper.sharded = True
    assert device.find([4] * 100, default=16_384) == 16_384
    table = SimpleNamespace(lengths=np.array([4]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        for default in (CPU_TOKENS // 2, CPU_TOKENS * 2):
            found = micro_tokens(device.recipe, device.stepper, table, 10**6, default)
            assert found == min(default, CPU_TOKENS)
    assert device.passes == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own code
def test_compiled_layers_train_alike_for_any_lengths(tiny_bert, tmp_path, capsys):
    from safetensors.torch import load_file

    still = {"name": tiny_bert, "settings": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}
    weights = []
    for compiled in (False, True):
        recipe = TextClassification(
            model=still, train=ROWS, max_steps=5, batch={"size": 3}, precision="fp32", learning_rate=1e-3,
            training={"compile": compiled}, dir=str(tmp_path / str(compiled)),
        )  # fmt: skip
        recipe.run()
        weights.append(load_file(recipe.run_directory.model / "model.safetensors"))
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], atol=2e-5, rtol=1e-3, msg=name)
    graphs = int(capsys.readouterr().out.split("graphs in all")[0].split()[-1])
    assert 0 < graphs <= 12
