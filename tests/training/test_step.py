"""Inputs made ready ahead, and memory that runs out."""

import shutil
import threading

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline import ConfigError, TextClassification
from nlp_pipeline.data.batching import micro_batches
from nlp_pipeline.errors import OutOfMemoryError
from nlp_pipeline.training.inputs import Prefetched
from nlp_pipeline.training.out_of_memory import split
from nlp_pipeline.training.step import Stepper

ROWS = [{"text": "the card is late " * (1 + i % 3), "label": "ab"[i % 2]} for i in range(16)]


def test_results_come_in_order_and_the_thread_ends():
    with Prefetched(iter(range(10**9)), lambda n: n * n) as squares:
        assert [next(squares) for _ in range(5)] == [0, 1, 4, 9, 16]
        assert squares.waited >= 0
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())


def test_an_error_comes_where_its_result_would_have():
    with Prefetched(range(3), lambda n: 1 // (1 - n)) as results:
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
    with Prefetched(range(1), str) as results:
        assert list(results) == ["0"]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 200), st.booleans())
def test_micro_batches_hold_every_row_once_and_keep_to_the_budget(lengths, budget, padded):
    lengths = np.array(lengths)
    parts = micro_batches(np.arange(len(lengths)), lengths, None, budget, padded)
    assert np.concatenate(parts).tolist() == list(range(len(lengths)))
    for part in parts:
        tokens = len(part) * lengths[part].max() if padded else lengths[part].sum()
        assert tokens <= budget or len(part) == 1


def make(tiny_bert, folder, **settings):
    still = {"name": tiny_bert, "settings": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}
    return TextClassification(
        model=still, train=ROWS, max_steps=4, precision="fp32", learning_rate=1e-3, dir=str(folder), **settings
    )


def of_the_cpu():
    torch.empty(2**60)


def of_python():
    np.empty(2**58)


def of_a_device():
    raise torch.OutOfMemoryError("no memory")


@pytest.mark.parametrize("run_out", [of_the_cpu, of_python, of_a_device])
def test_running_out_of_memory_splits_the_pass_and_loses_no_step(tiny_bert, tmp_path, monkeypatch, capsys, run_out):
    from safetensors.torch import load_file

    through = make(tiny_bert, tmp_path / "through")
    through.run(progress=False)
    gradient = Stepper.gradient

    def too_large(self, given):
        if given.number >= 1 and max(len(batch.rows) for batch in split(self, given)) > 4:
            gradient(self, given)  # gradients of the pass that failed must not stay
            run_out()
        return gradient(self, given)

    monkeypatch.setattr(Stepper, "gradient", too_large)
    cut = make(tiny_bert, tmp_path / "cut")
    assert cut.run()["training"]["step"] == 4
    assert "memory ran out: forward passes were cut into 4 parts" in capsys.readouterr().out
    ours, theirs = (load_file(r.run_directory.model / "model.safetensors") for r in (cut, through))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=2e-5, rtol=1e-3, msg=name)


def test_a_run_that_goes_on_cuts_its_passes_as_before(tiny_bert, tmp_path, monkeypatch):
    """Else it would run out anew, and its sums would be in another order than the uninterrupted run's."""
    gradient, ran_out, dies = Stepper.gradient, [], []

    def too_large(self, given):
        if given.number == 2 and dies:
            raise ZeroDivisionError(dies.pop())
        if max(len(batch.rows) for batch in split(self, given)) > 4:
            ran_out.append(given.number + 1)
            raise torch.OutOfMemoryError("no memory")
        return gradient(self, given)

    monkeypatch.setattr(Stepper, "gradient", too_large)
    through = make(tiny_bert, tmp_path / "through", checkpoint={"every": 1})
    through.run(progress=False)
    assert ran_out == [1, 1]
    dies.append("in step 3")
    with pytest.raises(ZeroDivisionError):
        make(tiny_bert, tmp_path / "again", checkpoint={"every": 1}).run(progress=False)
    ran_out.clear()
    again = make(tiny_bert, tmp_path / "again", checkpoint={"every": 1})
    assert again.run(progress=False)["training"]["step"] == 4
    assert ran_out == []
    ours, theirs = ((r.run_directory.model / "model.safetensors").read_bytes() for r in (again, through))
    assert ours == theirs


def test_what_a_checkpoint_keeps_of_it_serves_any_number_of_processes():
    from types import SimpleNamespace

    from nlp_pipeline.training.resuming import splits_of
    from nlp_pipeline.training.train_state import TrainState

    for kept, rank, processes, wanted in (
        ([], 0, 1, 0), ([2], 0, 1, 2), ([0, 3], 0, 2, 0), ([0, 3], 1, 2, 3), ([0, 3], 0, 1, 3), ([1], 1, 2, 1),
    ):  # fmt: skip
        accelerator = SimpleNamespace(num_processes=processes, process_index=rank)
        assert splits_of(TrainState(splits=kept, splits_under="cpu 4"), accelerator, "cpu 4") == wanted
        assert splits_of(TrainState(splits=kept, splits_under="cpu 4"), accelerator, "cpu 2") == 0


def test_a_pass_of_any_number_of_rows_is_cut_down_to_single_ones(tiny_bert, tmp_path, monkeypatch):
    gradient = Stepper.gradient

    def single(self, given):
        if max(len(batch.rows) for batch in split(self, given)) > 1:
            raise torch.OutOfMemoryError("no memory")
        return gradient(self, given)

    monkeypatch.setattr(Stepper, "gradient", single)
    assert make(tiny_bert, tmp_path / "run", batch={"size": 7}).run(progress=False)["training"]["step"] == 4


def test_memory_too_small_for_one_row_is_an_error(tiny_bert, tmp_path, monkeypatch):
    def never(self, given):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(Stepper, "gradient", never)
    with pytest.raises(OutOfMemoryError, match=r"step 1 does not fit into memory \(no memory\); lower tokenization"):
        make(tiny_bert, tmp_path / "run").run(progress=False)


def test_the_wait_for_data_is_logged(tiny_bert, tmp_path):
    recipe = make(tiny_bert, tmp_path / "run", log_every=2)
    recipe.run(progress=False)
    shares = [entry["data_wait"] for entry in recipe.run_directory.history() if "data_wait" in entry]
    assert shares
    assert all(0 <= share < 1 for share in shares)


def test_architectures_without_a_packed_form_say_so_and_group_by_length(tmp_path, tiny_bert, capsys):
    folder = tmp_path / "mpnet"
    shutil.copytree(tiny_bert, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    config = transformers.MPNetConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.MPNetModel(config).save_pretrained(folder)
    settings = {"model": str(folder), "train": ROWS, "max_steps": 1, "precision": "fp32"}
    recipe = TextClassification(**settings, dir=str(tmp_path / "run"))
    recipe.run()
    assert "rows are padded, mpnet has no packed form yet; batches hold rows of like length" in capsys.readouterr().out
    assert recipe.sampling == "length_grouped"
    with pytest.raises(ConfigError, match=r"batch\.padding_free: found true, but mpnet"):
        TextClassification(**settings, padding_free=True, dir=str(tmp_path / "other")).run()
