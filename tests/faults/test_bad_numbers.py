"""NaN and infinity in loss, gradient and embedding: nothing is updated by them, and the rows are named."""

import math

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from nlp_pipeline import TextClassification
from nlp_pipeline.errors import NonFiniteError
from nlp_pipeline.training import bad_numbers
from nlp_pipeline.training.checkpoint_folder import list_checkpoints, verify
from nlp_pipeline.training.guard import SpikeWatch
from nlp_pipeline.training.step import Stepper

STEPS = 6
ROWS = [
    {"id": f"row-{i}", "text": f"the card {i} is late " * (1 + i % 3) + ("zzz" if i == 7 else ""), "label": "ab"[i % 2]}
    for i in range(16)
]


@pytest.fixture(autouse=True, params=[False, True], ids=["", "late"])
def late_check(request, monkeypatch):
    """As on a CPU, and as on CUDA, where a step's numbers are looked at after the next one's gradient."""
    prepare = Stepper.__post_init__

    def prepared(self):
        prepare(self)
        self.late_check = request.param

    monkeypatch.setattr(Stepper, "__post_init__", prepared)
    return request.param


def make(tiny_bert, folder, **training):
    settings = {"max_steps": STEPS, "precision": "fp32", "log_every": 1, "learning_rate": 1e-3, **training}
    return TextClassification(
        model=tiny_bert, train=ROWS, batch={"size": 4}, training=settings, checkpoint={"every": 1, "keep": 3},
        dir=str(folder),
    )  # fmt: skip


def finite_weights(recipe):
    for path in list_checkpoints(recipe.run_directory.checkpoints):
        assert verify(path) is None
        for name, values in load_file(path / "model.safetensors").items():
            assert np.isfinite(values).all(), name


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient", "embedding"])
@pytest.mark.parametrize("step", [1, 3, STEPS])
def test_the_run_stops_before_the_step(tiny_bert, tmp_path, monkeypatch, value, where, step):
    gradient = Stepper.gradient
    rows = []

    def spoil(module, inputs, output):
        output = output.clone()
        output.flatten()[3] = value
        return output

    def injected(self, given):
        if given.number + 1 == step:
            rows[:] = given.rows.tolist()
            if where == "embedding":
                self.model.get_input_embeddings().register_forward_hook(spoil)
        loss = gradient(self, given)
        if given.number + 1 != step or where == "embedding":
            return loss
        if where == "loss":
            return loss + value
        next(p for p in self.model.parameters() if p.grad is not None).grad.flatten()[3] = value
        return loss

    monkeypatch.setattr(Stepper, "gradient", injected)
    recipe = make(tiny_bert, tmp_path / "run")
    with pytest.raises(NonFiniteError, match=f"the loss or gradient of step {step} is not a finite number") as error:
        recipe.run(progress=False)
    assert error.value.exit_code == 3
    assert all(f"row-{row}" in str(error.value) for row in rows)
    assert len(rows) == 4
    assert len(list_checkpoints(recipe.run_directory.checkpoints)) == min(step - 1, 3)
    finite_weights(recipe)


def poisoned(recipe, tiny_bert, folder):
    """The model with an embedding that is infinite for the one word of row-7."""
    import shutil

    from safetensors.torch import load_file as load
    from safetensors.torch import save_file

    shutil.copytree(tiny_bert, folder)
    tensors = load(folder / "model.safetensors")
    token = recipe.encoder.tokenizer.convert_tokens_to_ids("z")
    tensors["embeddings.word_embeddings.weight"][token] = torch.inf
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_a_poisoned_embedding_names_the_row_that_uses_it(tiny_bert, tmp_path):
    first = make(tiny_bert, tmp_path / "first")
    first.tokenize()
    recipe = make(poisoned(first, tiny_bert, tmp_path / "model"), tmp_path / "run")
    with pytest.raises(NonFiniteError, match=r"rows: row-7\. ") as error:
        recipe.run(progress=False)
    assert "lower training.learning_rate" in str(error.value)


def test_such_batches_are_left_out_if_wanted(tiny_bert, tmp_path, capsys):
    first = make(tiny_bert, tmp_path / "first")
    first.tokenize()
    recipe = make(poisoned(first, tiny_bert, tmp_path / "model"), tmp_path / "run", on_non_finite="skip")
    recipe.load()
    recipe.splits = recipe.splits.__class__(
        train=recipe.splits.train, fingerprints=recipe.splits.fingerprints, notes=recipe.splits.notes
    )
    recipe.tokenize()
    state = recipe.fit()
    assert state.step == STEPS
    skipped = [entry for entry in recipe.run_directory.history() if "skipped_rows" in entry]
    assert {entry["skipped_rows"] for entry in skipped} == {"row-7"}
    assert all(entry["loss"] is None for entry in skipped)
    assert 1 <= len(skipped) <= 2  # once an epoch of four steps


def test_skipping_gives_up_in_the_end(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr("nlp_pipeline.training.bad_numbers.MOST_SKIPPED", 2)
    monkeypatch.setattr(TextClassification, "loss", lambda self, outputs, targets: outputs.logits.sum() * math.nan)
    recipe = make(tiny_bert, tmp_path / "run", on_non_finite="skip")
    with pytest.raises(NonFiniteError, match="step 3"):
        recipe.run(progress=False)


def test_an_overflow_in_mixed_precision_is_made_up_for_in_fp32(tiny_bert, tmp_path, monkeypatch, capsys):
    gradient = Stepper.gradient
    in_fp32 = []

    def injected(self, given):
        found = gradient(self, given)
        inner = self.accelerator.unwrap_model(self.model)
        mixed = inner.forward is not inner._original_forward
        if given.number == 2:
            in_fp32.append(not mixed)
            return found + math.inf if mixed else found
        return found

    monkeypatch.setattr(Stepper, "gradient", injected)
    recipe = make(tiny_bert, tmp_path / "run", precision="bf16")
    assert recipe.run()["training"]["step"] == STEPS
    assert in_fp32 == [False, True]
    assert "1 steps overflowed in mixed precision and were made in fp32" in capsys.readouterr().out


def test_a_late_check_changes_no_bit(tiny_bert, tmp_path, monkeypatch, late_check):
    """Overflows, a batch left out and the steps around them, beside steps that are checked at once."""
    if not late_check:
        pytest.skip("compares the two")
    gradient, again = Stepper.gradient, bad_numbers._second_try
    weights, logs = [], []
    for late in (False, True):
        anew = []

        def once_more(self, given, anew=anew):
            anew.append(given.number)
            found = again(self, given)
            anew.append(None)
            return found

        def injected(self, given, anew=anew, late=late):
            self.late_check = late
            loss = gradient(self, given)
            # Two in a row and one apart overflow; another one is bad however it is made.
            first = not anew or anew[-1] is None
            return loss * math.inf if given.number == 4 or (given.number in (2, 3, 6) and first) else loss

        monkeypatch.setattr(bad_numbers, "_second_try", once_more)
        monkeypatch.setattr(Stepper, "gradient", injected)
        recipe = make(
            tiny_bert, tmp_path / str(late), on_non_finite="skip", max_steps=9, log_every=4, weight_decay=0.1,
            compact_vocabulary=True,
        )  # fmt: skip
        recipe.config = recipe.config.model_copy(
            update={"checkpoint": recipe.config.checkpoint.model_copy(update={"every": None})}
        )
        recipe.run(progress=False)
        assert [number for number in anew if number is not None] == [2, 3, 4, 6]
        weights.append(load_file(recipe.run_directory.model / "model.safetensors"))
        logs.append(
            [(e["step"], e["loss"], "skipped_rows" in e) for e in recipe.run_directory.history() if "loss" in e]
        )
    assert logs[0] == logs[1]
    assert [step for step, loss, skipped in logs[0] if skipped] == [5]
    for name, values in weights[0].items():
        assert (weights[1][name] == values).all(), name


def test_jumps_are_found_and_the_usual_is_not():
    generator = np.random.default_rng(0)
    watch = SpikeWatch()
    losses = {n: 2.0 * 0.99**n + 0.1 * abs(generator.normal()) for n in range(1, 301)}
    losses[200] = 9.0
    losses[100] = math.nan
    found = []
    for number, loss in losses.items():
        watch.note(number, np.array([number, number + 1]))
        found += watch.read({number: loss})
    assert [(number, loss, rows.tolist()) for number, loss, rows in found] == [(200, 9.0, [200, 201])]
    assert not watch.recent
