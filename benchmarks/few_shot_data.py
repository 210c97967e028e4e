#!/usr/bin/env python
"""A few training rows of each label of Banking77, and all its test rows, for few-shot classification.

Writes train.jsonl (so many rows a label), validation.jsonl (ten further ones a label, for the choice of settings only)
and test.jsonl to OUT/banking77_8_SEED. Which rows they are depends on the seed alone.

  python benchmarks/few_shot_data.py --data DATA --out OUT --seeds 1 2 3
"""

import argparse
import json
import random
import shutil
from collections import defaultdict
from pathlib import Path


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def few(rows: list[dict], count: int, seed: int) -> tuple[list[dict], list[dict]]:
    """`count` rows a label, and ten others."""
    by_label = defaultdict(list)
    for row in rows:
        by_label[row["label"]].append(row)
    draw, chosen, others = random.Random(seed), [], []
    for label in sorted(by_label):
        drawn = draw.sample(by_label[label], min(count + 10, len(by_label[label])))
        chosen += drawn[:count]
        others += drawn[count:]
    return chosen, others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds banking77/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=8, help="training rows a label")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    args = parser.parse_args()
    source = args.data / "banking77"
    rows = [json.loads(line) for line in (source / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    for seed in args.seeds:
        folder = args.out / f"banking77_{args.rows}_{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        train, others = few(rows, args.rows, seed)
        write(folder / "train.jsonl", train)
        write(folder / "validation.jsonl", others)
        shutil.copyfile(source / "test.jsonl", folder / "test.jsonl")
        print(f"{folder}: {len(train)} training rows")


if __name__ == "__main__":
    main()
