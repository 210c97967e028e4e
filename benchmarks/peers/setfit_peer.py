#!/usr/bin/env python
"""The peer to beat in few-shot classification: SetFit with its own settings, one run a call.

SetFit's defaults (cosine similarity loss on pairs, batches of 16, one epoch, 2e-5 for the body, a logistic regression
as the head), but 20 positive and 20 negative pairs a row as in the paper (Tunstall et al. 2022, arXiv:2209.11055): the
default of the package since 1.0 is as many negative pairs as there are, and positive ones to match, over 370,000 here.

Needs `pip install --no-deps setfit==1.2.0`. Prints one JSON line, as cross_encoder.py does.

  python setfit_peer.py --data OUT --task banking77_8 --model PATH --seed 1
"""

import argparse
import tempfile
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
from shared import Clock, options, print_answer, read_rows
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from transformers import set_seed


def run(args: argparse.Namespace) -> None:
    clock = Clock()
    set_seed(args.seed)
    folder = args.data / f"{args.task}_{args.seed}"
    train, test = read_rows(folder / "train.jsonl"), read_rows(folder / "test.jsonl")
    model = SetFitModel.from_pretrained(args.model, device=None if torch.cuda.is_available() else "cpu")
    model.model_body.max_seq_length = args.max_length
    columns = {name: [row[name] for row in train] for name in ("text", "label")}
    with tempfile.TemporaryDirectory(prefix="setfit_") as place:
        settings = TrainingArguments(
            place,
            num_iterations=args.iterations,
            max_steps=args.max_steps,
            batch_size=args.batch_size,
            num_epochs=1,
            body_learning_rate=args.learning_rate,
            use_amp=args.bf16,
            seed=args.seed,
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        trainer = Trainer(model=model, args=settings, train_dataset=Dataset.from_dict(columns))
        clock.mark("setup")
        trainer.train()
        clock.mark("train")
    found = np.asarray(model.predict([row["text"] for row in test], batch_size=64))
    clock.mark("test")
    right = np.array([row["label"] for row in test])
    scores = {
        "accuracy": (found == right).mean(),
        "f1_macro": f1_score(right, found, average="macro"),
        "accuracy_strong_head": strong_head(model, train, test),
    }
    names = ("iterations", "learning_rate", "batch_size", "max_length", "bf16")
    print_answer("setfit", args, scores, clock, {"train": train, "test": test}, names)


def strong_head(model: SetFitModel, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> float:
    """Accuracy with our recipe's head (C = 100) on SetFit's body: what remains is the difference of the bodies."""
    vectors = [model.encode([row["text"] for row in rows], batch_size=64) for rows in (train, test)]
    labels = [np.array([row["label"] for row in rows]) for rows in (train, test)]
    head = LogisticRegression(C=100, max_iter=2000).fit(vectors[0], labels[0])
    return float((head.predict(vectors[1]) == labels[1]).mean())


def parse_args() -> argparse.Namespace:
    parser = options(__doc__, "banking77_8", learning_rate=2e-5, batch_size=16, bf16=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--iterations", type=int, default=20, help="positive, and negative, pairs a row")
    return parser.parse_args()


if __name__ == "__main__":
    run(parse_args())
