#!/usr/bin/env python
"""What does a vocabulary of 250,000 cost? A BERT of 12 layers, 384 wide, random weights, ours beside the stock Trainer.

Builds the model and a word-level tokenizer, then trains on the same texts with `nlp-pipeline train` and with
hf_trainer.py's `tuned` variant, and prints rows/s and peak memory of each.

  python benchmarks/large_vocabulary.py --data DATA/banking77 --peers PEERS
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

VOCABULARY = 250_000


def make_model(folder: Path, rows: list[dict]) -> None:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word for row in rows for word in row["text"].lower().replace("?", " ?").split()})
    tokens = dict.fromkeys([*special, *words])
    tokens |= dict.fromkeys(f"filler{i}" for i in range(VOCABULARY - len(tokens)))
    tokenizer = BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, do_lower_case=True)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=384, num_hidden_layers=12, num_attention_heads=12, intermediate_size=1536
    )
    BertModel(config).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--peers", type=Path, required=True, help="folder with hf_trainer.py")
    parser.add_argument("--rows", type=int, default=1_600)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {"stock Trainer, tuned": [], "nlp-pipeline": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model, rows, test = folder / "model", folder / "train.jsonl", folder / "test.jsonl"
        lines = (args.data / "train.jsonl").read_text().splitlines()
        make_model(model, [json.loads(line) for line in lines])
        # Every label in what is trained on; the test rows only have to be there.
        step = max(1, len(lines) // args.rows)
        rows.write_text("\n".join(lines[::step]) + "\n")
        test.write_text("\n".join(lines[:: step * 10]) + "\n")
        for number in range(args.rounds):
            command = [sys.executable, str(args.peers / "hf_trainer.py"), "--variant", "tuned", "--model", str(model)]
            answer = subprocess.run([*command, "--train", str(rows), "--test", str(test)], check=True,
                                    capture_output=True, text=True)  # fmt: skip
            line = json.loads(answer.stdout.strip().splitlines()[-1])
            found["stock Trainer, tuned"].append((line["train_examples_per_s"], line["peak_memory_mib"]))
            recipe = {
                "task": "text-classification",
                "model": str(model),
                "data": {"train": str(rows), "test": str(test)},
                "tokenization": {"max_length": 128},
                "training": {"epochs": 1, "learning_rate": 3e-4},
            }
            (folder / "x.yaml").write_text(json.dumps(recipe))
            out = folder / f"run{number}"
            subprocess.run([sys.executable, "-m", "nlp_pipeline.cli", "train", str(folder / "x.yaml"), "--quiet",
                            f"output.dir={out}"], check=True)  # fmt: skip
            results = json.loads((out / "results.json").read_text())
            training = results["training"]
            speed = training["examples"] / training["seconds"]
            found["nlp-pipeline"].append((speed, results["peak_memory_mib"]))
    print("| who | rows/s (median) | peak MiB (median) |\n|---|---|---|")
    medians = {who: [statistics.median(column) for column in zip(*runs, strict=True)] for who, runs in found.items()}
    for who, (speed, mib) in medians.items():
        print(f"| {who} | {speed:.1f} | {mib:,.0f} |")
    (their_speed, their_mib), (our_speed, our_mib) = medians["stock Trainer, tuned"], medians["nlp-pipeline"]
    print(f"\nspeed {our_speed / their_speed:.2f} times, memory {our_mib / their_mib:.2f} of the stock Trainer's")


if __name__ == "__main__":
    main()
