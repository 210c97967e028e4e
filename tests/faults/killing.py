"""Starting a small training run in processes of its own, and killing it at random moments until it is done."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from multi_process.launching import REPOSITORY, command
from safetensors.numpy import load_file


def write_recipe(folder, model):
    """60 steps with dropout, accumulation and a compact vocabulary, a checkpoint every second one."""
    rows = [{"text": f"the card {i} is late " * (1 + i % 4), "label": "abc"[i % 3]} for i in range(48)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "task": "text-classification",
        "model": model,
        "data": {"train": str(folder / "rows.jsonl"), "validation": str(folder / "rows.jsonl")},
        "batch": {"size": 8, "micro": 3},
        "training": {
            "max_steps": 60,
            "learning_rate": 1e-3,
            "weight_decay": 0.1,
            "compact_vocabulary": True,
            "precision": "fp32",
            "log_every": 5,
        },
        "evaluation": {"every": 20},
        "checkpoint": {"every": 2, "keep": 2},
    }
    (folder / "x.yaml").write_text(json.dumps(settings))
    return folder / "x.yaml"


def start(recipe, out, *overrides, processes=1, fsdp=False):
    words = [str(recipe), f"output.dir={out}", *overrides, "--quiet"]
    if processes > 1:
        whole = command(REPOSITORY / "scripts" / "train.py", processes, *words, fsdp=fsdp)
    else:
        whole = [sys.executable, "-m", "nlp_pipeline.cli", "train", *words]
    return subprocess.Popen(
        whole, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )  # fmt: skip


def kill(process):
    """SIGKILL to a process and to all that it started: a launcher's workers have sessions of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for started in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                started.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.poll() is None or not process.stdout.closed:
        process.communicate()


def weights(out):
    return load_file(Path(out) / "model" / "model.safetensors")


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all((ours[name] == theirs[name]).all() for name in theirs)


def flip_a_byte(path, chance):
    """Damage one file of a checkpoint."""
    file = chance.choice(sorted(path.iterdir()))
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def killed_until_done(recipe, out, kills, chance, *overrides, processes=1, unkind=False, fsdp=False):
    """Rerun and kill; returns (kills made, kills that fell into a save).

    `unkind`: now and then SIGTERM in place of SIGKILL, now and then a byte of the newest checkpoint flips.
    """
    made = saving = 0
    while made < kills:
        process = start(recipe, out, *overrides, processes=processes, fsdp=fsdp)
        folder = Path(out) / "checkpoints"
        before = newest(folder)
        # Wait for training to move, then a random while, or for a save to be under way.
        deadline = time.monotonic() + 240
        while newest(folder) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        if chance.random() < 0.4:
            while process.poll() is None and not list(folder.glob(".writing-*")) and time.monotonic() < deadline:
                pass
        else:
            time.sleep(chance.random() * 0.12)
        if process.poll() is not None:
            output, _ = process.communicate()
            assert process.returncode == 0, output
            break
        saving += bool(list(folder.glob(".writing-*")))
        if unkind and processes == 1 and chance.random() < 0.2:
            process.terminate()
            process.communicate(timeout=300)
        kill(process)
        made += 1
        if unkind and newest(folder) and chance.random() < 0.2:
            flip_a_byte(folder / newest(folder), chance)
    process = start(recipe, out, *overrides, processes=processes, fsdp=fsdp)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return made, saving


def newest(folder):
    return max((path.name for path in folder.glob("step-*")), default="")
