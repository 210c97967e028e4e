"""Disks that fill, fail or flip bits: a whole checkpoint remains, and the run goes on from it."""

import contextlib
import errno
import json
import os
import random
import resource
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from nlp_pipeline import TextClassification
from nlp_pipeline.config.schema import TrainingConfig
from nlp_pipeline.errors import StorageError
from nlp_pipeline.training import checkpoint
from nlp_pipeline.training.checkpoint import take_snapshot, write_snapshot
from nlp_pipeline.training.checkpoint_folder import find_checkpoint, list_checkpoints, verify
from nlp_pipeline.training.optimization import make_optimizer
from nlp_pipeline.training.step import Stepper
from nlp_pipeline.training.train_state import TrainState, name_of
from nlp_pipeline.training.writer import CheckpointWriter


def save_checkpoint(folder, *what):
    return write_snapshot(folder, take_snapshot(*what))


ROWS = [{"text": f"the card {i} is late", "label": "ab"[i % 2]} for i in range(16)]


def make(tiny_bert, folder, background, **settings):
    return TextClassification(
        model=tiny_bert, train=ROWS, max_steps=4, precision="fp32", batch={"size": 4},
        checkpoint={"every": 1, "keep": 2, "background": background}, dir=str(folder), **settings,
    )  # fmt: skip


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("call", ["fsync", "rename", "write"])
def test_a_disk_that_fails_leaves_the_last_checkpoint_and_the_run_goes_on(
    tiny_bert, tmp_path, monkeypatch, call, background
):
    through = make(tiny_bert, tmp_path / "through", background)
    through.run(progress=False)
    count = {"saves": 0}
    write = checkpoint.write_snapshot

    def failing(folder, snapshot, peers):
        if snapshot.state.step != 3:
            return write(folder, snapshot, peers)
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def refuse(*arguments, **named):
            raise full

        with pytest.MonkeyPatch.context() as patch:
            if call == "fsync":
                patch.setattr(checkpoint, "_sync", refuse)
            elif call == "rename":
                patch.setattr(type(folder), "rename", refuse)
            else:
                patch.setattr("os.write", refuse)
            count["saves"] += 1
            return write(folder, snapshot, peers)

    monkeypatch.setattr("nlp_pipeline.training.writer.write_snapshot", failing)
    with pytest.raises(StorageError, match="No space left on device; step-000000002 is whole") as error:
        make(tiny_bert, tmp_path / "cut", background).run(progress=False)
    assert error.value.exit_code == 4
    monkeypatch.undo()
    folder = tmp_path / "cut" / "checkpoints"
    assert not list(folder.glob(".writing-*"))
    assert [path.name for path in list_checkpoints(folder)][-1] == name_of(2)
    cut = make(tiny_bert, tmp_path / "cut", background)
    cut.run(progress=False)
    same_weights(cut, through)


@pytest.mark.slow
def test_a_file_size_limit_in_a_process_of_its_own(tiny_bert, tmp_path):
    """The kernel itself refuses, in the middle of a file."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    recipe = {"task": "text-classification", "model": tiny_bert, "data": {"train": str(rows)},
              "training": {"max_steps": 2, "precision": "fp32"}, "output": {"dir": str(tmp_path / "run")}}  # fmt: skip
    (tmp_path / "x.yaml").write_text(json.dumps(recipe))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    command = [sys.executable, "-m", "nlp_pipeline.cli", "train", str(tmp_path / "x.yaml"), "--quiet"]
    small = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, timeout=120)
    assert small.returncode == 4, small.stderr
    assert "could not be written" in small.stderr
    assert "Go on with the same command" in small.stderr
    assert "Traceback" not in small.stderr
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "run" / "results.json").exists()


def test_any_byte_flipped_or_cut_is_found(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    model.base_model_prefix = "base"
    optimizer = make_optimizer(model, TrainingConfig())
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    good = save_checkpoint(tmp_path, model, optimizer, TrainState(step=1), {"a": 1})
    chance = random.Random(0)
    for _ in range(60):
        newest = save_checkpoint(tmp_path, model, optimizer, TrainState(step=2), {"a": 1})
        file = chance.choice(sorted(newest.iterdir()))
        content = bytearray(file.read_bytes())
        place = chance.randrange(len(content))
        if chance.random() < 0.5:
            content[place] ^= 1 << chance.randrange(8)
        else:
            del content[place:]
        file.write_bytes(content)
        path, notes = find_checkpoint(tmp_path, {"a": 1})
        assert path == good
        assert notes
        assert name_of(2) in notes[0]


def test_the_metric_log_survives_a_full_disk(tmp_path, monkeypatch, capsys):
    from nlp_pipeline.run_directory import RunDirectory

    run = RunDirectory(tmp_path)
    run.log({"step": 1})
    real = open

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.open", full)
        run.log({"step": 2})
        run.log({"step": 3})
    assert real is open
    run.log({"step": 4})
    assert [entry["step"] for entry in run.history()] == [1, 4]
    assert capsys.readouterr().err.count("training goes on") == 1


def test_a_save_in_the_background_holds_what_was_not_what_came_after(tmp_path):
    model = torch.nn.Linear(300, 300)
    model.base_model_prefix = "base"
    optimizer = make_optimizer(model, TrainingConfig())
    with CheckpointWriter(tmp_path, keep=1, background=True) as writer:
        for step in range(1, 4):
            with torch.no_grad():
                model.weight.fill_(float(step))
            writer.save(model, optimizer, TrainState(step=step), {})
            with torch.no_grad():
                model.weight.fill_(-1.0)
    (last,) = list_checkpoints(tmp_path)
    assert last.name == name_of(3)
    assert (load_file(last / "model.safetensors")["weight"] == 3.0).all()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own in memory, and a function that makes it larger."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    if subprocess.run([*mount, "size=700k", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder, lambda: subprocess.run([*mount, "remount,size=50m", "tmpfs", str(folder)], check=True)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("background", [False, True])
def test_a_disk_that_really_fills_during_a_save(tiny_bert, tmp_path, small_disk, background):
    folder, enlarge = small_disk
    through = make(tiny_bert, tmp_path / "through", background)
    through.run(progress=False)
    with pytest.raises(StorageError, match=r"No space left.*step-00000000\d is whole\. Make room"):
        make(tiny_bert, folder / "run", background).run(progress=False)
    left = list_checkpoints(folder / "run" / "checkpoints")
    assert left
    assert all(verify(path) is None for path in left)
    assert not list((folder / "run" / "checkpoints").glob(".writing-*"))
    enlarge()
    cut = make(tiny_bert, folder / "run", background)
    cut.run(progress=False)
    same_weights(cut, through)


def same_weights(*recipes):
    from safetensors.numpy import load_file

    ours, theirs = (load_file(r.run_directory.model / "model.safetensors") for r in recipes)
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def before_step(monkeypatch, number, do):
    """Have something happen in the run's folder before an optimizer step (from 1)."""
    step = Stepper.step

    def meddled(self, given):
        if given.number + 1 == number:
            do(self.recipe.run_directory.path)
        return step(self, given)

    monkeypatch.setattr(Stepper, "step", meddled)


def test_a_run_folder_that_vanishes_is_made_anew(tiny_bert, tmp_path, monkeypatch):
    from nlp_pipeline import Recipe

    through = make(tiny_bert, tmp_path / "through", background=False)
    through.run(progress=False)
    before_step(monkeypatch, 3, shutil.rmtree)
    taken = make(tiny_bert, tmp_path / "taken", background=False)
    assert taken.run(progress=False)["training"]["step"] == 4
    same_weights(taken, through)
    assert taken.run_directory.manifest.exists()
    assert Recipe.from_pretrained(tmp_path / "taken").predict(["the card"])


def test_a_run_folder_that_can_t_be_made_anew(tiny_bert, tmp_path, monkeypatch):
    """As when the disk that it lay on is taken away: a file in its place keeps root out too."""

    def take_away(folder):
        folder.rename(tmp_path / "away")
        while not folder.is_file():  # the save in the background may make the folder anew
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(IsADirectoryError):
                folder.write_text("in the way")

    before_step(monkeypatch, 3, take_away)
    with pytest.raises(StorageError, match=r"there is no earlier one\. Make room or mend the folder") as error:
        make(tiny_bert, tmp_path / "run", background=True).run(progress=False)
    assert error.value.exit_code == 4
    monkeypatch.undo()
    (tmp_path / "run").unlink()
    (tmp_path / "away").rename(tmp_path / "run")
    assert make(tiny_bert, tmp_path / "run", background=True).run(progress=False)["training"]["step"] == 4


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_turns_read_only(tiny_bert, tmp_path, monkeypatch, number):
    real = type(tmp_path).mkdir

    def refuse(self, *arguments, **named):
        if self.name == ".writing-step-000000003":
            raise OSError(number, os.strerror(number), str(self))
        return real(self, *arguments, **named)

    monkeypatch.setattr(type(tmp_path), "mkdir", refuse)
    with pytest.raises(StorageError, match=f"{os.strerror(number)}; step-000000002 is whole"):
        make(tiny_bert, tmp_path / "run", background=False).run(progress=False)
    monkeypatch.undo()
    assert make(tiny_bert, tmp_path / "run", background=False).run(progress=False)["training"]["step"] == 4


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC])
def test_the_command_line_says_so_wherever_it_happens(monkeypatch, capsys, number):
    from nlp_pipeline.exits import resume_hint

    with pytest.raises(SystemExit) as left, resume_hint():
        raise OSError(number, os.strerror(number), "runs/x/results.json")
    assert left.value.code == 4
    said = capsys.readouterr().err
    assert f"runs/x/results.json can't be written: {os.strerror(number)}" in said
    assert "Go on with the same command" in said


def test_a_damaged_best_checkpoint_leaves_the_last_weights(tiny_bert, tmp_path, monkeypatch):
    """The best one need not be the newest, and a run that goes on doesn't read it before its end."""

    def damage(folder):
        file = folder / "checkpoints" / name_of(1) / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)

    scores = iter([0.9, 0.1, 0.1, 0.1])
    monkeypatch.setattr(
        "nlp_pipeline.stages.fitting.validation_scores", lambda *which: {"accuracy": next(scores), "loss": 1.0}
    )
    before_step(monkeypatch, 4, damage)
    recipe = make(tiny_bert, tmp_path / "run", background=False, validation=ROWS, evaluation={"every": 1})
    recipe.run(progress=False)
    model = load_file(recipe.run_directory.model / "model.safetensors")
    last = load_file(recipe.run_directory.checkpoints / name_of(4) / "model.safetensors")
    assert all(torch.equal(model[name], tensor) for name, tensor in last.items())
    assert recipe.results["training"]["best_step"] is None


def test_an_error_of_the_data_worker_ends_the_run(tiny_bert, tmp_path, monkeypatch):
    from nlp_pipeline.training.inputs import InputMaker

    call = InputMaker.__call__

    def failing(self, numbered):
        if numbered[0] == 2:
            raise MemoryError("the worker's own")
        return call(self, numbered)

    monkeypatch.setattr(InputMaker, "__call__", failing)
    with pytest.raises(MemoryError, match="the worker's own"):
        make(tiny_bert, tmp_path / "run", background=True).run(progress=False)
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == name_of(2)
    monkeypatch.undo()
    assert make(tiny_bert, tmp_path / "run", background=True).run(progress=False)["training"]["step"] == 4


@pytest.mark.parametrize("background", [False, True])
def test_no_error_of_a_save_goes_unseen(tmp_path, monkeypatch, background):
    """A thread's error would only be printed, and the run would go on without checkpoints."""

    def broken(folder, snapshot, peers):
        raise ZeroDivisionError("not the disk")

    monkeypatch.setattr("nlp_pipeline.training.writer.write_snapshot", broken)
    model = torch.nn.Linear(2, 2)
    model.base_model_prefix = "base"
    optimizer = make_optimizer(model, TrainingConfig())
    with pytest.raises(ZeroDivisionError), CheckpointWriter(tmp_path, keep=1, background=background) as writer:
        writer.save(model, optimizer, TrainState(step=1), {})


def test_a_save_that_fails_while_the_run_ends_is_said_with_what_ended_it(tmp_path, monkeypatch):
    def broken(folder, snapshot, peers):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("nlp_pipeline.training.writer.write_snapshot", broken)
    model = torch.nn.Linear(2, 2)
    model.base_model_prefix = "base"
    optimizer = make_optimizer(model, TrainingConfig())

    def train():
        with CheckpointWriter(tmp_path, keep=1, background=True) as writer:
            writer.save(model, optimizer, TrainState(step=1), {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as error:
        train()
    assert "besides: the checkpoint of step 1 could not be written" in error.value.__notes__[0]


def test_what_a_killed_save_left_is_removed_at_the_next_start(tiny_bert, tmp_path):
    recipe = make(tiny_bert, tmp_path / "run", background=False)
    left = recipe.run_directory.checkpoints / ".writing-step-000000003"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half of it")
    recipe.run(progress=False)
    assert not left.exists()
