"""What the peers' programs share: their options, the settings of stock training, and the line they print."""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def read_rows(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines][:limit]


def options(doc: str | None, task: str, **defaults: Any) -> argparse.ArgumentParser:
    """The options that all have; `defaults` are theirs."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--task", default=task)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--max-steps", type=int, default=-1)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--max-train-rows", type=int)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.set_defaults(**defaults)
    return parser


def stock_settings(args: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """Settings of transformers' TrainingArguments and of those made from it: AdamW (fused), linear decay, weight decay
    0.01, clipping at 1.0, nothing but the result printed."""
    return {
        "num_train_epochs": args.epochs,
        "max_steps": args.max_steps,
        "per_device_train_batch_size": args.batch_size,
        "per_device_eval_batch_size": 64,
        "learning_rate": args.learning_rate,
        "lr_scheduler_type": "linear",
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "bf16": args.bf16,
        "use_cpu": not torch.cuda.is_available(),
        "seed": args.seed,
        "report_to": "none",
        "logging_steps": 50,
        "disable_tqdm": True,
        "save_strategy": "no",
        **more,
    }


def kept_best(metric: str) -> dict[str, Any]:
    """Settings that keep the epoch with the most of a metric."""
    return {
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": True,
    }


class Clock:
    """Seconds of a run's parts: `mark(part)` ends one, and the next begins."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._parts: dict[str, float] = {}

    def mark(self, part: str) -> None:
        now = time.perf_counter()
        self._parts[part], self._last = now - self._last, now

    def seconds(self) -> dict[str, float]:
        return {**self._parts, "total": self._last - self._start}


def print_answer(
    peer: str,
    args: argparse.Namespace,
    scores: Mapping[str, float],
    clock: Clock,
    rows: Mapping[str, Sequence[Any]],
    settings: Sequence[str] = ("epochs", "learning_rate", "batch_size", "max_length", "bf16"),
) -> None:
    """A JSON line of what a run gave, for benchmarks/quality.py."""
    answer = {
        "peer": peer,
        "task": args.task,
        "seed": args.seed,
        "scores": {name: round(float(value), 5) for name, value in scores.items()},
        "seconds": {name: round(value, 2) for name, value in clock.seconds().items()},
        "rows": {split: len(some) for split, some in rows.items()},
        "settings": {name: getattr(args, name) for name in settings} | {"threads": torch.get_num_threads()},
    }
    print(json.dumps(answer), flush=True)
