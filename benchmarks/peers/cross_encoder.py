#!/usr/bin/env python
"""The peer to beat in reranking: sentence-transformers' CrossEncoder on SICK as scored pairs, one run a call.

Settings shared with recipes/text-ranking/sick.yaml: binary cross entropy on scores brought to 0 to 1, AdamW (fused),
linear decay, weight decay 0.01, gradient clipping at 1.0, bfloat16 autocast; the epoch with the best Spearman
correlation on the validation rows is kept.

Prints one JSON line, as stock_trainer.py does.

  python cross_encoder.py --data DATA --model PATH --seed 1          (DATA holds sick/)
"""

import argparse
import tempfile
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy import stats
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.evaluation import CrossEncoderCorrelationEvaluator
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from shared import Clock, kept_best, options, print_answer, read_rows, stock_settings
from transformers import PrinterCallback, set_seed

LOWEST, HIGHEST = 1.0, 5.0


def dataset(rows: list[dict[str, Any]]) -> Dataset:
    return Dataset.from_list(
        [
            {"query": r["sentence1"], "text": r["sentence2"], "label": (r["score"] - LOWEST) / (HIGHEST - LOWEST)}
            for r in rows
        ]
    )


def pairs(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["sentence1"], row["sentence2"]) for row in rows]


def run(args: argparse.Namespace) -> None:
    clock = Clock()
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
        best = kept_best("eval_validation_spearman")
        trainer = CrossEncoderTrainer(
            model=model,
            args=CrossEncoderTrainingArguments(place, **stock_settings(args, **best)),
            train_dataset=dataset(train),
            evaluator=evaluator,
            loss=BinaryCrossEntropyLoss(model),
        )
        trainer.remove_callback(PrinterCallback)  # it prints to stdout, where only the result belongs
        clock.mark("setup")
        trainer.train()
        clock.mark("train")
        found = np.asarray(model.predict(pairs(test), batch_size=64, show_progress_bar=False), np.float64)
    clock.mark("test")
    right = np.array([row["score"] for row in test])
    scores = {"spearman": stats.spearmanr(right, found)[0], "pearson": stats.pearsonr(right, found)[0]}
    print_answer("cross_encoder", args, scores, clock, {"train": train, "validation": validation, "test": test})


def parse_args() -> argparse.Namespace:
    parser = options(__doc__, "sick_reranking")
    parser.add_argument("--model", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    run(parse_args())
