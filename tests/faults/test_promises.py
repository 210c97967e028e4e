"""What the README says of stopping and going on, one test a sentence; kills and disks have files of their own."""

import fcntl
import json
import subprocess
import sys

import pytest
import torch

from nlp_pipeline import TextClassification
from nlp_pipeline.run_directory import RunDirectory
from nlp_pipeline.training import bad_numbers
from nlp_pipeline.training.checkpoint_folder import list_checkpoints
from nlp_pipeline.training.guard import SpikeWatch
from nlp_pipeline.training.step import Stepper
from nlp_pipeline.training.train_state import name_of

ROWS = [{"text": f"the card {i} is late", "label": "ab"[i % 2]} for i in range(16)]


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.fixture
def make(tiny_bert, tmp_path):
    def make(folder="run", checkpoint=None, **settings):
        return TextClassification(
            **{"model": tiny_bert, "train": ROWS, "validation": ROWS, "precision": "fp32", "log_every": 1,
               "max_steps": 6, "batch": {"size": 4}, "evaluation": {"every": 2}, "dir": str(tmp_path / folder),
               "checkpoint": {"every": 1, "keep": 2, **(checkpoint or {})}, **settings}
        )  # fmt: skip

    return make


def cut_after(monkeypatch, recipe, number):
    """Run until just before step `number` (from 0)."""
    step = Stepper.step

    def stopping(self, given):
        if given.number == number:
            raise Interrupted
        return step(self, given)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", stopping)
        with pytest.raises(Interrupted):
            recipe.run(progress=False)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_best_and_last_survive_any_limit(make, monkeypatch, keep):
    scores = iter([0.2, 0.9, 0.5, 0.4, 0.3, 0.1])
    monkeypatch.setattr(
        "nlp_pipeline.stages.fitting.validation_scores", lambda *which: {"accuracy": next(scores), "loss": 1.0}
    )
    recipe = make(checkpoint={"keep": keep}, evaluation={"every": 1})
    recipe.run(progress=False)
    names = {path.name for path in list_checkpoints(recipe.run_directory.checkpoints)}
    assert names == {name_of(2)} | {name_of(6 - i) for i in range(keep)}
    assert recipe.results["training"]["best_step"] == 2


@pytest.mark.parametrize("compact", [False, True])
def test_when_a_run_saves_changes_no_bit_of_its_weights(make, compact):
    """Stopped by a signal it saves once more than the run left alone."""
    from safetensors.numpy import load_file

    found = []
    for every in (1, 4):
        recipe = make(str(every), {"every": every}, evaluation={"every": 6}, compact_vocabulary=compact,
                      weight_decay=0.1, learning_rate=1e-3)  # fmt: skip
        recipe.run(progress=False)
        found.append(load_file(recipe.run_directory.model / "model.safetensors"))
    assert all((found[0][name] == found[1][name]).all() for name in found[1])


def test_the_evaluations_come_back_from_the_checkpoint_when_the_log_is_lost(make, monkeypatch):
    recipe = make()
    cut_after(monkeypatch, recipe, 5)
    before = [entry for entry in recipe.run_directory.history() if "validation" in entry]
    assert [entry["step"] for entry in before] == [2, 4]
    recipe.run_directory.metrics.unlink()
    again = make()
    again.run(progress=False)
    after = [entry for entry in again.run_directory.history() if "validation" in entry]
    assert after[:2] == before
    assert [entry["step"] for entry in after] == [2, 4, 6]


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_a_damaged_log_is_mended_up_to_the_checkpoint(make, monkeypatch, damage):
    recipe = make()
    cut_after(monkeypatch, recipe, 5)
    log = recipe.run_directory.metrics
    content = log.read_bytes()
    log.write_bytes(content[: len(content) // 2] if damage == "cut" else content[:-40] + b"\xff" * 60)
    make().run(progress=False)
    entries = RunDirectory(log.parent).history()
    assert [entry["step"] for entry in entries if "validation" in entry] == [2, 4, 6]
    steps = [entry["step"] for entry in entries if "loss" in entry]
    assert steps == sorted(set(steps))
    assert steps[-1] == 6


def test_lines_after_the_checkpoint_are_dropped(tmp_path):
    run = RunDirectory(tmp_path)
    for step in range(1, 4):
        run.log({"step": step})
        if step == 2:
            size = run.log_size()
    run.rewind_log(2, size)
    assert [entry["step"] for entry in run.history()] == [1, 2]
    run.rewind_log(1, None)
    assert [entry["step"] for entry in run.history()] == [1]
    run.rewind_log(-1, None)
    assert run.history() == []


def test_what_is_known_of_the_usual_loss_and_of_steps_left_out_goes_on(make, monkeypatch):
    recipe = make(training={"on_non_finite": "skip"})
    bad, yes = bad_numbers.are_bad, torch.tensor(True)
    with monkeypatch.context() as patch:
        patch.setattr(bad_numbers, "are_bad", lambda self, *found: yes if self.number == 1 else bad(self, *found))
        gradient = Stepper.gradient

        def numbered(self, given):
            self.number = given.number
            return gradient(self, given)

        patch.setattr(Stepper, "gradient", numbered)
        cut_after(patch, recipe, 4)
    newest = list_checkpoints(recipe.run_directory.checkpoints)[-1]
    state = json.loads((newest / "state.json").read_text())["state"]
    assert state["skipped"] == 1
    assert state["losses"]["seen"] == 3
    watches = []
    monkeypatch.setattr(
        "nlp_pipeline.training.loop.SpikeWatch", lambda **kept: watches.append(kept) or SpikeWatch(**kept)
    )
    monkeypatch.setattr("nlp_pipeline.training.bad_numbers.MOST_SKIPPED", 1)
    monkeypatch.setattr(bad_numbers, "are_bad", lambda self, norm, loss: yes)
    from nlp_pipeline.errors import NonFiniteError

    with pytest.raises(NonFiniteError, match="step 5"):  # the one left out before counts
        make(training={"on_non_finite": "skip"}).run(progress=False)
    assert watches == [state["losses"]]


def test_a_renamed_folder_and_other_free_settings_go_on(make, monkeypatch, tmp_path, capsys):
    from safetensors.numpy import load_file

    whole = make("whole", max_steps=8)
    whole.run(progress=False)
    recipe = make(max_steps=8)
    cut_after(monkeypatch, recipe, 5)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    changed = {"name": "other", "log_every": 3, "micro": 2, "training": {"on_non_finite": "skip"}}
    again = make("elsewhere", checkpoint={"keep": 1, "background": True}, max_steps=8, **changed)
    again.run()
    assert "going on from step-000000005" in capsys.readouterr().out
    ours, theirs = (load_file(r.run_directory.model / "model.safetensors") for r in (again, whole))
    assert all(abs(ours[name] - theirs[name]).max() < 2e-5 for name in theirs)


def test_a_folder_in_which_another_process_works_is_refused(make, tiny_bert, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    out = tmp_path / "run"
    out.mkdir()
    settings = {"task": "text-classification", "model": tiny_bert, "data": {"train": str(rows)},
                "output": {"dir": str(out)}}  # fmt: skip
    (tmp_path / "x.yaml").write_text(json.dumps(settings))
    with open(out / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        answer = subprocess.run(
            [sys.executable, "-m", "nlp_pipeline.cli", "train", str(tmp_path / "x.yaml")],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert answer.returncode == 2
    assert f"another process is working in {out}" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert [path.name for path in out.iterdir()] == [".lock"]


def test_a_checkpoint_holds_safetensors_and_json_only(make):
    recipe = make()
    recipe.run(progress=False)
    files = {path.name for path in recipe.run_directory.checkpoints.rglob("*") if path.is_file()}
    assert files == {"manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"}


def test_under_lora_only_what_trains_is_saved(make):
    from safetensors.numpy import load_file

    pytest.importorskip("peft")
    recipe = make(lora={"r": 2})
    recipe.run(progress=False)
    names = load_file(list_checkpoints(recipe.run_directory.checkpoints)[-1] / "model.safetensors").keys()
    assert names
    assert all("lora_" in name or "classifier" in name for name in names)
