#!/usr/bin/env python
"""The peer to beat: the stock Hugging Face Trainer on four tasks, one run a call, as a competent user would.

Settings shared with our own runs: AdamW (fused), linear decay (multi-label: after a tenth of warm-up), weight decay
0.01, gradient clipping at 1.0, bfloat16 autocast, length-grouped batches padded to their longest row. With a
validation set, the epoch with the best score is kept. Test answers are compared by name, so that a name unknown in
training is an error of the model, never a crash; a word without a sub-word (cut off, or only characters that the
tokenizer drops) counts as predicted "O".

Prints one JSON line: task, seed, scores on the test set, validation history, seconds (those of training hold
those of validation), settings.

  python stock_trainer.py --task wnut17 --data DATA --model PATH --seed 1
"""

import argparse
import json
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import seqeval.metrics
import torch
from datasets import Dataset
from scipy import stats
from shared import read_rows
from sklearn import metrics
from sklearn.preprocessing import MultiLabelBinarizer
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

Row = dict[str, Any]
Scores = dict[str, float]
IGNORED = -100


class Task(ABC):
    """What one task needs around the Trainer; `names` are the labels seen in training, `ids` their places."""

    folder: ClassVar[str]
    epochs: ClassVar[float]
    learning_rate: ClassVar[float]
    warmup: ClassVar[float] = 0.0  # share of all steps
    best: ClassVar[str | None] = None  # the validation score that picks the epoch; None: no validation set
    problem: ClassVar[str | None] = None
    model_class: ClassVar[Any] = AutoModelForSequenceClassification
    collator: ClassVar[Any] = DataCollatorWithPadding

    def __init__(self, train: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.names = self.label_names(train)
        self.ids = {name: i for i, name in enumerate(self.names)}

    @abstractmethod
    def label_names(self, train: Sequence[Row]) -> list[str]: ...

    @abstractmethod
    def inputs(self, rows: Sequence[Row]) -> Any:
        """The tokenized rows."""

    @abstractmethod
    def labels(self, rows: Sequence[Row], encoded: Any) -> list[Any]:
        """The model's targets."""

    @abstractmethod
    def gold(self, rows: Sequence[Row]) -> Any:
        """The right answers by name, as `scores` takes them."""

    @abstractmethod
    def answers(self, logits: np.ndarray, rows: Sequence[Row]) -> Any:
        """The model's answers by name, one for each row, in order."""

    @abstractmethod
    def validate(self, prediction: EvalPrediction) -> Scores:
        """The scores of one evaluation; its rows come in the sampler's order, not the file's."""

    @abstractmethod
    def scores(self, gold: Any, predicted: Any) -> Scores: ...

    def dataset(self, rows: Sequence[Row], *, labelled: bool = True) -> Dataset:
        encoded = self.inputs(rows)
        columns = {name: encoded[name] for name in self.tokenizer.model_input_names if name in encoded}
        return Dataset.from_dict(columns | ({"labels": self.labels(rows, encoded)} if labelled else {}))

    def model(self, path: str) -> PreTrainedModel:
        more: dict[str, Any] = {"problem_type": self.problem} if self.problem else {}
        made: PreTrainedModel = self.model_class.from_pretrained(
            path, num_labels=len(self.names), id2label=dict(enumerate(self.names)), label2id=self.ids, **more
        )
        return made


class Entities(Task):
    """WNUT-17: the first sub-word of every word carries its tag."""

    folder, epochs, learning_rate, best = "wnut17", 4, 3e-4, "f1"
    model_class, collator = AutoModelForTokenClassification, DataCollatorForTokenClassification

    def label_names(self, train: Sequence[Row]) -> list[str]:
        return ["O", *sorted({tag for row in train for tag in row["ner_tags"]} - {"O"})]

    def inputs(self, rows: Sequence[Row]) -> Any:
        tokens = [row["tokens"] for row in rows]
        return self.tokenizer(tokens, is_split_into_words=True, truncation=True, max_length=self.max_length)

    @staticmethod
    def first_pieces(words: Sequence[int | None]) -> dict[int, int]:
        """Word number -> position of its first sub-word."""
        places: dict[int, int] = {}
        for place, word in enumerate(words):
            if word is not None:
                places.setdefault(word, place)
        return places

    def labels(self, rows: Sequence[Row], encoded: Any) -> list[list[int]]:
        found = []
        for i, row in enumerate(rows):
            target = [IGNORED] * len(encoded["input_ids"][i])
            for word, place in self.first_pieces(encoded.word_ids(i)).items():
                target[place] = self.ids.get(row["ner_tags"][word], IGNORED)
            found.append(target)
        return found

    def gold(self, rows: Sequence[Row]) -> list[list[str]]:
        return [row["ner_tags"] for row in rows]

    def answers(self, logits: np.ndarray, rows: Sequence[Row]) -> list[list[str]]:
        encoded, chosen, found = self.inputs(rows), logits.argmax(-1), []
        for i, row in enumerate(rows):
            tags = ["O"] * len(row["tokens"])
            for word, place in self.first_pieces(encoded.word_ids(i)).items():
                tags[word] = self.names[chosen[i, place]]
            found.append(tags)
        return found

    def validate(self, prediction: EvalPrediction) -> Scores:
        chosen, label_ids = np.asarray(prediction.predictions).argmax(-1), np.asarray(prediction.label_ids)
        rows = [(c[t != IGNORED], t[t != IGNORED]) for c, t in zip(chosen, label_ids, strict=True)]
        predicted, gold = ([[self.names[i] for i in row[side]] for row in rows] for side in (0, 1))
        return self.scores(gold, predicted)

    def scores(self, gold: list[list[str]], predicted: list[list[str]]) -> Scores:
        made: dict[str, Callable[..., float]] = {
            "precision": seqeval.metrics.precision_score,
            "recall": seqeval.metrics.recall_score,
            "f1": seqeval.metrics.f1_score,
        }
        return {name: float(score(gold, predicted, zero_division=0)) for name, score in made.items()}


class Intents(Task):
    """NLU++ banking: none, one or several labels a row, each above or below one half."""

    folder, epochs, learning_rate, problem = "nlupp_banking", 12, 5e-4, "multi_label_classification"
    warmup = 0.1

    def label_names(self, train: Sequence[Row]) -> list[str]:
        return sorted({name for row in train for name in row["labels"]})

    def inputs(self, rows: Sequence[Row]) -> Any:
        return self.tokenizer([row["text"] for row in rows], truncation=True, max_length=self.max_length)

    def labels(self, rows: Sequence[Row], encoded: Any) -> list[list[float]]:
        return [[float(name in row["labels"]) for name in self.names] for row in rows]

    def gold(self, rows: Sequence[Row]) -> list[list[str]]:
        return [row["labels"] for row in rows]

    def answers(self, logits: np.ndarray, rows: Sequence[Row]) -> list[list[str]]:
        # sigmoid(x) > 0.5 exactly where x > 0
        return [[self.names[i] for i in np.flatnonzero(row > 0)] for row in logits]

    def validate(self, prediction: EvalPrediction) -> Scores:
        raise NotImplementedError("nlupp_banking has no validation set")

    def scores(self, gold: list[list[str]], predicted: list[list[str]]) -> Scores:
        every = sorted(set(self.names).union(*gold))
        binary = MultiLabelBinarizer(classes=every)
        right, made = binary.fit_transform(gold), binary.fit_transform(predicted)
        return {
            "micro_f1": float(metrics.f1_score(right, made, average="micro", zero_division=0)),
            "macro_f1": float(metrics.f1_score(right, made, average="macro", zero_division=0)),
            "subset_accuracy": float(metrics.accuracy_score(right, made)),
        }


class Pairs(Task):
    """The two tasks of SICK: two sentences go in as one sequence."""

    folder, epochs, learning_rate = "sick", 3, 2e-4

    def inputs(self, rows: Sequence[Row]) -> Any:
        first, second = [row["sentence1"] for row in rows], [row["sentence2"] for row in rows]
        return self.tokenizer(first, second, truncation=True, max_length=self.max_length)


class Relatedness(Pairs):
    problem, best = "regression", "spearman"

    def label_names(self, train: Sequence[Row]) -> list[str]:
        return ["score"]

    def labels(self, rows: Sequence[Row], encoded: Any) -> list[float]:
        return [float(row["score"]) for row in rows]

    def gold(self, rows: Sequence[Row]) -> np.ndarray:
        return np.array([row["score"] for row in rows], dtype=np.float64)

    def answers(self, logits: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
        return logits[:, 0].astype(np.float64)

    def validate(self, prediction: EvalPrediction) -> Scores:
        return self.scores(np.asarray(prediction.label_ids), np.asarray(prediction.predictions)[:, 0])

    def scores(self, gold: np.ndarray, predicted: np.ndarray) -> Scores:
        return {
            "pearson": float(stats.pearsonr(gold, predicted)[0]),
            "spearman": float(stats.spearmanr(gold, predicted)[0]),
            "mse": float(metrics.mean_squared_error(gold, predicted)),
        }


class Entailment(Pairs):
    best = "accuracy"

    def label_names(self, train: Sequence[Row]) -> list[str]:
        return sorted({row["label"] for row in train})

    def labels(self, rows: Sequence[Row], encoded: Any) -> list[int]:
        return [self.ids.get(row["label"], IGNORED) for row in rows]

    def gold(self, rows: Sequence[Row]) -> list[str]:
        return [row["label"] for row in rows]

    def answers(self, logits: np.ndarray, rows: Sequence[Row]) -> list[str]:
        return [self.names[i] for i in logits.argmax(-1)]

    def validate(self, prediction: EvalPrediction) -> Scores:
        # An unknown label stays -100: no answer equals it.
        return self.scores(prediction.label_ids, np.asarray(prediction.predictions).argmax(-1))

    def scores(self, gold: Any, predicted: Any) -> Scores:
        return {
            "accuracy": float(metrics.accuracy_score(gold, predicted)),
            "macro_f1": float(metrics.f1_score(gold, predicted, average="macro", zero_division=0)),
        }


TASKS: Mapping[str, type[Task]] = {
    "wnut17": Entities,
    "nlupp_banking": Intents,
    "sick_relatedness": Relatedness,
    "sick_entailment": Entailment,
}


def training_arguments(args: argparse.Namespace, best: str | None, folder: str) -> TrainingArguments:
    more: dict[str, Any] = {"save_strategy": "no"}
    if best:
        more = {
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "save_total_limit": 1,
            "save_only_model": True,
            "load_best_model_at_end": True,
            "metric_for_best_model": best,
            "greater_is_better": True,
        }
    return TrainingArguments(
        folder,
        num_train_epochs=args.epochs,
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=args.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=TASKS[args.task].warmup,
        weight_decay=0.01,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        bf16=args.bf16,
        train_sampling_strategy="group_by_length",
        use_cpu=not torch.cuda.is_available(),
        seed=args.seed,
        report_to="none",
        logging_steps=50,
        disable_tqdm=True,
        **more,
    )


def evaluations(trainer: Trainer) -> list[Scores]:
    return [entry for entry in trainer.state.log_history if "eval_loss" in entry]


def history(trainer: Trainer) -> list[Scores]:
    """The validation scores of every epoch."""
    timings = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    return [
        {name.removeprefix("eval_"): value for name, value in entry.items() if name not in timings}
        for entry in evaluations(trainer)
    ]


def predict(trainer: Trainer, test: Dataset) -> np.ndarray:
    """The test set's logits in the file's order: with length grouping, the Trainer would shuffle it."""
    trainer.args.train_sampling_strategy = "random"
    return np.asarray(trainer.predict(test).predictions)


def run(args: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    set_seed(args.seed)
    kind = TASKS[args.task]
    files = args.data / kind.folder
    train, test = read_rows(files / "train.jsonl", args.max_train_rows), read_rows(files / "test.jsonl")
    validation = read_rows(files / "validation.jsonl") if kind.best else None
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    task = kind(train, tokenizer, args.max_length)
    with tempfile.TemporaryDirectory(prefix="stock_trainer_") as folder:
        trainer = Trainer(
            model=task.model(args.model),
            args=training_arguments(args, task.best, folder),
            train_dataset=task.dataset(train),
            eval_dataset=task.dataset(validation) if validation else None,
            data_collator=task.collator(tokenizer),
            processing_class=tokenizer,
            compute_metrics=task.validate if validation else None,
        )
        trainer.remove_callback(PrinterCallback)  # it prints to stdout, where only the result belongs
        tests = task.dataset(test, labelled=False)
        ready = time.perf_counter()
        trainer.train()
        trained = time.perf_counter()
        logits = predict(trainer, tests)
        done = time.perf_counter()
    validating = sum(entry["eval_runtime"] for entry in evaluations(trainer))
    scores = task.scores(task.gold(test), task.answers(logits, test))
    seconds = {
        "setup": ready - start,
        "train": trained - ready,
        "validation": validating,
        "test": done - trained,
        "total": done - start,
    }
    return {
        "peer": "stock_trainer",
        "task": args.task,
        "seed": args.seed,
        "scores": {name: round(value, 5) for name, value in scores.items()},
        "validation": history(trainer),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "rows": {"train": len(train), "validation": len(validation or ()), "test": len(test)},
        "settings": settings(args, task.best),
    }


def settings(args: argparse.Namespace, best: str | None) -> dict[str, Any]:
    names = ("epochs", "learning_rate", "batch_size", "max_length", "bf16")
    chosen = {name: getattr(args, name) for name in names}
    return chosen | {"best_by": best, "threads": torch.get_num_threads()}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--data", type=Path, required=True, help="holds wnut17/, nlupp_banking/, sick/")
    parser.add_argument("--model", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=float, help="default: the task's own")
    parser.add_argument("--learning-rate", type=float, help="default: the task's own")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--max-train-rows", type=int)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    if args.epochs is None:
        args.epochs = TASKS[args.task].epochs
    if args.learning_rate is None:
        args.learning_rate = TASKS[args.task].learning_rate
    return args


if __name__ == "__main__":
    print(json.dumps(run(parse_args())), flush=True)
