#!/usr/bin/env python
"""The peer to beat in question answering: the stock Trainer on XQuAD as its example script does it, one run a call.

Settings shared with recipes/question-answering/xquad.yaml: windows of 256 tokens that share 64, AdamW (fused), warm-up
over a tenth of the steps and linear decay, weight decay 0.01, gradient clipping at 1.0, bfloat16 autocast; batches of
windows of like length, padded to the longest. All training rows are trained on, the last weights are scored. The best
span is that of the 20 best starts and ends with the largest sum of logits and at most 30 tokens; its score
is by the same function as ours.

Prints one JSON line, as cross_encoder.py does.

  python stock_question_answering.py --data DATA --model PATH --seed 1          (DATA holds xquad_en/)
"""

import argparse
import tempfile
from typing import Any

import numpy as np
from datasets import Dataset
from shared import Clock, options, print_answer, read_rows, stock_settings
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from nlp_pipeline.evaluation.metrics import Outputs
from nlp_pipeline.evaluation.metrics.answers import squad

STRIDE, MOST_TOKENS, BEST = 64, 30, 20


def windows_of(tokenizer: Any, rows: list[dict[str, Any]], max_length: int) -> Any:
    """Tokenized windows; `offset_mapping` is None outside of the context."""
    found = tokenizer(
        [row["question"] for row in rows], [row["context"] for row in rows], truncation="only_second",
        max_length=max_length, stride=STRIDE, return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    found["offset_mapping"] = [
        [edges if side == 1 else None for edges, side in zip(offsets, found.sequence_ids(i), strict=True)]
        for i, offsets in enumerate(found["offset_mapping"])
    ]
    return found


def span_of(offsets: list[Any], answer: tuple[str, int]) -> tuple[int, int]:
    """First and last token of an answer, (0, 0) where it isn't whole in the window."""
    text, begin = answer
    end = begin + len(text)
    inside = [i for i, edges in enumerate(offsets) if edges is not None]
    if not inside or offsets[inside[0]][0] > begin or offsets[inside[-1]][1] < end:
        return 0, 0
    first = max(i for i in inside if offsets[i][0] <= begin)
    last = min(i for i in inside if offsets[i][1] >= end)
    return first, last


def inputs_of(found: Any, **more: Any) -> Dataset:
    names = ("input_ids", "token_type_ids", "attention_mask")
    return Dataset.from_dict({name: found[name] for name in names if name in found} | more)


def answers_of(found: Any, logits: tuple[np.ndarray, np.ndarray], rows: list[dict[str, Any]]) -> list[str]:
    best: list[tuple[float, str]] = [(-np.inf, "")] * len(rows)
    for window, row in enumerate(found["overflow_to_sample_mapping"]):
        offsets = found["offset_mapping"][window]
        starts, ends = (side[window][: len(offsets)] for side in logits)
        for a in np.argsort(-starts)[:BEST]:
            for b in np.argsort(-ends)[:BEST]:
                if offsets[a] is None or offsets[b] is None or b < a or b - a + 1 > MOST_TOKENS:
                    continue
                score = float(starts[a] + ends[b])
                if score > best[row][0]:
                    best[row] = score, rows[row]["context"][offsets[a][0] : offsets[b][1]]
    return [text for _, text in best]


def right_answers(row: dict[str, Any]) -> list[tuple[str, int]]:
    return list(zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True))


def run(args: argparse.Namespace) -> None:
    clock = Clock()
    set_seed(args.seed)
    folder = args.data / "xquad_en"
    train, test = read_rows(folder / "train.jsonl", args.max_train_rows), read_rows(folder / "test.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForQuestionAnswering.from_pretrained(args.model)
    found, asked = (windows_of(tokenizer, rows, args.max_length) for rows in (train, test))
    windows = zip(found["offset_mapping"], found["overflow_to_sample_mapping"], strict=True)
    spans = [span_of(offsets, right_answers(train[row])[0]) for offsets, row in windows]
    first, last = zip(*spans, strict=True)
    rows = inputs_of(found, start_positions=first, end_positions=last)
    with tempfile.TemporaryDirectory(prefix="stock_question_answering_") as place:
        settings = stock_settings(args, warmup_steps=0.1, train_sampling_strategy="group_by_length")
        trainer = Trainer(
            model=model,
            args=TrainingArguments(place, **settings),
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)  # it prints to stdout, where only the result belongs
        clock.mark("setup")
        trainer.train()
        clock.mark("train")
        trainer.args.train_sampling_strategy = "random"  # with length grouping the test rows would be shuffled
        logits = trainer.predict(inputs_of(asked)).predictions
    texts = answers_of(asked, (np.asarray(logits[0]), np.asarray(logits[1])), test)
    scores = squad(Outputs("text", texts, [[text for text, _ in right_answers(row)] for row in test]))
    clock.mark("test")
    print_answer("stock_question_answering", args, scores, clock, {"train": train, "test": test})


def parse_args() -> argparse.Namespace:
    parser = options(__doc__, "xquad", epochs=5, learning_rate=3e-4, batch_size=16, max_length=256)
    parser.add_argument("--model", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    run(parse_args())
