"""Bootstrap intervals: against resampling done the slow way, for coverage, and with their work bounded."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_pipeline.config.schema import IntervalsConfig
from nlp_pipeline.evaluation import intervals
from nlp_pipeline.evaluation.intervals import bootstrap_intervals
from nlp_pipeline.evaluation.metrics import METRICS, Outputs, compute_metrics
from nlp_pipeline.evaluation.metrics.counts import RANDOM_GROUPS
from nlp_pipeline.evaluation.metrics.store import OutputStore
from nlp_pipeline.evaluation.metrics.tagging import tally

TAGS = ["O", "B-PER", "I-PER", "B-LOC"]


def outputs_of(kind, seed, rows):
    """Outputs of a model that is right most of the time."""
    random = np.random.default_rng(seed)
    if kind == "single_label":
        truth = random.integers(0, 4, rows)
        guess = np.where(random.random(rows) < 0.7, truth, random.integers(0, 4, rows))
        return Outputs(kind, guess, truth, random.dirichlet(np.ones(4), rows), ("a", "b", "c", "d"))
    if kind == "multi_label":
        truth = random.random((rows, 3)) < 0.3
        return Outputs(kind, truth ^ (random.random((rows, 3)) < 0.1), truth, random.random((rows, 3)), ("a", "b", "c"))
    if kind == "regression":
        truth = random.normal(size=rows)
        return Outputs(kind, truth + random.normal(size=rows), truth)
    truth = [[TAGS[i] for i in random.integers(0, 4, random.integers(1, 9))] for _ in range(rows)]
    guess = [[tag if random.random() < 0.8 else "O" for tag in row] for row in truth]
    return Outputs("tags", guess, truth)


def names_for(kind):
    return [name for name, spec in METRICS.items() if kind in spec.kinds]


KINDS = st.sampled_from(["single_label", "multi_label", "regression", "tags"])


@given(kind=KINDS, seed=st.integers(0, 10**6), rows=st.integers(1, 40))
@settings(max_examples=12)
def test_intervals_hold_the_score_and_are_the_same_again(kind, seed, rows):
    outputs, few = outputs_of(kind, seed, rows), IntervalsConfig(resamples=100)
    names = names_for(kind)
    scores, found = compute_metrics(names, outputs), bootstrap_intervals(names, outputs, few)
    assert found == bootstrap_intervals(names, outputs, few)
    assert found == {k: v for name in names for k, v in bootstrap_intervals([name], outputs, few).items()}
    wanted = {key for key, score in scores.items() if np.isfinite(score) and not key.startswith("support")}
    assert found.keys() <= wanted
    assert {METRICS[name].main_key for name in names if np.isfinite(scores[METRICS[name].main_key])} <= found.keys()
    assert all(low <= scores[key] <= high for key, (low, high) in found.items())


@given(kind=st.sampled_from(["single_label", "multi_label", "tags"]), seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_sums_of_counts_give_the_metrics_of_the_drawn_rows(kind, seed):
    outputs = outputs_of(kind, seed, 12)
    for name in (n for n in names_for(kind) if METRICS[n].counts_rows):
        spec, table = METRICS[name], METRICS[name].tally(outputs)
        assert table.times.sum() == len(outputs)
        whole = np.asarray(table.table.T @ table.times.astype(float))
        again = spec.resolve()(outputs, counted=table.read(whole), **spec.options)
        assert again == pytest.approx(spec.values(outputs), nan_ok=True)


def test_rows_drawn_one_by_one_give_the_same_ends():
    outputs, random = outputs_of("tags", 3, 80), np.random.default_rng(1)
    slow = []
    for _ in range(400):
        rows = random.integers(0, 80, 80)
        drawn = Outputs("tags", [outputs.predictions[i] for i in rows], [outputs.references[i] for i in rows])
        slow.append(compute_metrics(["seqeval"], drawn)["f1"])
    fast = bootstrap_intervals(["seqeval"], outputs, IntervalsConfig(resamples=4000))["f1"]
    assert fast == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.01)


def test_accuracy_of_many_samples_is_covered_as_often_as_promised():
    """Binomial accuracy: of 600 intervals of 90 %, near 540 hold the true rate (sd 7.3; the bootstrap is a bit short)."""
    random, rate = np.random.default_rng(7), 0.8
    wanted = IntervalsConfig(confidence=0.9, resamples=400)
    held = 0
    for _ in range(600):
        truth = np.zeros(200, np.int64)
        outputs = Outputs("single_label", (random.random(200) > rate).astype(np.int64), truth, None, ("a", "b"))
        low, high = bootstrap_intervals(["accuracy"], outputs, wanted)["accuracy"]
        held += low <= rate <= high
    assert 0.86 <= held / 600 <= 0.94


def test_words_of_one_sentence_are_drawn_together():
    """Ten words that are right or wrong together are one piece of evidence, not ten."""
    right = np.repeat(np.random.default_rng(0).random(50) < 0.7, 10).astype(np.int64)
    alone = Outputs("single_label", right, np.ones(500, np.int64), None, ("a", "b"))
    whole = replace(alone, row_of=np.repeat(np.arange(50), 10))
    widths = [np.diff(bootstrap_intervals(["accuracy"], o, IntervalsConfig())["accuracy"])[0] for o in (alone, whole)]
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(10), rel=0.1)


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "tags"])
def test_counts_taken_in_blocks_are_those_of_the_whole(kind, monkeypatch):
    outputs, name = outputs_of(kind, 5, 60), "seqeval" if kind == "tags" else "f1_macro"
    whole = METRICS[name].tally(outputs)
    monkeypatch.setattr("nlp_pipeline.evaluation.metrics.tagging.SENTENCES", 7)
    monkeypatch.setattr(
        "nlp_pipeline.evaluation.metrics.classification.BLOCK_CELLS", 112
    )  # seven labels, or two rows of three
    parts = METRICS[name].tally(outputs)
    assert np.array_equal(whole.table.toarray(), parts.table.toarray())
    assert np.array_equal(whole.times, parts.times)


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "tags"])
def test_random_groups_of_many_rows_give_about_the_same_ends(kind, monkeypatch):
    """Rows that lie sorted too: groups of neighbours would make rows of one class look like one row."""
    outputs, name = outputs_of(kind, 5, 3000), "seqeval" if kind == "tags" else "f1_macro"
    if kind == "single_label":
        order = np.argsort(outputs.references, kind="stable")
        outputs = Outputs(kind, outputs.predictions[order], outputs.references[order], None, outputs.label_names)
    key = METRICS[name].main_key
    alone = bootstrap_intervals([name], outputs, IntervalsConfig())[key]
    monkeypatch.setattr("nlp_pipeline.evaluation.metrics.counts.MOST_GROUPS", 5)
    monkeypatch.setattr("nlp_pipeline.evaluation.metrics.classification.MOST_GROUPS", 5)
    tally = METRICS[name].tally(outputs)
    assert len(tally.times) == RANDOM_GROUPS
    grouped = bootstrap_intervals([name], outputs, IntervalsConfig())[key]
    assert grouped != alone
    assert np.diff(grouped)[0] == pytest.approx(np.diff(alone)[0], rel=0.15)
    assert np.mean(grouped) == pytest.approx(np.mean(alone), abs=np.diff(alone)[0] / 10)


def test_windows_of_rows_give_the_intervals_of_the_whole():
    """Words know their sentence over the windows' borders, and the log loss needs one probability a row."""
    words = outputs_of("single_label", 4, 90)
    of_sentences = replace(words, scores=None, row_of=np.repeat(np.arange(30), 3))
    for outputs, name in ((of_sentences, "accuracy"), (words, "log_loss")):
        gathered = OutputStore([name], 90)
        for start in range(0, 90, 30):
            part = slice(start, start + 30)
            columns = {
                c: v[part] for c in ("predictions", "references", "scores") if (v := getattr(outputs, c)) is not None
            }
            row_of = None if outputs.row_of is None else outputs.row_of[:30]
            gathered.add(replace(outputs, **columns, row_of=row_of))
        found = bootstrap_intervals([name], gathered.outputs(), IntervalsConfig())
        assert found == bootstrap_intervals([name], outputs, IntervalsConfig())
        assert found


def test_a_costly_metric_of_many_rows_gets_fewer_resamples_or_none(monkeypatch):
    outputs = outputs_of("regression", 0, 1000)
    computed = []
    plain = METRICS["mae"].resolve()
    monkeypatch.setattr("nlp_pipeline.evaluation.metrics.regression.mae", lambda o: computed.append(1) or plain(o))
    for work, wanted in ((10**6, 1000), (300_000, 300), (100_000, 0)):
        computed.clear()
        monkeypatch.setattr(intervals, "MOST_WORK", work)
        found = bootstrap_intervals(["mae"], outputs, IntervalsConfig())
        assert len(computed) == wanted + bool(found)
        assert bool(found) == bool(wanted)


def test_none_are_given_for_no_rows_or_where_they_are_off():
    assert bootstrap_intervals(["accuracy"], outputs_of("single_label", 0, 0), IntervalsConfig()) == {}
    assert bootstrap_intervals(["accuracy"], outputs_of("single_label", 0, 9), None) == {}


def test_a_tally_of_sentences_counts_entities_and_tokens():
    outputs = Outputs("tags", [["B-PER", "O"], ["O"]], [["B-PER", "O"], ["B-LOC"]])
    # columns: correct LOC, PER; predicted LOC, PER; expected LOC, PER; tokens that are right, tokens
    assert tally(outputs).table.toarray().tolist() == [[0, 1, 0, 1, 0, 1, 2, 2], [0, 0, 0, 0, 1, 0, 0, 1]]


def test_a_run_shows_its_intervals(tiny_bert, tmp_path, capsys):
    from nlp_pipeline import Recipe, TextClassification
    from nlp_pipeline.stages.scoring import evaluate_source

    rows = [{"text": f"the card {i} is late", "label": "ab"[i % 2]} for i in range(12)]
    made = {"model": tiny_bert, "train": rows, "test": rows, "max_steps": 1, "precision": "fp32"}
    results = TextClassification(**made, intervals={"confidence": 0.8}, dir=str(tmp_path / "run")).run()
    low, high = results["intervals"]["accuracy"]
    assert low <= results["scores"]["accuracy"] <= high
    assert "80% interval" in capsys.readouterr().out
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"| {low:.4f} to {high:.4f} |" in card
    again = evaluate_source(Recipe.from_pretrained(tmp_path / "run"), rows, progress=False)
    assert again["intervals"].keys() == results["intervals"].keys()
    without = TextClassification(**made, intervals=None, dir=str(tmp_path / "without")).run()
    assert "intervals" not in without
