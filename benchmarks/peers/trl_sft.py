#!/usr/bin/env python
"""The peer for instruction tuning: trl's SFTTrainer, on the loss of completions only, one run a call.

The same rows, new model, tokenizer, chat template and settings as ours: AdamW (fused), cosine decay after warm-up,
weight decay 0.1, clipping at 1.0, bfloat16 autocast, random batches padded to their longest row (its default).

Prints one JSON line: task, seed, scores on the test set, seconds, settings. Needs trl, in an environment of its own.

  python trl_sft.py --data OUT --seed 1          (OUT as benchmarks/chat_data.py makes it)
"""

import argparse
import math
import tempfile
from typing import Any

import torch
from datasets import Dataset
from shared import Clock, options, print_answer, read_rows, stock_settings
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import SFTConfig, SFTTrainer


def as_messages(row: dict[str, str]) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }


def log_likelihood(model: Any, tokenizer: Any, prompt: str, reply: str, max_length: int) -> tuple[float, int]:
    """Of a reply's tokens, the end of text among them, in nats; and how many they are."""
    talk = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
    whole = tokenizer.apply_chat_template(talk, return_dict=False)
    begin = len(tokenizer.apply_chat_template(talk[:1], add_generation_prompt=True, return_dict=False))
    whole = whole[: max_length + 1]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([whole[:-1]])).logits[0, begin - 1 :]
    targets = torch.tensor(whole[begin:])
    return -float(torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")), len(targets)


def run(args: argparse.Namespace) -> None:
    clock = Clock()
    tokenizer = AutoTokenizer.from_pretrained(args.data / "tokenizer")
    train, test = (read_rows(args.data / "gsm8k" / f"{split}.jsonl") for split in ("train", "test"))
    set_seed(args.seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(args.data / "config.json"))
    with tempfile.TemporaryDirectory(prefix="trl_sft_") as folder:
        more = {"lr_scheduler_type": "cosine", "warmup_steps": 0.05, "weight_decay": 0.1}
        settings = SFTConfig(
            folder, **stock_settings(args, **more), max_length=args.max_length, gradient_checkpointing=False
        )
        rows = Dataset.from_list([as_messages(row) for row in train])
        trainer = SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer)
        clock.mark("setup")
        trainer.train()
        clock.mark("train")
    model = trainer.model.eval()
    found = [log_likelihood(model, tokenizer, r["prompt"], r["completion"], args.max_length) for r in test]
    nats, tokens = -sum(value for value, _ in found), sum(count for _, count in found)
    size = sum(len(row["completion"].encode()) for row in test)
    clock.mark("test")
    scores = {"perplexity": math.exp(nats / tokens), "bits_per_byte": nats / math.log(2) / size}
    print_answer("trl_sft", args, scores, clock, {"train": train, "test": test})


def parse_args() -> argparse.Namespace:
    return options(__doc__, "gsm8k", learning_rate=2e-3, max_length=384).parse_args()


if __name__ == "__main__":
    run(parse_args())
