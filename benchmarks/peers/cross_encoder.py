#!/usr/bin/env python
"""The peer to beat in reranking: sentence-transformers' CrossEncoder on SICK as scored pairs, one run a call.

Settings shared with recipes/text-ranking/sick.yaml: binary cross entropy on scores brought to 0 to 1, AdamW (fused),
linear decay, weight decay 0.01, gradient clipping at 1.0, bfloat16 autocast; the epoch with the best Spearman
correlation on the validation rows is kept.

Prints one JSON line, as stock_trainer.py does.

  python cross_encoder.py --task sick_reranking --data DATA --model PATH --seed 1
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy import stats
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.evaluation import CrossEncoderCorrelationEvaluator
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from transformers import PrinterCallback, set_seed

LOWEST, HIGHEST = 1.0, 5.0


def read_rows(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines][:limit]


def dataset(rows: list[dict[str, Any]]) -> Dataset:
    return Dataset.from_list(
        [
            {"query": r["sentence1"], "text": r["sentence2"], "label": (r["score"] - LOWEST) / (HIGHEST - LOWEST)}
            for r in rows
        ]
    )


def pairs(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["sentence1"], row["sentence2"]) for row in rows]


def training_arguments(args: argparse.Namespace, folder: str) -> CrossEncoderTrainingArguments:
    return CrossEncoderTrainingArguments(
        folder,
        num_train_epochs=args.epochs,
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=args.learning_rate,
        lr_scheduler_type="linear",
        weight_decay=0.01,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        bf16=args.bf16,
        use_cpu=not torch.cuda.is_available(),
        seed=args.seed,
        report_to="none",
        logging_steps=50,
        disable_tqdm=True,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_validation_spearman",
        greater_is_better=True,
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    set_seed(args.seed)
    folder = args.data / "sick"
    train = read_rows(folder / "train.jsonl", args.max_train_rows)
    validation, test = (read_rows(folder / f"{split}.jsonl") for split in ("validation", "test"))
    model = CrossEncoder(
        args.model, num_labels=1, max_length=args.max_length, device=None if torch.cuda.is_available() else "cpu"
    )
    evaluator = CrossEncoderCorrelationEvaluator(
        sentence_pairs=pairs(validation), scores=[row["score"] for row in validation], name="validation"
    )
    with tempfile.TemporaryDirectory(prefix="cross_encoder_") as place:
        trainer = CrossEncoderTrainer(
            model=model,
            args=training_arguments(args, place),
            train_dataset=dataset(train),
            evaluator=evaluator,
            loss=BinaryCrossEntropyLoss(model),
        )
        trainer.remove_callback(PrinterCallback)  # it prints to stdout, where only the result belongs
        ready = time.perf_counter()
        trainer.train()
        trained = time.perf_counter()
        found = np.asarray(model.predict(pairs(test), batch_size=64, show_progress_bar=False), np.float64)
    done = time.perf_counter()
    right = np.array([row["score"] for row in test])
    scores = {"spearman": float(stats.spearmanr(right, found)[0]), "pearson": float(stats.pearsonr(right, found)[0])}
    seconds = {"setup": ready - start, "train": trained - ready, "test": done - trained, "total": done - start}
    names = ("epochs", "learning_rate", "batch_size", "max_length", "bf16")
    return {
        "peer": "cross_encoder",
        "task": args.task,
        "seed": args.seed,
        "scores": {name: round(value, 5) for name, value in scores.items()},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "rows": {"train": len(train), "validation": len(validation), "test": len(test)},
        "settings": {name: getattr(args, name) for name in names} | {"threads": torch.get_num_threads()},
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=["sick_reranking"], default="sick_reranking")
    parser.add_argument("--data", type=Path, required=True, help="holds sick/")
    parser.add_argument("--model", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--max-train-rows", type=int)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


if __name__ == "__main__":
    print(json.dumps(run(parse_args())), flush=True)
