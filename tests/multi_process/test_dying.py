"""A process that dies ends the others at once, says why, and the same command goes on."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from multi_process.launching import REPOSITORY, command, launch
from safetensors.numpy import load_file

pytestmark = pytest.mark.multi_process
FAULTY = Path(__file__).parent / "faulty.py"
TRAIN = REPOSITORY / "scripts" / "train.py"


@pytest.fixture
def recipe(tmp_path, tiny_bert):
    rows = [{"text": "the card is late " * (1 + i % 4), "label": "ab"[i % 2]} for i in range(21)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    still = {"name": tiny_bert, "settings": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}
    settings = {
        "task": "text-classification",
        "model": still,
        "data": {"train": str(tmp_path / "rows.jsonl")},
        "batch": {"size": 4},
        "training": {"max_steps": 12, "learning_rate": 1e-3, "precision": "fp32", "log_every": 1},
        "checkpoint": {"every": 2, "keep": 2},
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "x.yaml"


def weights(out):
    return load_file(out / "model" / "model.safetensors")


def close(ours, theirs):
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("kill", "process 0: another process has ended or does not answer"),
        ("raise", "In process 1:\nTraceback"),
        ("memory", "error in process 1: step 5 does not fit into memory"),
    ],
)
def test_a_process_that_dies_ends_the_other_and_the_run_goes_on(recipe, tmp_path, fault, said):
    # The time limit is far below torch's own of half an hour: nobody waits for the dead.
    dead = launch(FAULTY, 2, 1, 5, fault, recipe, f"output.dir={tmp_path / 'run'}", timeout=120)
    assert dead.returncode != 0
    assert said in dead.stderr
    assert "Go on with the same command: accelerate launch" in dead.stderr
    assert ("a fault of the test's own" in dead.stderr) == (fault == "raise")
    assert ("lower tokenization.max_length" in dead.stderr) == (fault == "memory")  # a single row is still too much
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step-000000002", "step-000000004"]


def test_another_number_of_processes_goes_on_and_back(recipe, tmp_path):
    """Steps 1 to 4 by two processes, 5 to 8 by one, the rest by three: the weights of one process left alone."""
    whole = launch(TRAIN, 1, recipe, f"output.dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    out = f"output.dir={tmp_path / 'run'}"
    for processes, step in ((2, 5), (1, 9)):
        dead = launch(FAULTY, processes, 0, step, "kill", recipe, out)
        assert dead.returncode != 0
    last = launch(TRAIN, 3, recipe, out)
    assert last.returncode == 0, last.stderr
    assert "going on from step-000000008" in last.stdout
    close(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_process_that_finds_another_checkpoint_stops_all_before_they_train(recipe, tmp_path):
    """Its optimizer and its place in the data would be others than the main process's."""
    out = f"output.dir={tmp_path / 'run'}"
    first = launch(TRAIN, 1, recipe, out, "training.max_steps=4")
    assert first.returncode == 0, first.stderr
    apart = launch(FAULTY, 2, 1, 0, "disk", recipe, out, timeout=120)
    assert apart.returncode != 0
    assert "process 0: step-000000004, process 1: none" in apart.stderr
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step-000000002", "step-000000004"]


def test_machines_without_a_shared_disk_stop_before_training(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    apart = launch(FAULTY, 2, 1, 0, "machine", recipe, "output.dir=run", timeout=120)
    assert apart.returncode != 0
    assert "what process 0 writes to run is not seen by process 1" in apart.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_batches_smaller_than_the_number_of_processes_never_hang(recipe, tmp_path):
    """Two rows a batch, of passes of one row: of three processes one never has any, another none in the last batch."""
    found = {}
    for processes in (1, 3):
        out = tmp_path / str(processes)
        answer = launch(TRAIN, processes, recipe, f"output.dir={out}", "batch.size=2", "batch.micro=1", timeout=120)
        assert answer.returncode == 0, answer.stderr
        found[processes] = weights(out)
    close(found[3], found[1])


def test_the_launcher_killed_or_stopped_leaves_a_run_that_goes_on(recipe, tmp_path):
    """SIGTERM to the launcher, as a scheduler sends it: every process stops at one step, with everything saved."""
    out = tmp_path / "run"
    words = [recipe, f"output.dir={out}", "training.max_steps=4000", "checkpoint.every=4000"]
    process = subprocess.Popen(
        command(TRAIN, 2, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "everything is saved" in output
    saved = max((out / "checkpoints").glob("step-*"))
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert saved.name == f"step-{max(steps):09d}"
