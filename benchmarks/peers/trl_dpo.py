#!/usr/bin/env python
"""The peer for preference tuning: trl's DPOTrainer, reference log-probabilities computed beforehand, one run a call.

The same pairs, starting model, chat template and settings as ours: AdamW (fused), linear decay after warm-up, no weight
decay, clipping at 1.0, bfloat16 autocast, beta 0.1.

Prints one JSON line: task, seed, scores on the test set, seconds, settings. Needs trl, in an environment of its own.

  python trl_dpo.py --data OUT --seed 1          (OUT as benchmarks/chat_data.py makes it)
"""

import argparse
import statistics
import tempfile
from typing import Any

import torch
from datasets import Dataset
from shared import Clock, options, print_answer, read_rows, stock_settings
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import DPOConfig, DPOTrainer
from trl_sft import log_likelihood

SIDES = ("chosen", "rejected")


def as_messages(row: dict[str, str]) -> dict[str, Any]:
    replies = {side: [{"role": "assistant", "content": row[side]}] for side in SIDES}
    return {"prompt": [{"role": "user", "content": row["prompt"]}], **replies}


def run(args: argparse.Namespace) -> None:
    clock = Clock()
    tokenizer = AutoTokenizer.from_pretrained(args.data / "start")
    train, test = (read_rows(args.data / "gsm8k_pairs" / f"{split}.jsonl") for split in ("train", "test"))
    set_seed(args.seed)
    model, reference = (
        AutoModelForCausalLM.from_pretrained(args.data / "start", dtype=torch.float32) for _ in range(2)
    )
    with tempfile.TemporaryDirectory(prefix="trl_dpo_") as folder:
        settings = DPOConfig(
            folder, **stock_settings(args, warmup_steps=0.1, weight_decay=0.0), max_length=args.max_length,
            beta=args.beta, precompute_ref_log_probs=True, precompute_ref_batch_size=64, gradient_checkpointing=False,
        )  # fmt: skip
        rows = Dataset.from_list([as_messages(row) for row in train])
        trainer = DPOTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer)
        clock.mark("setup")
        trainer.train()
        clock.mark("train")
    model, margins = trainer.model.eval(), []
    for row in test:
        gains = []
        for side in SIDES:
            now, before = (
                log_likelihood(m, tokenizer, row["prompt"], row[side], args.max_length)[0] for m in (model, reference)
            )
            gains.append(args.beta * (now - before))
        margins.append(gains[0] - gains[1])
    clock.mark("test")
    scores = {
        "preference_accuracy": sum(margin > 0 for margin in margins) / len(margins),
        "reward_margin": statistics.mean(margins),
    }
    print_answer("trl_dpo", args, scores, clock, {"train": train, "test": test})


def parse_args() -> argparse.Namespace:
    parser = options(__doc__, "gsm8k_pairs", epochs=1, learning_rate=5e-4, batch_size=16, max_length=384)
    parser.add_argument("--beta", type=float, default=0.1)
    return parser.parse_args()


if __name__ == "__main__":
    run(parse_args())
