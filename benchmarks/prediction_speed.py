#!/usr/bin/env python
"""How fast do we predict beside transformers' own pipeline? One fine-tuned model, Banking77's test rows, batch 32.

Each side in a process of its own, in turn, --rounds times; loading is not counted on either side. Compares labels:
ours in its default form (bfloat16 where the device has it) with the pipeline's float32.

  python benchmarks/prediction_speed.py --run runs/banking77 --rows DATA/banking77/test.jsonl --peers PEERS
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def ours(run: Path, rows: Path, size: int) -> None:
    """In a process of its own: predict, print rows per second and the labels."""
    from nlp_pipeline import Recipe

    recipe = Recipe.from_pretrained(run)
    recipe.config = recipe.config.model_copy(
        update={"batch": recipe.config.batch.model_copy(update={"evaluation": size})}
    )
    texts = [json.loads(line)["text"] for line in rows.read_text().splitlines()]
    recipe.predict(texts[:size])
    began = time.perf_counter()
    answers = recipe.predict(texts)
    seconds = time.perf_counter() - began
    print(json.dumps({"rows_per_s": len(texts) / seconds, "labels": [answer["prediction"] for answer in answers]}))


def labels_of_pipeline(model: Path, rows: Path, size: int) -> list[str]:
    from transformers import pipeline

    texts = [json.loads(line)["text"] for line in rows.read_text().splitlines()]
    classify = pipeline("text-classification", model=str(model))
    return [answer["label"] for answer in classify(texts, batch_size=size, truncation=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run directory")
    parser.add_argument("--rows", type=Path, required=True, help="JSON Lines with a column text")
    parser.add_argument("--peers", type=Path, help="folder with hf_pipeline.py")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        return ours(args.run, args.rows, args.batch_size)
    speeds: dict[str, list[float]] = {"nlp-pipeline": [], "transformers.pipeline": []}
    labels: list[str] = []
    for _ in range(args.rounds):
        command = [sys.executable, __file__, "--ours", "--run", str(args.run), "--rows", str(args.rows)]
        answer = subprocess.run(
            [*command, "--batch-size", str(args.batch_size)], check=True, capture_output=True, text=True
        )
        line = json.loads(answer.stdout.strip().splitlines()[-1])
        speeds["nlp-pipeline"].append(line["rows_per_s"])
        labels = line["labels"]
        peer = [sys.executable, str(args.peers / "hf_pipeline.py"), "--model", str(args.run / "model")]
        answer = subprocess.run([*peer, "--rows", str(args.rows), "--batch-size", str(args.batch_size)], check=True,
                                capture_output=True, text=True)  # fmt: skip
        speeds["transformers.pipeline"].append(json.loads(answer.stdout.strip().splitlines()[-1])["rows_per_s"])
    theirs = labels_of_pipeline(args.run / "model", args.rows, args.batch_size)
    other = sum(a != b for a, b in zip(labels, theirs, strict=True))
    print("| who | rows/s (median) | each |\n|---|---|---|")
    for who, each in speeds.items():
        print(f"| {who} | {statistics.median(each):.1f} | {', '.join(f'{speed:.1f}' for speed in each)} |")
    ratio = statistics.median(speeds["nlp-pipeline"]) / statistics.median(speeds["transformers.pipeline"])
    print(f"\nratio {ratio:.2f}; {other} of {len(theirs):,} labels differ")
    return None


if __name__ == "__main__":
    main()
