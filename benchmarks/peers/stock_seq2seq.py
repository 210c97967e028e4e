#!/usr/bin/env python
"""The peer for texts from texts: the stock Seq2SeqTrainer, one run a call, as a competent user would.

The same rows, new T5, tokenizer and settings as ours: AdamW (fused), linear decay after warm-up, weight decay 0.01,
clipping at 1.0, label smoothing, bfloat16 autocast, length-grouped batches padded to their longest row. Names (for
xquad_en_de numbers too) are taken out of the texts before and put back after, as ours does with
`options.copy_pattern`.

Prints one JSON line: task, seed, scores on the test set, seconds, settings.

  python stock_seq2seq.py --task e2e_nlg --data DATA --tokenizer FOLDER --seed 1
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sacrebleu.metrics import BLEU, CHRF
from shared import read_rows
from transformers import (
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    set_seed,
)

ARCHITECTURE = {
    "d_model": 192,
    "d_kv": 48,
    "d_ff": 384,
    "num_layers": 2,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
}
NAMES = re.compile(r"(?:name|near|eatType|food)\[([^\]]*)\]")
CAPITALS = re.compile(r"(?<=\s)([A-Z][\w'-]*(?: [A-Z][\w'-]*)*|\d[\d.,]*\d|\d)")
# task: epochs, batch size, beams, learning rate, and what is copied
TASKS = {"e2e_nlg": (6, 32, 1, 1.5e-3, NAMES), "xquad_en_de": (30, 32, 4, 2e-3, CAPITALS)}


def without_names(row: dict[str, str], pattern: re.Pattern[str]) -> tuple[str, str, list[str]]:
    """Source and target with marks for the names, and these."""
    found = list(pattern.finditer(row["source"]))
    names = [match[1] for match in found]
    source, target = row["source"], row["target"]
    for number, match in reversed(list(enumerate(found))):
        source = f"{source[: match.start(1)]}@{number}@{source[match.end(1) :]}"
    for number in sorted(range(len(names)), key=lambda n: -len(names[n])):
        target = re.sub(rf"(?<!\w){re.escape(names[number])}(?!\w)", f"@{number}@", target)
    return source, target, names


def with_names(text: str, names: list[str]) -> str:
    return re.sub(r"@(\d+)@", lambda mark: names[int(mark[1])] if int(mark[1]) < len(names) else "", text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    epochs, batch_size, beams, rate, pattern = TASKS[args.task]
    epochs, rate = args.epochs or epochs, args.learning_rate or rate
    train, test = (read_rows(args.data / args.task / f"{split}.jsonl") for split in ("train", "test"))
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    set_seed(args.seed)
    config = T5Config(
        vocab_size=len(tokenizer), decoder_start_token_id=tokenizer.pad_token_id, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, **ARCHITECTURE,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)

    def encoded(rows: list[dict[str, str]]) -> Dataset:
        pairs = [without_names(row, pattern) for row in rows]
        found = tokenizer([source for source, _, _ in pairs], truncation=True, max_length=512)
        labels = tokenizer([target for _, target, _ in pairs], truncation=True, max_length=96)["input_ids"]
        return Dataset.from_dict({"input_ids": found["input_ids"], "labels": labels})

    with tempfile.TemporaryDirectory(prefix="stock_seq2seq_") as folder:
        settings = Seq2SeqTrainingArguments(
            folder, num_train_epochs=epochs, per_device_train_batch_size=batch_size, seed=args.seed,
            per_device_eval_batch_size=64, learning_rate=rate, lr_scheduler_type="linear",
            warmup_steps=0.05, weight_decay=0.01, max_grad_norm=1.0, optim="adamw_torch_fused", bf16=args.bf16,
            label_smoothing_factor=0.1, train_sampling_strategy="group_by_length", save_strategy="no",
            report_to="none", logging_steps=50, disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
        )  # fmt: skip
        trainer = Seq2SeqTrainer(
            model, settings, train_dataset=encoded(train), processing_class=tokenizer,
            data_collator=DataCollatorForSeq2Seq(tokenizer, model),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)  # it prints to stdout, where only the result belongs
        ready = time.perf_counter()
        trainer.train()
        trained = time.perf_counter()
    references: dict[str, list[str]] = {}
    for row in test:
        references.setdefault(row["source"], []).append(row["target"])
    texts, sources = [], list(references)
    model = trainer.model.eval()
    for begin in range(0, len(sources), 64):
        part = [without_names({"source": s, "target": ""}, pattern) for s in sources[begin : begin + 64]]
        inputs = tokenizer([source for source, _, _ in part], return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        made = model.generate(**inputs.to(model.device), max_new_tokens=96, num_beams=beams, do_sample=False)
        found = tokenizer.batch_decode(made, skip_special_tokens=True)
        texts += [with_names(text, names).strip() for text, (_, _, names) in zip(found, part, strict=True)]
    most = max(map(len, references.values()))
    streams = [[r[i] if i < len(r) else None for r in references.values()] for i in range(most)]
    scores = {"bleu": BLEU().corpus_score(texts, streams).score, "chrf": CHRF().corpus_score(texts, streams).score}
    done = time.perf_counter()
    return {
        "peer": "stock_seq2seq", "task": args.task, "seed": args.seed, "scores": scores,
        "seconds": {"setup": ready - start, "train": trained - ready, "test": done - trained, "total": done - start},
        "rows": {"train": len(train), "test": len(sources)},
        "settings": {"epochs": epochs, "learning_rate": rate, "batch_size": batch_size},
        "samples": texts[:3],
    }  # fmt: skip


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--data", type=Path, required=True, help="holds e2e_nlg/ and xquad_en_de/")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=float, help="default: the task's own")
    parser.add_argument("--learning-rate", type=float, help="default: the task's own")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


if __name__ == "__main__":
    print(json.dumps(run(parse_args())), flush=True)
