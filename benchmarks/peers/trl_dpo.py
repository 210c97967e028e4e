#!/usr/bin/env python
"""The peer for preference tuning: trl's DPOTrainer, reference log-probabilities computed beforehand, one run a call.

The same pairs, starting model, chat template and settings as ours: AdamW (fused), linear decay after warm-up, no weight
decay, clipping at 1.0, bfloat16 autocast, beta 0.1.

Prints one JSON line: task, seed, scores on the test set, seconds, settings. Needs trl, in an environment of its own.

  python trl_dpo.py --data OUT --seed 1          (OUT as benchmarks/chat_data.py makes it)
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import DPOConfig, DPOTrainer
from trl_sft import log_likelihood, read_rows

SIDES = ("chosen", "rejected")


def as_messages(row: dict[str, str]) -> dict[str, Any]:
    replies = {side: [{"role": "assistant", "content": row[side]}] for side in SIDES}
    return {"prompt": [{"role": "user", "content": row["prompt"]}], **replies}


def run(args: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(args.data / "start")
    train, test = (read_rows(args.data / "gsm8k_pairs" / f"{split}.jsonl") for split in ("train", "test"))
    set_seed(args.seed)
    model, reference = (
        AutoModelForCausalLM.from_pretrained(args.data / "start", dtype=torch.float32) for _ in range(2)
    )
    with tempfile.TemporaryDirectory(prefix="trl_dpo_") as folder:
        settings = DPOConfig(
            folder, num_train_epochs=args.epochs, per_device_train_batch_size=args.batch_size, seed=args.seed,
            learning_rate=args.learning_rate, lr_scheduler_type="linear", warmup_steps=0.1, weight_decay=0.0,
            max_grad_norm=1.0, optim="adamw_torch_fused", bf16=args.bf16, max_length=args.max_length, beta=args.beta,
            precompute_ref_log_probs=True, precompute_ref_batch_size=64, gradient_checkpointing=False,
            save_strategy="no", report_to="none", logging_steps=50, disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )  # fmt: skip
        rows = Dataset.from_list([as_messages(row) for row in train])
        trainer = DPOTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer)
        ready = time.perf_counter()
        trainer.train()
        trained = time.perf_counter()
    model, margins = trainer.model.eval(), []
    for row in test:
        gains = []
        for side in SIDES:
            now, before = (
                log_likelihood(m, tokenizer, row["prompt"], row[side], args.max_length)[0] for m in (model, reference)
            )
            gains.append(args.beta * (now - before))
        margins.append(gains[0] - gains[1])
    done = time.perf_counter()
    return {
        "peer": "trl_dpo", "task": "gsm8k_pairs", "seed": args.seed,
        "scores": {
            "preference_accuracy": sum(margin > 0 for margin in margins) / len(margins),
            "reward_margin": statistics.mean(margins),
        },
        "seconds": {"setup": ready - start, "train": trained - ready, "test": done - trained, "total": done - start},
        "rows": {"train": len(train), "test": len(test)},
        "settings": {name: getattr(args, name) for name in ("epochs", "learning_rate", "batch_size", "max_length")},
    }  # fmt: skip


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=384)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


if __name__ == "__main__":
    print(json.dumps(run(parse_args())), flush=True)
