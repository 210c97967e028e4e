#!/usr/bin/env python
"""The peer to beat in few-shot classification: SetFit with its own settings, one run a call.

SetFit's defaults (cosine similarity loss on pairs, batches of 16, one epoch, 2e-5 for the body, a logistic regression
as the head), but 20 positive and 20 negative pairs a row as in the paper (Tunstall et al. 2022, arXiv:2209.11055): the
default of the package since 1.0 is as many negative pairs as there are, and positive ones to match, over 370,000 here.

Needs `pip install --no-deps setfit==1.2.0`. Prints one JSON line, as cross_encoder.py does.

  python setfit_peer.py --data OUT --task banking77_8 --model PATH --seed 1
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
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from transformers import set_seed


def run(args: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
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
            use_amp=args.amp,
            seed=args.seed,
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        trainer = Trainer(model=model, args=settings, train_dataset=Dataset.from_dict(columns))
        ready = time.perf_counter()
        trainer.train()
        trained = time.perf_counter()
    found = np.asarray(model.predict([row["text"] for row in test], batch_size=64))
    done = time.perf_counter()
    right = np.array([row["label"] for row in test])
    scores = {"accuracy": float((found == right).mean()), "f1_macro": float(f1_score(right, found, average="macro"))}
    scores["accuracy_strong_head"] = strong_head(model, train, test)
    seconds = {"setup": ready - start, "train": trained - ready, "test": done - trained, "total": done - start}
    names = ("iterations", "learning_rate", "batch_size", "max_length", "amp")
    return {
        "peer": "setfit",
        "task": args.task,
        "seed": args.seed,
        "scores": {name: round(value, 5) for name, value in scores.items()},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "rows": {"train": len(train), "test": len(test)},
        "settings": {name: getattr(args, name) for name in names} | {"threads": torch.get_num_threads()},
    }


def strong_head(model: SetFitModel, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> float:
    """Accuracy with our recipe's head (C = 100) on SetFit's body: what remains is the difference of the bodies."""
    vectors = [model.encode([row["text"] for row in rows], batch_size=64) for rows in (train, test)]
    labels = [np.array([row["label"] for row in rows]) for rows in (train, test)]
    head = LogisticRegression(C=100, max_iter=2000).fit(vectors[0], labels[0])
    return float((head.predict(vectors[1]) == labels[1]).mean())


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", default="banking77_8", help="the folder's name without its seed")
    parser.add_argument("--data", type=Path, required=True, help="what benchmarks/few_shot_data.py wrote")
    parser.add_argument("--model", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=20, help="positive, and negative, pairs a row")
    parser.add_argument("--max-steps", type=int, default=-1)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--amp", action=argparse.BooleanOptionalAction, default=False)
    return parser.parse_args()


if __name__ == "__main__":
    print(json.dumps(run(parse_args())), flush=True)
