#!/usr/bin/env python
"""The peer for instruction tuning: trl's SFTTrainer, on the loss of completions only, one run a call.

The same rows, new model, tokenizer, chat template and settings as ours: AdamW (fused), cosine decay after warm-up,
weight decay 0.1, clipping at 1.0, bfloat16 autocast, random batches padded to their longest row (its default).

Prints one JSON line: task, seed, scores on the test set, seconds, settings. Needs trl, in an environment of its own.

  python trl_sft.py --data OUT --seed 1          (OUT as benchmarks/chat_data.py makes it)
"""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import SFTConfig, SFTTrainer


def read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


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


def run(args: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(args.data / "tokenizer")
    train, test = (read_rows(args.data / "gsm8k" / f"{split}.jsonl") for split in ("train", "test"))
    set_seed(args.seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(args.data / "config.json"))
    with tempfile.TemporaryDirectory(prefix="trl_sft_") as folder:
        settings = SFTConfig(
            folder, num_train_epochs=args.epochs, per_device_train_batch_size=args.batch_size, seed=args.seed,
            learning_rate=args.learning_rate, lr_scheduler_type="cosine", warmup_steps=0.05, weight_decay=0.1,
            max_grad_norm=1.0, optim="adamw_torch_fused", bf16=args.bf16, max_length=args.max_length,
            gradient_checkpointing=False, save_strategy="no",
            report_to="none", logging_steps=50, disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
        )  # fmt: skip
        rows = Dataset.from_list([as_messages(row) for row in train])
        trainer = SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer)
        ready = time.perf_counter()
        trainer.train()
        trained = time.perf_counter()
    model = trainer.model.eval()
    found = [log_likelihood(model, tokenizer, r["prompt"], r["completion"], args.max_length) for r in test]
    nats, tokens = -sum(value for value, _ in found), sum(count for _, count in found)
    size = sum(len(row["completion"].encode()) for row in test)
    done = time.perf_counter()
    return {
        "peer": "trl_sft", "task": "gsm8k", "seed": args.seed,
        "scores": {"perplexity": math.exp(nats / tokens), "bits_per_byte": nats / math.log(2) / size},
        "seconds": {"setup": ready - start, "train": trained - ready, "test": done - trained, "total": done - start},
        "rows": {"train": len(train), "test": len(test)},
        "settings": {name: getattr(args, name) for name in ("epochs", "learning_rate", "batch_size", "max_length")},
    }  # fmt: skip


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=384)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


if __name__ == "__main__":
    print(json.dumps(run(parse_args())), flush=True)
