"""Runs that are killed at any moment: the same command, again and again, gives the weights of the run left alone.

There is one data worker, a thread, not two: training waits for it a thousandth of the time (training/inputs.py).
"""

import json
import os
import random
import signal
import time

import pytest
from faults.killing import killed_until_done, newest, same, start, weights, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, tiny_bert):
    return write_recipe(tmp_path_factory.mktemp("kill"), tiny_bert)


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


@pytest.mark.multi_process
@pytest.mark.parametrize("background", [False, True])
def test_two_killed_processes_that_share_a_model_too(recipe, tmp_path, background):
    option = f"checkpoint.background={str(background).lower()}"
    through = start(recipe, tmp_path / "through", option, processes=2, fsdp=True)
    output, _ = through.communicate(timeout=300)
    assert through.returncode == 0, output
    chance = random.Random(7 + background)
    total = number = 0
    while total < 3:
        number += 1
        out = tmp_path / f"cut{number}"
        total += killed_until_done(recipe, out, 3 - total, chance, option, processes=2, fsdp=True)[0]
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
