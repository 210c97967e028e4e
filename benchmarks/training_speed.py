#!/usr/bin/env python
"""How fast do we train beside the stock Trainer? The same rows, batch size and epochs.

By default Banking77 with MiniLM: the stock Trainer as its example script has it, with dynamic padding, and tuned
(--peers names the folder with hf_trainer.py), and nlp-pipeline. With --shapes, models of random weights on texts drawn
around each of --lengths tokens: encoders and a causal model with a classification head, in full size on CUDA, where
the compiled variants run too, and cut down to 6 layers of 384 on a CPU. `share` is the part of the machine's measured
rate of large matrix products that the products over real tokens make up; compilation counts as training time.

Everything runs in turn, --rounds times, so that a machine that slows down slows all alike. Prints a table of medians
and the ratios; appends a JSON line a run to --results.

  python benchmarks/training_speed.py --data DATA/banking77 --peers PEERS --rounds 3
  python benchmarks/training_speed.py --peers PEERS --shapes bert-base modernbert-base qwen3-0.6b --lengths 32 128 512
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.runs import RECIPES, machine, minilm, train_ours, train_stock, write_recipe
from common.synthetic import (
    COMMON_WORDS,
    SHAPES,
    config_of,
    lengths_around,
    save_model,
    training_flops,
    word,
    write_texts,
)

SLOW = ("dynamic", "example")
OURS = "nlp-pipeline"
VARIANTS = ("tuned", "tuned+compile", *SLOW, OURS, f"{OURS}+compile")


@dataclass
class Case:
    """One model on one set of rows, for all variants."""

    name: str
    model: str
    recipe: Path
    train: Path
    test: Path
    rows: int
    max_length: int
    flops_per_row: float | None = None

    def run(self, variant: str, args: argparse.Namespace) -> dict[str, Any]:
        rows = min(self.rows, args.slow_rows) if variant in SLOW else self.rows
        if variant.startswith(OURS):
            settings = [f"data.train={self.train}", f"data.test={self.test}", f"data.max_train_rows={rows}",
                        f"training.epochs={args.epochs}", f"training.seed={args.seed}",
                        f"batch.size={args.batch_size}", f"tokenization.max_length={self.max_length}"]  # fmt: skip
            compiled = ["training.compile=true"] if "+" in variant else []
            return {"rows": rows, **train_ours(self.recipe, [*settings, *compiled, *args.set])}
        options = ["--epochs", args.epochs, "--seed", args.seed, "--max-train-rows", rows,
                   "--batch-size", args.batch_size, "--max-length", self.max_length]  # fmt: skip
        return {"rows": rows, **train_stock(args.peers, variant, self.model, self.train, self.test, options)}


def cases(args: argparse.Namespace, folder: Path, cuda: bool) -> Iterator[Case]:
    """Banking77, or each shape with each mean length; the models and texts are made in `folder`."""
    if not args.shapes:
        train, test = args.data / "train.jsonl", args.data / "test.jsonl"
        recipe = RECIPES / "text-classification" / "banking77.yaml"
        yield Case("MiniLM, Banking77", minilm(), recipe, train, test, args.rows, 128)
        return
    tokens = args.tokens or (2_000_000 if cuda else 100_000)
    for shape in args.shapes:
        config = config_of(shape, small=not cuda)
        model = save_model(folder / shape, config, map(word, range(COMMON_WORDS)))
        for mean in args.lengths:
            lengths = lengths_around(mean, tokens // mean)
            train = write_texts(folder / f"train-{mean}.jsonl", lengths)
            test = write_texts(folder / f"test-{mean}.jsonl", lengths_around(mean, 32, seed=1), seed=1)
            recipe = write_recipe(folder / f"{shape}-{mean}.yaml", str(model), train, test)
            size = "" if cuda else ", 6 layers of 384"
            flops = training_flops(config, lengths) / len(lengths)
            name = f"{shape}{size}; {lengths.mean():.0f} tokens"
            yield Case(name, str(model), recipe, train, test, len(lengths), 2 * mean, flops)


def print_table(found: dict[tuple[str, str], list[dict[str, Any]]], flops: dict[str, Any], rate: float) -> None:
    print("\n| model and rows | variant | rows/s (median) | each | accuracy | peak MiB | ours / it | share |")
    print("|---|---|---|---|---|---|---|---|")
    speed = {key: statistics.median(run["rows_per_s"] for run in runs) for key, runs in found.items()}
    for (case, variant), runs in found.items():
        each = ", ".join(f"{run['rows_per_s']:.1f}" for run in runs)
        own = speed[case, variant]
        ours = speed.get((case, OURS))
        ratio = f"{ours / own:.2f}" if ours else "–"
        share = f"{flops[case] * own / rate:.0%}" if flops[case] else "–"
        accuracy = statistics.mean(run["scores"]["accuracy"] for run in runs)
        mib = statistics.median(run["mib"] for run in runs)
        print(f"| {case} | {variant} | {own:.1f} | {each} | {accuracy:.4f} | {mib:,.0f} | {ratio} | {share} |")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train.jsonl and test.jsonl of Banking77")
    parser.add_argument("--peers", type=Path, required=True, help="folder with hf_trainer.py")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, help="random weights of these shapes, not Banking77")
    parser.add_argument("--lengths", nargs="+", type=int, default=[32, 128, 512], help="mean tokens, with --shapes")
    parser.add_argument("--tokens", type=int, help="of a set of rows, with --shapes: 2,000,000 on CUDA, else 100,000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rows", type=int, default=10_003, help="of Banking77")
    parser.add_argument("--slow-rows", type=int, default=1_600, help="rows for the two slow variants of the Trainer")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--seeds", nargs="+", type=int, help="a round with each of these instead: to compare accuracy")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="default: what the device and the rows ask for")
    parser.add_argument("--set", nargs="*", default=[], help="more settings of ours, key.sub=value")
    parser.add_argument("--results", type=Path, default=Path("runs/training_speed.jsonl"))
    args = parser.parse_args()
    if not args.shapes and args.data is None:
        parser.error("give --data, or --shapes")
    return args


def chosen_variants(args: argparse.Namespace, cuda: bool) -> list[str]:
    """The variants to run; says what a machine without CUDA leaves out."""
    if args.variants:
        return list(args.variants)
    if not args.shapes:
        return ["tuned", *SLOW, OURS]
    if cuda:
        return ["tuned", "tuned+compile", OURS, f"{OURS}+compile"]
    print("no CUDA device. Skipped: the full sizes (6 layers of 384 instead), the compiled variants", flush=True)
    return ["tuned", OURS]


def main() -> None:
    args = parse_args()
    args.results.parent.mkdir(parents=True, exist_ok=True)
    device = machine()
    print(f"{device['device']}: {device['flops'] / 1e12:.2f} TFLOP/s in large {device['dtype']} products", flush=True)
    variants = chosen_variants(args, device["cuda"])
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        everything = list(cases(args, Path(folder), device["cuda"]))
        for seed in args.seeds or [args.seed] * args.rounds:
            args.seed = seed
            for case in everything:
                for variant in variants:
                    figures = case.run(variant, args)
                    found.setdefault((case.name, variant), []).append(figures)
                    entry = {"case": case.name, "variant": variant, "seed": seed, "epochs": args.epochs, **figures}
                    print(json.dumps(entry), flush=True)
                    with open(args.results, "a") as file:
                        file.write(json.dumps(entry) + "\n")
    print_table(found, {case.name: case.flops_per_row for case in everything}, device["flops"])


if __name__ == "__main__":
    sys.exit(main())
