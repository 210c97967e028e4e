"""The search for the largest forward pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline import TextClassification
from nlp_pipeline.training.memory import largest_that_fits

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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own code
def test_compiled_layers_train_alike_for_any_lengths(tiny_bert, tmp_path, capsys):
    import torch
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
