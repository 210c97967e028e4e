#!/usr/bin/env python
"""What does tokenizing through the cache cost over the bare tokenizer? 100,000 texts, encoded to ids.

Bare: `tokenizer(texts)` over batches, as one calls it; below it the Rust core alone (`encode_batch_fast`), whose ids
nobody reads. Ours: `Recipe.tokenize` with an empty cache, so ids are also collected, written and synced; and a second
run, from the cache.

  python benchmarks/tokenization_speed.py --rows DATA/banking77/train.jsonl
"""

import argparse
import functools
import json
import statistics
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from common.runs import minilm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, help="JSON Lines with columns text and label")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    from nlp_pipeline import TextClassification
    from nlp_pipeline.data.tokenization import ROWS_A_BATCH, Encoder
    from nlp_pipeline.modeling.loading import load_tokenizer

    model = minilm()
    lines = [json.loads(line) for line in args.rows.read_text().splitlines()]
    rows = [{**row, "text": f"{row['text']} {i}"} for i, row in enumerate(islice(cycle(lines), args.count))]
    texts = [row["text"] for row in rows]
    times: dict[str, list[float]] = {
        who: [] for who in ("bare tokenizer", "its Rust core", "nlp-pipeline", "nlp-pipeline, second run")
    }
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as cache:
            recipe = TextClassification(model=model, train=rows, max_length=128, cache_dir=cache)
            recipe.load()
            tokenizer = load_tokenizer(recipe.config.model)
            core = Encoder(tokenizer, 128)._backend._truncating
            encoders = {
                "bare tokenizer": functools.partial(tokenizer, truncation=True, max_length=128),
                "its Rust core": core.encode_batch_fast,
            }
            for who, encode in encoders.items():
                began = time.perf_counter()
                for start in range(0, len(texts), ROWS_A_BATCH):
                    encode(texts[start : start + ROWS_A_BATCH])
                times[who].append(time.perf_counter() - began)
            for who in ("nlp-pipeline", "nlp-pipeline, second run"):
                began = time.perf_counter()
                recipe.tokenize()
                times[who].append(time.perf_counter() - began)
    base = statistics.median(times["bare tokenizer"])
    print("| who | seconds (median) | rows/s | of the bare tokenizer's time |\n|---|---|---|---|")
    for who, seconds in times.items():
        median = statistics.median(seconds)
        print(f"| {who} | {median:.2f} | {len(texts) / median:,.0f} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
