#!/usr/bin/env python
"""The peer to beat in sentence embeddings: sentence-transformers' own trainer on SICK as scored pairs, one run a call.

Settings shared with recipes/sentence-similarity/sick.yaml: CoSENT with a scale of 20, AdamW (fused), linear decay,
weight decay 0.01, gradient clipping at 1.0, bfloat16 autocast; the epoch with the best Spearman correlation on the
validation rows is kept.

Prints one JSON line, as cross_encoder.py does.

  python sentence_transformers_peer.py --data DATA --model PATH --seed 1          (DATA holds sick/)
"""

import argparse
import tempfile
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy import stats
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.sentence_transformer.losses import CoSENTLoss
from shared import Clock, kept_best, options, print_answer, read_rows, stock_settings
from transformers import PrinterCallback, set_seed


def sides(rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    return [row["sentence1"] for row in rows], [row["sentence2"] for row in rows]


def run(args: argparse.Namespace) -> None:
    clock = Clock()
    set_seed(args.seed)
    folder = args.data / "sick"
    train = read_rows(folder / "train.jsonl", args.max_train_rows)
    validation, test = (read_rows(folder / f"{split}.jsonl") for split in ("validation", "test"))
    model = SentenceTransformer(args.model, device=None if torch.cuda.is_available() else "cpu")
    model.max_seq_length = args.max_length
    first, second = sides(train)
    rows = Dataset.from_dict({"sentence1": first, "sentence2": second, "score": [row["score"] for row in train]})
    given = [row["score"] for row in validation]
    with tempfile.TemporaryDirectory(prefix="sentence_transformers_") as place:
        best = kept_best("eval_validation_spearman_cosine")
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(place, **stock_settings(args, **best)),
            train_dataset=rows,
            evaluator=EmbeddingSimilarityEvaluator(*sides(validation), given, name="validation"),
            loss=CoSENTLoss(model, scale=20.0),
        )
        trainer.remove_callback(PrinterCallback)  # it prints to stdout, where only the result belongs
        clock.mark("setup")
        trainer.train()
        clock.mark("train")
        left, right = (model.encode(texts, batch_size=64, normalize_embeddings=True) for texts in sides(test))
    clock.mark("test")
    found, wanted = np.asarray((left * right).sum(1), np.float64), np.array([row["score"] for row in test])
    scores = {"spearman": stats.spearmanr(wanted, found)[0], "pearson": stats.pearsonr(wanted, found)[0]}
    print_answer("sentence_transformers", args, scores, clock, {"train": train, "validation": validation, "test": test})


def parse_args() -> argparse.Namespace:
    parser = options(__doc__, "sick_embedding")
    parser.add_argument("--model", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    run(parse_args())
