#!/usr/bin/env python
"""How long from the start of the process to the end of the first optimizer step, on tokenized rows?

Both sides on Banking77 with MiniLM: the stock Trainer as in hf_trainer.py's `tuned` variant (its `map` cache warm),
and nlp-pipeline with its cache warm. Read inside each process from the kernel's own start time.

  python benchmarks/time_to_first_step.py --data DATA/banking77
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common.runs import RECIPES, minilm


def since_start() -> float:
    """Seconds since this process began (Linux)."""
    with open("/proc/self/stat") as stat, open("/proc/uptime") as uptime:
        ticks = int(stat.read().rpartition(")")[2].split()[19])
        return float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def ours(data: Path, out: str) -> None:
    from nlp_pipeline.cli import main
    from nlp_pipeline.training.step import Stepper

    step = Stepper.step

    def once(self: Stepper, given: object) -> None:
        step(self, given)  # type: ignore[arg-type]
        print(json.dumps({"seconds": since_start()}), flush=True)
        os._exit(0)

    Stepper.step = once  # type: ignore[method-assign, assignment]
    recipe = str(RECIPES / "text-classification" / "banking77.yaml")
    main(["train", recipe, f"data.train={data / 'train.jsonl'}", f"data.test={data / 'test.jsonl'}",
         f"output.dir={out}/run", "--quiet"])  # fmt: skip


def stock(data: Path, out: str) -> None:
    import datasets
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    class First(TrainerCallback):
        def on_step_end(self, *arguments: object, **named: object) -> None:
            print(json.dumps({"seconds": since_start()}), flush=True)
            os._exit(0)

    model = minilm()
    files = {"train": str(data / "train.jsonl"), "test": str(data / "test.jsonl")}
    rows = datasets.load_dataset("json", data_files=files)
    names = sorted(set(rows["train"]["label"]))
    ids = {name: i for i, name in enumerate(names)}
    tokenizer = AutoTokenizer.from_pretrained(model)

    def tokenize(batch: dict) -> dict:
        encoded = tokenizer(batch["text"], truncation=True, max_length=128)
        encoded["labels"] = [ids[name] for name in batch["label"]]
        return encoded

    rows = rows.map(tokenize, batched=True, remove_columns=rows["train"].column_names)
    settings = TrainingArguments(
        out, num_train_epochs=4, per_device_train_batch_size=32, learning_rate=3e-4, bf16=True, use_cpu=True,
        optim="adamw_torch_fused", report_to="none", save_strategy="no", disable_tqdm=True,
        train_sampling_strategy="group_by_length",
    )  # fmt: skip
    Trainer(
        AutoModelForSequenceClassification.from_pretrained(model, num_labels=len(names)), settings,
        train_dataset=rows["train"], data_collator=DataCollatorWithPadding(tokenizer), callbacks=[First()],
    ).train()  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--who", choices=["ours", "stock"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.who:
        with tempfile.TemporaryDirectory() as out:
            (ours if args.who == "ours" else stock)(args.data, out)
        return
    found: dict[str, list[float]] = {"ours": [], "stock": []}
    for round_ in range(args.rounds + 1):  # the first fills the caches
        for who, seconds in found.items():
            began = time.perf_counter()
            command = [sys.executable, __file__, "--data", str(args.data), "--who", who]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            line = json.loads([x for x in answer.stdout.splitlines() if x.startswith('{"seconds"')][-1])
            if round_:
                seconds.append(line["seconds"])
            print(who, f"{line['seconds']:.2f} s of {time.perf_counter() - began:.2f}", flush=True)
    ours_s, stock_s = (statistics.median(found[who]) for who in ("ours", "stock"))
    print(f"median to the end of the first step: ours {ours_s:.2f} s, stock {stock_s:.2f} s, {ours_s / stock_s:.2f}")


if __name__ == "__main__":
    main()
