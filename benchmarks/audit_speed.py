#!/usr/bin/env python
"""How long does the data audit take on 100,000 short rows?

The rows are variations of real ones: words left out, doubled or swapped at random, so that many are near duplicates;
a tenth as many test rows. Times the checks of a run (rows loaded, tokenizer loaded) and, apart, what comes before.

  python benchmarks/audit_speed.py --rows DATA/banking77/train.jsonl
"""

import argparse
import json
import random
import statistics
import time
from pathlib import Path

from common.runs import minilm


def variation(text: str, rng: random.Random) -> str:
    words = text.split()
    for _ in range(rng.randrange(1, 5)):
        place = rng.randrange(len(words))
        change = rng.randrange(3)
        if change == 0 and len(words) > 3:
            del words[place]
        elif change == 1:
            words.insert(place, rng.choice(words))
        else:
            other = rng.randrange(len(words))
            words[place], words[other] = words[other], words[place]
    return " ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, help="JSON Lines with columns text and label")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    from nlp_pipeline import TextClassification
    from nlp_pipeline.stages.auditing import audit_alone
    from nlp_pipeline.stages.tokenizing import make_encoder

    model = minilm()
    lines = [json.loads(line) for line in args.rows.read_text().splitlines()]
    rng = random.Random(1)

    def rows(count: int) -> list[dict[str, str]]:
        return [{**row, "text": variation(row["text"], rng)} for row in rng.choices(lines, k=count)]

    train, test = rows(args.count), rows(args.count // 10)
    loading, checking = [], []
    for _ in range(args.rounds):
        recipe = TextClassification(model=model, train=train, test=test, max_length=128)
        began = time.perf_counter()
        recipe.load()
        make_encoder(recipe)
        loading.append(time.perf_counter() - began)
        began = time.perf_counter()
        audit = audit_alone(recipe)
        checking.append(time.perf_counter() - began)
    for finding in audit.findings:
        print(f"{finding.check}, {finding.split}: {finding.count:,} rows")
    print("| what | seconds (median) | rows/s |\n|---|---|---|")
    for what, seconds in (("load rows and tokenizer", loading), ("load rows again and audit them", checking)):
        median = statistics.median(seconds)
        print(f"| {what} | {median:.2f} | {(len(train) + len(test)) / median:,.0f} |")


if __name__ == "__main__":
    main()
