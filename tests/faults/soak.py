#!/usr/bin/env python
"""Kills training at random moments, with random seeds, for as long as one likes: `python -m tests.faults.soak`.

Each round starts a run, kills it a random number of times (now and then with SIGTERM, now and then a byte of the newest
checkpoint flips in between), lets it end, and compares the weights with those of a run left alone. Prints a line a
round. Stops at the first difference or failure, with its folder kept and exit code 1.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it
from conftest import write_tiny_bert
from faults.killing import killed_until_done, same, start, weights, write_recipe


def left_alone(recipe, folder, processes):
    """The weights of an uninterrupted run. Dropout differs from process to process, so the number of them counts."""
    out = folder / f"through-{processes}"
    if not out.exists():
        output, _ = start(recipe, out, processes=processes).communicate(timeout=600)
        if not (out / "results.json").exists():
            raise SystemExit(f"the run that nobody touched failed:\n{output}")
    return weights(out)


def one_round(recipe, folder, seed):
    """What was done in words, and whether the weights are those of the run left alone."""
    chance = random.Random(seed)
    processes, background = chance.choice([1, 1, 1, 2]), chance.random() < 0.5
    wanted = left_alone(recipe, folder, processes)
    out = folder / f"cut-{seed}"
    options = [f"checkpoint.background={str(background).lower()}", "checkpoint.keep=3"]
    kills = chance.randint(1, 8)
    made, saving = killed_until_done(recipe, out, kills, chance, *options, processes=processes, unkind=True)
    good = same(weights(out), wanted)
    words = f"{processes} process(es), background {background}, {made} interruptions, {saving} inside a save"
    if good:
        shutil.rmtree(out)
    return words, good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round; printed")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nlp-pipeline-soak-"))
    os.environ["NLP_PIPELINE_CACHE"] = str(folder / "cache")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    recipe = write_recipe(folder, write_tiny_bert(folder / "tiny-bert"))
    ends, seed = time.monotonic() + args.hours * 3600, args.seed
    while time.monotonic() < ends:
        words, good = one_round(recipe, folder, seed)
        print(f"seed {seed}: {words}: {'same weights' if good else f'OTHER WEIGHTS in {folder}'}", flush=True)
        if not good:
            sys.exit(1)
        seed += 1
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
