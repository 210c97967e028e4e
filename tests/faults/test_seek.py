"""Going on from far inside a large data set: the uninterrupted order, and nothing before the position is read."""

import itertools

import numpy as np
import pytest

from nlp_pipeline import TextClassification
from nlp_pipeline.data.batching import Sampler
from nlp_pipeline.data.token_table import TokenTable
from nlp_pipeline.run_directory import RunDirectory
from nlp_pipeline.training.inputs import AHEAD
from nlp_pipeline.training.step import Stepper

ROWS = [{"text": f"the card {i} is late", "label": "ab"[i % 2]} for i in range(120)]


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["random", "length_grouped"])
def test_step_1_000_000_of_10_million_rows(monkeypatch, sampling):
    lengths = np.random.default_rng(0).integers(4, 100, 10_000_000, dtype=np.int32)
    sampler = Sampler(lengths, 32, 7, sampling)
    walked = list(itertools.islice(sampler.batches_from(0), 1_000_000, 1_000_003))
    permuted = []
    epoch = Sampler.epoch
    monkeypatch.setattr(Sampler, "epoch", lambda *which: permuted.append(which[1:]) or epoch(*which))
    sought = list(itertools.islice(sampler.batches_from(1_000_000), 3))
    assert [step for step, _ in sought] == [1_000_000, 1_000_001, 1_000_002]
    for (_, ours), (_, theirs) in zip(sought, walked, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert permuted == [(3, 62_500)]


class Interrupted(Exception):
    """Stands for a kill."""


def test_a_resumed_run_reads_only_the_rows_it_trains_on(tiny_bert, tmp_path, monkeypatch):
    def make():
        return TextClassification(
            model=tiny_bert, train=ROWS, max_steps=36, precision="fp32", batch={"size": 4}, checkpoint={"every": 1},
            log_every=1, compact_vocabulary=True, dir=str(tmp_path / "run"),
        )  # fmt: skip

    step = Stepper.step
    trained = {}

    def until(last):
        def stopping(self, given):
            if given.number == last:
                raise Interrupted
            trained.setdefault(given.number, given.rows.tolist())
            return step(self, given)

        return stopping

    monkeypatch.setattr(Stepper, "step", until(33))
    with pytest.raises(Interrupted):
        make().run(progress=False)
    recipe = make()
    recipe.tokenize()
    read = []
    sequences = TokenTable.sequences

    def noted(self, name, rows):
        read.extend(rows.tolist())
        return sequences(self, name, rows)

    # The rows of some steps, not those before; the metric log, whose length the checkpoint knows, not at all.
    monkeypatch.setattr(TokenTable, "sequences", noted)
    monkeypatch.setattr(RunDirectory, "history", None)
    monkeypatch.setattr(Stepper, "step", until(34))
    with pytest.raises(Interrupted):
        recipe.fit()
    assert 33 in trained
    assert set(trained[33]) <= set(read)
    assert len(read) <= (AHEAD + 3) * 4
    monkeypatch.undo()
    assert [entry["step"] for entry in RunDirectory(tmp_path / "run").history()] == list(range(1, 35))
    assert sorted(row for number in range(30) for row in trained[number]) == list(range(120))
