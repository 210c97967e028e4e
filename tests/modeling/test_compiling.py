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
from nlp_pipeline.modeling.compiling import COMPILE_SECONDS, SAVED, Compilation, compile_layers, repays
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


def made(setting="auto", device="cuda", recompute=False, total_steps=10**6, agree=bool):
    said = []
    model = Stack()
    return model, said, Compilation(model, setting, device, recompute, total_steps, said.append, agree)


def is_compiled(model):
    return [layer._compiled_call_impl is not None for layer in model.layers] == [True] * 3


@given(st.integers(0, 10**7), st.floats(0, 100))
def test_it_repays_exactly_when_the_steps_left_save_more_than_it_costs(steps, seconds):
    assert repays(steps, seconds) == (steps * seconds * SAVED > COMPILE_SECONDS)
    assert not repays(steps, seconds) or repays(steps + 1, seconds)


def test_a_long_run_on_cuda_compiles_once_its_pace_is_known():
    model, said, compilation = made()
    for step, seconds in ((10, 9.0), (20, 11.0)):
        compilation.note(step, seconds)
        assert not is_compiled(model)
    compilation.note(30, 13.0)
    assert is_compiled(model)
    assert said == ["compile: 3 layers, from step 31 on: 999,970 steps of 0.2 s are left"]
    compilation.note(40, 15.0)
    compilation.report()
    assert said[1:] == ["compile: 0 graphs in all"]


def test_an_evaluation_in_between_does_not_count_as_slow_steps():
    model, said, compilation = made(total_steps=1000)
    for step, seconds in ((10, 1.0), (20, 900.0), (30, 901.0)):
        compilation.note(step, seconds)
    assert not is_compiled(model)
    assert said == ["compile: off, 970 steps of 0.1 s are left, too few to repay about 60 s of compiling"]


@pytest.mark.parametrize("answer", [True, False])
def test_all_processes_do_as_the_main_one(answer):
    for total in (31, 10**6):
        model, _, compilation = made(total_steps=total, agree=lambda mine: answer)
        for step in (10, 20, 30):
            compilation.note(step, step * 1.0)
        assert is_compiled(model) == answer


@pytest.mark.parametrize("settings", [{"device": "cpu"}, {"setting": False}, {"recompute": True}], ids=str)
def test_otherwise_nothing_is_compiled_nor_said(settings):
    model, said, compilation = made(**settings)
    for step in range(10, 100, 10):
        compilation.note(step, step * 1.0)
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


def test_the_loop_tells_it_the_pace(tiny_bert, tmp_path, monkeypatch, capsys):
    from nlp_pipeline import TextClassification

    noted = []
    monkeypatch.setattr(Compilation, "note", lambda self, step, seconds: noted.append((step, seconds)))
    rows = [{"text": "the card is late", "label": "ab"[i % 2]} for i in range(8)]
    TextClassification(
        model=tiny_bert, train=rows, max_steps=5, batch={"size": 4}, training={"log_every": 2}, dir=str(tmp_path)
    ).run(progress=False)
    assert [step for step, _ in noted] == [2, 4, 5]
    assert 0 < noted[0][1] < noted[1][1] < noted[2][1]


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
