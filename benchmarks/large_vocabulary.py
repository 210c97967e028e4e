#!/usr/bin/env python
"""What does the size of the vocabulary cost? A BERT of 12 layers, 384 wide, random weights, beside the stock Trainer.

For each of --vocabularies builds the model and a word-level tokenizer, trains on the same texts with `nlp-pipeline
train` and with hf_trainer.py's `tuned` variant, in turn, and prints rows/s and peak memory of each.

  python benchmarks/large_vocabulary.py --data DATA/banking77 --peers PEERS --vocabularies 30000 120000 250000
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from common.runs import train_ours, train_stock, write_recipe
from common.synthetic import save_model

OURS, STOCK = "nlp-pipeline", "stock Trainer, tuned"


def make_model(folder: Path, vocabulary: int, texts: list[str]) -> Path:
    from transformers import BertConfig

    words = sorted({word for text in texts for word in text.lower().replace("?", " ?").split()})
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=384, num_hidden_layers=12, num_attention_heads=12, intermediate_size=1536
    )
    return save_model(folder, config, words)


def print_table(found: dict[tuple[int, str], list[dict[str, Any]]]) -> None:
    print("\n| vocabulary | who | rows/s (median) | peak MiB (median) | ours: speed | ours: memory |")
    print("|---|---|---|---|---|---|")
    median = {
        key: [statistics.median(run[figure] for run in runs) for figure in ("rows_per_s", "mib")]
        for key, runs in found.items()
    }
    for (size, who), (speed, mib) in median.items():
        our_speed, our_mib = median[size, OURS]
        print(f"| {size:,} | {who} | {speed:.1f} | {mib:,.0f} | {our_speed / speed:.2f} | {our_mib / mib:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--peers", type=Path, required=True, help="folder with hf_trainer.py")
    parser.add_argument("--vocabularies", nargs="+", type=int, default=[30_000, 120_000, 250_000])
    parser.add_argument("--rows", type=int, default=1_600)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train, test = folder / "train.jsonl", folder / "test.jsonl"
        lines = (args.data / "train.jsonl").read_text().splitlines()
        # Every label in what is trained on; the test rows only have to be there.
        step = max(1, len(lines) // args.rows)
        train.write_text("\n".join(lines[::step]) + "\n")
        test.write_text("\n".join(lines[:: step * 10]) + "\n")
        texts = [json.loads(line)["text"] for line in lines]
        models = {size: make_model(folder / str(size), size, texts) for size in args.vocabularies}
        for _ in range(args.rounds):
            for size, model in models.items():
                recipe = write_recipe(folder / "x.yaml", str(model), train, test, tokenization={"max_length": 128})
                for who in (STOCK, OURS):
                    if who == OURS:
                        figures = train_ours(recipe, [])
                    else:
                        figures = train_stock(args.peers, "tuned", str(model), train, test, [])
                    found.setdefault((size, who), []).append(figures)
                    print(json.dumps({"vocabulary": size, "who": who, **figures}), flush=True)
    print_table(found)


if __name__ == "__main__":
    main()
