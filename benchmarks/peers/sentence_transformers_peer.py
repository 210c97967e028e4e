#!/usr/bin/env python
"""The peer to beat in sentence embeddings: sentence-transformers' own trainer on SICK as scored pairs, one run a call.

Settings shared with recipes/sentence-similarity/sick.yaml: CoSENT with a scale of 20, AdamW (fused), linear decay,
weight decay 0.01, gradient clipping at 1.0, bfloat16 autocast; the epoch with the best Spearman correlation on the
validation rows is kept.

Prints one JSON line, as cross_encoder.py does.

  python sentence_transformers_peer.py --data DATA --model PATH --seed 1
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cross_encoder import read_rows
from datasets import Dataset
from scipy import stats
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.sentence_transformer.losses import CoSENTLoss
from transformers import PrinterCallback, set_seed


def sides(rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    return [row["sentence1"] for row in rows], [row["sentence2"] for row in rows]


def training_arguments(args: argparse.Namespace, folder: str) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        folder,
        num_train_epochs=args.epochs,
        max_steps=args.max_steps,
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
        metric_for_best_model="eval_validation_spearman_cosine",
        greater_is_better=True,
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    set_seed(args.seed)
    train, validation, test = (
        read_rows(args.data / "sick" / f"{split}.jsonl", args.max_train_rows if split == "train" else None)
        for split in ("train", "validation", "test")
    )
    model = SentenceTransformer(args.model, device=None if torch.cuda.is_available() else "cpu")
    model.max_seq_length = args.max_length
    first, second = sides(train)
    rows = Dataset.from_dict({"sentence1": first, "sentence2": second, "score": [row["score"] for row in train]})
    given = [row["score"] for row in validation]
    with tempfile.TemporaryDirectory(prefix="sentence_transformers_") as place:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=training_arguments(args, place),
            train_dataset=rows,
            evaluator=EmbeddingSimilarityEvaluator(*sides(validation), given, name="validation"),
            loss=CoSENTLoss(model, scale=20.0),
        )
        trainer.remove_callback(PrinterCallback)  # it prints to stdout, where only the result belongs
        ready = time.perf_counter()
        trainer.train()
        trained = time.perf_counter()
        left, right = (model.encode(texts, batch_size=64, normalize_embeddings=True) for texts in sides(test))
    done = time.perf_counter()
    found, wanted = np.asarray((left * right).sum(1), np.float64), np.array([row["score"] for row in test])
    scores = {"spearman": float(stats.spearmanr(wanted, found)[0]), "pearson": float(stats.pearsonr(wanted, found)[0])}
    seconds = {"setup": ready - start, "train": trained - ready, "test": done - trained, "total": done - start}
    names = ("epochs", "learning_rate", "batch_size", "max_length", "bf16")
    return {
        "peer": "sentence_transformers",
        "task": args.task,
        "seed": args.seed,
        "scores": {name: round(value, 5) for name, value in scores.items()},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "rows": {"train": len(train), "validation": len(validation), "test": len(test)},
        "settings": {name: getattr(args, name) for name in names} | {"threads": torch.get_num_threads()},
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=["sick_embedding"], default="sick_embedding")
    parser.add_argument("--data", type=Path, required=True, help="holds sick/")
    parser.add_argument("--model", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--max-steps", type=int, default=-1)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--max-train-rows", type=int)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


if __name__ == "__main__":
    print(json.dumps(run(parse_args())), flush=True)
