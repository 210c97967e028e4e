#!/usr/bin/env python
"""What the comparison with trl runs on, made from GSM8K: rows, a tokenizer, and a model to start from.

OUT gets gsm8k/ (the first rows of each split), gsm8k_pairs/ (`chosen` is a solution, `rejected` the same with the words
of every line in another order), tokenizer/ (byte-level BPE with the plain chat template), and start/ (one epoch of
instruction tuning with seed 0, from which preference tuning starts).

  python benchmarks/chat_data.py --data DATA --out OUT
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

from common.runs import RECIPES

from nlp_pipeline.data.chat import PLAIN
from nlp_pipeline.tokenizer_training import train_tokenizer

# Small enough that three seeds of both programs train within minutes on one core.
SIZE = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}


def jumbled(text: str, random: Random) -> str:
    """The words of every line in another order."""
    lines = [line.split(" ") for line in text.split("\n")]
    return "\n".join(" ".join(random.sample(words, len(words))) for words in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds gsm8k/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2000, help="training rows")
    parser.add_argument("--pairs", type=int, default=800, help="training pairs")
    parser.add_argument("--test-rows", type=int, default=500)
    args = parser.parse_args()
    if args.out.resolve() == args.data.resolve():
        parser.error("--out: found the folder of --data, whose rows would be written over; name another")
    for split, limit in (("train", args.rows), ("test", args.test_rows)):
        lines = (args.data / "gsm8k" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()[:limit]
        rows = [json.loads(line) for line in lines]
        random = Random(split)
        pairs = [
            {"prompt": row["prompt"], "chosen": row["completion"], "rejected": jumbled(row["completion"], random)}
            for row in rows
        ]
        for name, found in (("gsm8k", rows), ("gsm8k_pairs", pairs[: args.pairs])):
            (args.out / name).mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
            (args.out / name / f"{split}.jsonl").write_text(text, encoding="utf-8")
        if split == "train":
            tokenizer = train_tokenizer((f"{row['prompt']}\n{row['completion']}" for row in rows), "bpe", 2048)
            tokenizer.chat_template = PLAIN
            tokenizer.save_pretrained(args.out / "tokenizer")
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    architecture = {"model_type": "llama", "vocab_size": len(tokenizer), "tie_word_embeddings": True, **SIZE, **ids}
    (args.out / "config.json").write_text(json.dumps(architecture, indent=2) + "\n")
    run = args.out / "start-run"
    command = [sys.executable, "-m", "nlp_pipeline.cli", "train", str(RECIPES / "instruction-tuning/gsm8k.yaml")]
    files = [f"data.{split}={args.out / 'gsm8k' / (split + '.jsonl')}" for split in ("train", "test")]
    settings = [f"model.name={args.out / 'tokenizer'}", f"model.architecture={args.out / 'config.json'}"]
    limits = ["training.epochs=1", "training.seed=0", "options.samples=0", f"output.dir={run}"]
    subprocess.run([*command, *files, *settings, *limits], check=True)
    shutil.copytree(run / "model", args.out / "start", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
