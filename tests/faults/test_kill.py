"""Runs that are killed at any moment: the same command, again and again, gives the weights of the run left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, tiny_bert):
    """60 steps with dropout and accumulation, a checkpoint every second one."""
    folder = tmp_path_factory.mktemp("kill")
    rows = [{"text": f"the card {i} is late " * (1 + i % 4), "label": "abc"[i % 3]} for i in range(48)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "task": "text-classification",
        "model": tiny_bert,
        "data": {"train": str(folder / "rows.jsonl"), "validation": str(folder / "rows.jsonl")},
        "batch": {"size": 8, "micro": 3},
        "training": {"max_steps": 60, "learning_rate": 1e-3, "precision": "fp32", "log_every": 5},
        "evaluation": {"every": 20},
        "checkpoint": {"every": 2, "keep": 2},
    }
    (folder / "x.yaml").write_text(json.dumps(settings))
    return folder / "x.yaml"


def start(recipe, out, *overrides, processes=1):
    command = [sys.executable, "-m", "nlp_pipeline.cli"]
    if processes > 1:
        config = REPOSITORY / "accelerate_configs" / "cpu_2_processes.yaml"
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config),
                   str(REPOSITORY / "scripts" / "train.py")]  # fmt: skip
    words = ["train", str(recipe), f"output.dir={out}", *overrides]
    if processes > 1:
        words = words[1:]
    return subprocess.Popen(
        [*command, *words, "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def weights(out):
    return load_file(Path(out) / "model" / "model.safetensors")


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all((ours[name] == theirs[name]).all() for name in theirs)


def killed_until_done(recipe, out, kills, chance, *overrides, processes=1):
    """Rerun and kill; returns (kills made, kills that fell into a save)."""
    made = saving = 0
    while made < kills:
        process = start(recipe, out, *overrides, processes=processes)
        folder = Path(out) / "checkpoints"
        before = newest(folder)
        # Wait for training to move, then a random while, or for a save to be under way.
        deadline = time.monotonic() + 120
        while newest(folder) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        if chance.random() < 0.4:
            while process.poll() is None and not list(folder.glob(".writing-*")):
                pass
        else:
            time.sleep(chance.random() * 0.12)
        if process.poll() is not None:
            output, _ = process.communicate()
            assert process.returncode == 0, output
            break
        saving += bool(list(folder.glob(".writing-*")))
        kill(process)
        made += 1
    process = start(recipe, out, *overrides, processes=processes)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return made, saving


def newest(folder):
    return max((path.name for path in folder.glob("step-*")), default="")


@pytest.mark.parametrize("background", [False, True])
def test_killed_runs_end_with_the_weights_of_one_left_alone(recipe, tmp_path, background):
    option = f"checkpoint.background={str(background).lower()}"
    through = start(recipe, tmp_path / "through", option)
    output, _ = through.communicate(timeout=300)
    assert through.returncode == 0, output
    chance = random.Random(background)
    total = inside = 0
    number = 0
    while total < 15:
        number += 1
        out = tmp_path / f"cut{number}"
        made, saving = killed_until_done(recipe, out, min(6, 15 - total), chance, option)
        total, inside = total + made, inside + saving
        assert same(weights(out), weights(tmp_path / "through"))
        steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()
                 if "loss" in json.loads(line)]  # fmt: skip
        assert steps == list(range(1, 61))
    assert inside >= 2


@pytest.mark.multi_process
def test_two_killed_processes_too(recipe, tmp_path):
    through = start(recipe, tmp_path / "through", processes=2)
    output, _ = through.communicate(timeout=300)
    assert through.returncode == 0, output
    chance = random.Random(5)
    total = number = 0
    while total < 10:
        number += 1
        out = tmp_path / f"cut{number}"
        total += killed_until_done(recipe, out, min(4, 10 - total), chance, processes=2)[0]
        assert same(weights(out), weights(tmp_path / "through"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves_with_its_code(recipe, tmp_path, number):
    out = tmp_path / "run"
    process = start(recipe, out, "checkpoint.every=1000", "evaluation.every=1000", "training.max_steps=4000")
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number, output
    assert "everything is saved" in output
    assert "Go on with the same command" in output
    assert newest(out / "checkpoints") > "step-000000000"
    assert "Traceback" not in output
