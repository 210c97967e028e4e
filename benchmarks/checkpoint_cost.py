#!/usr/bin/env python
"""What does saving every 100 steps cost? Banking77 with MiniLM: never, in the background, and with training halted.

Runs in turn, --rounds times, so that a machine that slows down slows all alike. Saves are made --every 20 steps, so
that what they add stands out of the noise. Prints the median time of training and what one save is of 100 steps, which
is what saving every 100 steps costs; the goal is under 3 % with background saving.

  python benchmarks/checkpoint_cost.py --data DATA/banking77
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
VARIANTS = {
    "never": [],
    "background": ["checkpoint.background=true"],
    "halted": ["checkpoint.background=false"],
}


def seconds(args: argparse.Namespace, variant: str) -> float:
    """Training time up to the last step's end: all saves but the one at the very end are in it."""
    with tempfile.TemporaryDirectory(dir=args.folder) as out:
        command = [sys.executable, "-m", "nlp_pipeline.cli", "train", str(RECIPE), "--quiet", f"output.dir={out}/run"]
        files = [f"data.train={args.data / 'train.jsonl'}", f"data.test={args.data / 'test.jsonl'}"]
        options = [f"training.max_steps={args.every * (args.saves + 1)}", "evaluation.every=1000000"]
        options += [f"checkpoint.every={args.every}"] if VARIANTS[variant] else []
        subprocess.run([*command, *files, *options, *VARIANTS[variant], *args.set], check=True)
        results = json.loads((Path(out) / "run" / "results.json").read_text())
    return float(results["training"]["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--saves", type=int, default=14)
    parser.add_argument("--every", type=int, default=20, help="steps")
    parser.add_argument("--folder", type=Path, help="where the runs are written, for the disk that is meant")
    parser.add_argument("--set", nargs="*", default=[], help="more settings, key.sub=value")
    args = parser.parse_args()
    found: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(args.rounds):
        order = list(VARIANTS) if number % 2 == 0 else list(VARIANTS)[::-1]
        for variant in order:
            found[variant].append(seconds(args, variant))
            print(json.dumps({"variant": variant, "seconds": found[variant][-1]}), flush=True)
    medians = {variant: statistics.median(times) for variant, times in found.items()}
    hundred = 100 * medians["never"] / (args.every * (args.saves + 1))
    print(f"\n| saving | seconds (median of {args.rounds}) | each | one save, and its share of 100 steps |")
    print("|---|---|---|---|")
    for variant, times in found.items():
        added = (medians[variant] - medians["never"]) / args.saves
        each = ", ".join(f"{time:.1f}" for time in times)
        print(f"| {variant} | {medians[variant]:.1f} | {each} | {added:.2f} s, {added / hundred:.1%} |")


if __name__ == "__main__":
    main()
