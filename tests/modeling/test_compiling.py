"""When layers are compiled, and that few graphs serve all of them."""

import functools

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from test_padding_free import CONFIGS, batch_of

from nlp_pipeline.modeling import compiling
from nlp_pipeline.modeling.attention_layout import Layout
from nlp_pipeline.modeling.compiling import Compilation, compile_layers, repays, training_flops
from nlp_pipeline.modeling.padding_free import PaddingFree


@pytest.fixture(autouse=True)
def traced_only(monkeypatch):
    """Without the code generator behind it: what is traced, and when, is the question."""
    monkeypatch.setattr(
        torch.nn.Module, "compile", functools.partialmethod(torch.nn.Module.compile, backend="aot_eager")
    )


class Stack(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))


def made(setting="auto", device="cuda", recompute=False, tokens=1e18):
    said = []
    model = Stack()
    return model, said, Compilation(model, setting, device, recompute, tokens, said.append)


def is_compiled(model):
    return [layer._compiled_call_impl is not None for layer in model.layers] == [True] * 3


@given(st.floats(0, 1e30), st.floats(0, 1e30))
def test_of_two_runs_the_longer_one_repays_it_if_the_shorter_does(one, other):
    shorter, longer = sorted((one, other))
    assert repays(longer) or not repays(shorter)


@pytest.mark.parametrize(
    ("parameters", "tokens", "wanted"),
    [
        (86e6, 0, False),
        (86e6, 13_083 * 20, False),  # BERT-base over Banking77's texts, 1 epoch: seconds on a GPU
        (86e6, 13_083 * 20 * 20, False),
        (303e6, 400_000 * 40, False),  # BERT-large over MNLI, 1 epoch
        (86e6, 3e9, True),  # pretraining, and large models on long documents: hours
        (7e9, 1e8, True),
    ],
)
def test_it_repays_on_runs_of_hours_and_not_of_minutes(parameters, tokens, wanted):
    assert repays(6 * parameters * tokens) == wanted


def test_it_repays_only_if_a_fast_gpu_would_be_busy_longer_than_compiling_takes():
    fast = 2e14  # operations a second
    assert not repays(fast * 60)
    assert repays(fast * 3600)


def test_work_counts_weights_and_not_rows_of_tables():
    model = torch.nn.Sequential(torch.nn.Embedding(1000, 4), torch.nn.Linear(4, 5), torch.nn.LayerNorm(5))
    assert training_flops(model, 7) == 6 * 7 * 20


def test_a_long_run_on_cuda_compiles_and_a_short_one_does_not():
    model, said, compilation = made()
    assert is_compiled(model)
    compilation.report()
    assert said == ["compile: 3 layers, when the first batch comes", "compile: 0 graphs in all"]
    model, said, _ = made(tokens=1e6)
    assert not is_compiled(model)
    assert said == ["compile: off, the run is too short to repay it (7.2e+07 operations)"]


@pytest.mark.parametrize("settings", [{"device": "cpu"}, {"setting": False}, {"recompute": True}], ids=str)
def test_otherwise_nothing_is_compiled_nor_said(settings):
    model, said, compilation = made(**settings)
    compilation.report()
    assert not is_compiled(model)
    assert said == []


def test_on_request_it_compiles_at_once_on_any_device_but_not_with_recomputed_activations():
    model, said, _ = made(setting=True, device="cpu")
    assert is_compiled(model)
    assert said == ["compile: 3 layers, when the first batch comes"]
    model, said, _ = made(setting=True, recompute=True)
    assert not is_compiled(model)
    assert said == ["compile: off, torch compiles nothing whose activations are recomputed"]


def test_the_loop_tells_it_the_tokens_of_the_run(tiny_bert, tmp_path, monkeypatch):
    from nlp_pipeline import TextClassification

    told = []
    real = Compilation.__post_init__
    monkeypatch.setattr(Compilation, "__post_init__", lambda self: (told.append(self.tokens), real(self))[1])
    rows = [{"text": "the card is late", "label": "ab"[i % 2]} for i in range(8)]
    recipe = TextClassification(model=tiny_bert, train=rows, max_steps=5, batch={"size": 4}, dir=str(tmp_path))
    recipe.run(progress=False)
    assert told == [recipe.tables["train"].lengths.sum() * 2.5]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own code
@pytest.mark.parametrize("kind", CONFIGS)
def test_few_graphs_serve_all_layers_and_lengths_with_the_same_gradients(kind):
    torch.manual_seed(0)
    config = type(CONFIGS[kind]).from_dict(CONFIGS[kind].to_dict())
    config.num_labels = 3
    model = transformers.AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    runner = PaddingFree(model)

    def gradients():
        for sizes in ([3, 7, 1, 12], [5, 24, 2], [24], [1, 1], [9] * 9):
            model.zero_grad()
            with runner.packed(Layout(sizes, 8)):
                model(**batch_of(sizes)).logits.square().sum().backward()
            yield torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None])

    wanted = list(gradients())
    before = compiling.compiled_graphs()
    assert compile_layers(model) > 0
    for found, gradient in zip(gradients(), wanted, strict=True):
        assert float((found - gradient).norm() / gradient.norm()) < 1e-5
    assert 0 < compiling.compiled_graphs() - before <= torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
