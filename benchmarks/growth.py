#!/usr/bin/env python
"""Do time and memory stay in proportion as rows grow? Time must be linear, memory flat but for a few bytes a row.

A tiny random model, so that reading, tokenizing and writing count for more than the model does. Each size runs in a
process of its own, which reports its own peak resident memory.

- predict: a CSV file to a JSON Lines file, `batch.window` rows at a time;
- evaluate: scores of a labelled CSV file with --labels labels; log loss among the metrics, and with --all-scores the
  area under the ROC curve, for which every score is kept (in a file);
- start: from a CSV file to the first optimizer step: load, check, tokenize into an empty cache, five steps.

  python benchmarks/growth.py          # 10,000 and 100,000 rows
  python benchmarks/growth.py --full   # 1,000,000 as well
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

WORDS = (
    "the a my card account transfer is was late lost not please help when where why arrived money again today".split()
)


def make_model(folder: Path) -> Path:
    """A BERT with one layer of 32 features and a word-level vocabulary."""
    from transformers import BertConfig, BertModel, BertTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"0123456789", *(f"##{i}" for i in range(10))]
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokens), **sizes)).save_pretrained(folder)
    BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, model_max_length=128).save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: int, labels: int) -> Path:
    """Rows of 6 to 25 words, the first of each label first."""
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for i in range(rows):
            words = " ".join(WORDS[(i * 7 + j * (1 + i % 5)) % len(WORDS)] for j in range(6 + i * 13 % 20))
            file.write(f"{words} {i},label {i % labels}\n")
    return path


def train(folder: Path, rows: Path, **settings: Any) -> Any:
    """A recipe of a few steps on these rows."""
    from nlp_pipeline import TextClassification

    return TextClassification(
        model=str(folder / "model"), train=str(rows), max_steps=5, max_length=64, dir=str(folder / rows.stem),
        cache_dir=str(folder / "cache"), **settings,
    )  # fmt: skip


def work(what: str, folder: Path, rows: Path) -> None:
    """In a process of its own: do one thing, print its seconds and the process's peak memory."""
    from nlp_pipeline import Recipe
    from nlp_pipeline.run_directory import lines_file
    from nlp_pipeline.stages.predicting import loaded_model
    from nlp_pipeline.stages.scoring import evaluate_source, peak_memory_mib

    if what == "start":
        began = time.perf_counter()
        recipe = train(folder, rows)
        recipe.load()
        recipe.tokenize()
        recipe.fit()
    else:
        recipe = Recipe.from_pretrained(folder / "few")
        loaded_model(recipe)
        began = time.perf_counter()
        if what == "predict":
            with lines_file(folder / "predictions.jsonl") as write:
                for records in recipe.predict_windows(rows):
                    write(records)
        else:
            evaluate_source(recipe, str(rows), progress=False)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "mib": peak_memory_mib()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="1,000,000 rows as well")
    parser.add_argument("--rows", type=int, nargs="+", help="other sizes, ascending")
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--all-scores", action="store_true", help="measure roc_auc too")
    parser.add_argument("--what", nargs="+", choices=("predict", "evaluate", "start"), help="by default all")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(args.work[0], Path(args.work[1]), Path(args.work[2]))
    sizes = args.rows or [10_000, 100_000, *([1_000_000] if args.full else [])]
    metrics = ["accuracy", "f1_macro", "log_loss", *(["roc_auc"] if args.all_scores else [])]
    print("| what | rows | seconds | rows/s | times the last size's seconds | peak MiB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model")
        few = write_rows(folder / "few.csv", 2 * args.labels, args.labels)
        train(folder, few, metrics=metrics).run(progress=False)
        files = {rows: write_rows(folder / f"rows-{rows}.csv", rows, args.labels) for rows in sizes}
        for what in args.what or ("predict", "evaluate", "start"):
            found = {}
            for rows, file in files.items():
                command = [sys.executable, __file__, "--work", what, str(folder), str(file)]
                answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found[rows] = json.loads(answer.stdout.strip().splitlines()[-1])
            growth = {b: found[b]["seconds"] / found[a]["seconds"] for a, b in pairwise(found)}
            for rows, one in found.items():
                times = f"{growth[rows]:.1f}" if rows in growth else ""
                speed = rows / one["seconds"]
                print(
                    f"| {what} | {rows:,} | {one['seconds']:.1f} | {speed:,.0f} | {times} | {one['mib']:,.0f} |",
                    flush=True,
                )
    return None


if __name__ == "__main__":
    main()
