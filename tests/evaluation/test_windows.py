"""Prediction and evaluation hold one window of rows at a time; what comes out is that of all rows at once."""

import gzip
import io
import json
import os
import weakref
from dataclasses import replace

import numpy as np
import pytest
from commands import call

from nlp_pipeline import DataError, Recipe, TextClassification, TokenClassification
from nlp_pipeline.evaluation.metrics import METRICS, Outputs, compute_metrics, store
from nlp_pipeline.evaluation.metrics.store import GrowingArray, OutputStore, TagColumn
from nlp_pipeline.stages.scoring import evaluate_source
from nlp_pipeline.standard_input import row_windows

ROWS = [{"id": f"r{i}", "text": f"the card {i} is late " * (1 + i * 7 % 5), "label": "abc"[i % 3]} for i in range(40)]


@pytest.fixture(scope="module")
def run(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    TextClassification(
        model=tiny_bert, train=ROWS, test=ROWS, max_steps=2, precision="fp32", learning_rate=1e-3, dir=str(folder),
        metrics=["accuracy", "f1_macro", "log_loss", "roc_auc"],
    ).run(progress=False)  # fmt: skip
    return folder


def opened(run, window):
    recipe = Recipe.from_pretrained(run)
    recipe.config = recipe.config.model_copy(
        update={"batch": recipe.config.batch.model_copy(update={"window": window, "evaluation": 4})}
    )
    return recipe


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("window", [1, 7, 40])
def test_any_window_gives_the_same_predictions_and_scores(run, tmp_path, window):
    whole, parts = opened(run, 1000), opened(run, window)
    (tmp_path / "rows.jsonl").write_text(lines(ROWS))
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines(ROWS).encode()))
    wanted = whole.predict(ROWS)
    assert [record["row_id"] for record in wanted] == [row["id"] for row in ROWS]
    unnamed = [{"text": row["text"]} for row in ROWS]
    for given in (ROWS, tmp_path / "rows.jsonl", str(tmp_path / "rows.jsonl.gz"), io.StringIO(lines(ROWS))):
        found = list(parts.predict_windows(given))
        if not isinstance(given, io.StringIO):
            assert [len(records) for records in found] == [min(window, 40 - i) for i in range(0, 40, window)]
        same([record for records in found for record in records], wanted)
    same(parts.predict(unnamed), [{**record, "row_id": str(i)} for i, record in enumerate(wanted, 1)])
    scores, again = (evaluate_source(recipe, str(tmp_path / "rows.jsonl"), progress=False) for recipe in (whole, parts))
    assert again["rows"] == 40
    assert again["scores"] == pytest.approx(scores["scores"], abs=2e-3)  # a tie more or less in the ranks of roc_auc


def same(found, wanted):
    """Equal but for the last digits of scores: other rows in a batch, other rounding."""
    assert [{**record, "score": 0} for record in found] == [{**record, "score": 0} for record in wanted]
    np.testing.assert_allclose([r["score"] for r in found], [r["score"] for r in wanted], atol=1e-5)


@pytest.mark.parametrize("evaluate", [False, True])
def test_no_more_than_one_window_of_outputs_is_alive(run, tmp_path, monkeypatch, evaluate):
    recipe = opened(run, 2)
    (tmp_path / "rows.jsonl").write_text(lines(ROWS))
    alive, most = weakref.WeakSet(), []
    collect = TextClassification.collect

    class Value(np.ndarray):
        """An array that weak references can follow by identity."""

        __hash__ = object.__hash__
        __eq__ = object.__eq__

    def watched(self, outputs, batch):
        values = [row.copy().view(Value) for row in collect(self, outputs, batch)]
        for value in values:
            alive.add(value)
        most.append(len(alive))
        return values

    monkeypatch.setattr(TextClassification, "collect", watched)
    if evaluate:
        evaluate_source(recipe, str(tmp_path / "rows.jsonl"), progress=False)
    else:
        for _ in recipe.predict_windows(tmp_path / "rows.jsonl"):
            pass
    assert len(most) == 20
    assert max(most) <= 4  # the window at work, and the one whose answers are being written


def test_a_run_is_scored_the_same_in_windows(tiny_bert, tmp_path):
    rows = [
        {"tokens": ["go", "to", "paris"] * (1 + i % 3), "tags": ["O", "O", "B-LOC"] * (1 + i % 3)} for i in range(12)
    ]
    results = []
    for window in (5, 100):
        recipe = TokenClassification(
            model=tiny_bert, train=rows, validation=rows, test=rows, max_steps=4, precision="fp32",
            batch={"window": window}, dir=str(tmp_path / str(window)),
        )  # fmt: skip
        results.append(recipe.run(progress=False))
        written = (tmp_path / str(window) / "predictions" / "test.jsonl").read_text().splitlines()
        assert [json.loads(line)["row_id"] for line in written] == [str(i) for i in range(1, 13)]
    assert results[0]["scores"] == pytest.approx(results[1]["scores"], abs=1e-6)
    assert results[0]["baseline"] == results[1]["baseline"]


def outputs_of(kind, rows, labels=5):
    generator = np.random.default_rng(rows)
    names = tuple(f"label {i}" for i in range(labels))
    scores = generator.dirichlet(np.ones(labels), rows).astype(np.float32)
    if kind == "single_label":
        return Outputs(kind, scores.argmax(1), generator.integers(0, labels, rows), scores, names)
    if kind == "multi_label":
        return Outputs(kind, scores > 0.3, generator.random((rows, labels)) > 0.5, scores, names)
    if kind == "regression":
        return Outputs(kind, generator.normal(size=rows), generator.normal(size=rows))
    tags = np.array(["O", "B-A", "I-A", "B-B"])
    sentences = [[tags[generator.integers(0, 4, n)].tolist() for n in range(rows)] for _ in range(2)]
    return Outputs(kind, *sentences)


def part_of(outputs, rows):
    cut = {name: getattr(outputs, name)[rows] for name in ("predictions", "references")}
    return replace(outputs, **cut, scores=None if outputs.scores is None else outputs.scores[rows])


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression", "tags"])
@pytest.mark.parametrize("spill", [0, 2**20])
def test_metrics_over_windows_are_exactly_those_of_the_whole(monkeypatch, kind, spill):
    monkeypatch.setattr(store, "SPILL_BYTES", spill)
    monkeypatch.setattr("nlp_pipeline.evaluation.metrics.tagging.SENTENCES", 4)
    monkeypatch.setattr("nlp_pipeline.evaluation.metrics.classification.BLOCK_CELLS", 30)
    outputs = outputs_of(kind, 23)
    names = [name for name, spec in METRICS.items() if kind in spec.kinds]
    for capacity in (1, 23):
        gathered = OutputStore(names, capacity)
        for start in range(0, 23, 5):
            gathered.add(part_of(outputs, slice(start, start + 5)))
        found = gathered.outputs()
        assert isinstance(found.predictions, TagColumn if kind == "tags" else np.ndarray)
        assert gathered.compute() == pytest.approx(compute_metrics(names, outputs), rel=0, abs=0, nan_ok=True)


def test_scores_are_kept_only_for_metrics_that_read_them_all():
    outputs = outputs_of("single_label", 23)
    for names, kept in ((["accuracy"], (False, False)), (["log_loss"], (False, True)), (["roc_auc"], (True, False))):
        gathered = OutputStore(names, 23)
        gathered.add(outputs)
        found = gathered.outputs()
        assert (found.scores is not None, found.reference_scores is not None) == kept
        assert gathered.compute() == compute_metrics(names, outputs)


def test_what_is_large_lies_in_a_file(monkeypatch):
    monkeypatch.setattr(store, "SPILL_BYTES", 1000)
    column = GrowingArray(10)
    for start in range(0, 3000, 100):
        column.append(np.arange(2 * start, 2 * start + 200, dtype=np.float32).reshape(100, 2))
    assert isinstance(column.array, np.memmap)
    assert np.array_equal(column.array, np.arange(6000, dtype=np.float32).reshape(3000, 2))


def test_what_was_predicted_before_an_error_is_kept_and_said(run, tmp_path, monkeypatch, capsys):
    recipe = opened(run, 2)
    monkeypatch.setattr(Recipe, "from_pretrained", lambda path, trust=False: recipe)
    rows = [{"text": f"row {i}"} for i in range(6)]
    monkeypatch.setattr("sys.stdin", io.StringIO(lines([*rows, {"text": ""}])))
    assert call("predict", run, "-o", tmp_path / "out.jsonl") == 2
    said = capsys.readouterr().err
    assert "row 7 (line 7)" in said
    assert "the first 6 predictions are in" in said
    assert not (tmp_path / "out.jsonl").exists()
    kept = (tmp_path / "out.jsonl.partial").read_text().splitlines()
    assert [json.loads(line)["row_id"] for line in kept] == ["1", "2", "3", "4", "5", "6"]
    (tmp_path / "bad.jsonl").write_text(lines([*rows, {"text": ""}]))  # a file is looked through before
    assert call("predict", run, tmp_path / "bad.jsonl", "-o", tmp_path / "other.jsonl") == 2
    assert "row 7 (line 7)" in capsys.readouterr().err
    assert not list(tmp_path.glob("*other*"))


def test_a_label_that_is_unknown_is_found_in_any_window_before_scoring(run, tmp_path, monkeypatch):
    (tmp_path / "rows.jsonl").write_text(lines([*ROWS, {"id": "last", "text": "a", "label": "new"}]))
    monkeypatch.setattr(TextClassification, "collect", None)
    with pytest.raises(DataError, match=r"the label 'new' \(rows last\)"):
        evaluate_source(opened(run, 7), str(tmp_path / "rows.jsonl"), progress=False)


def test_a_reader_that_stops_early_is_no_error(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "rows.jsonl").write_text(lines(ROWS))
    with open(tmp_path / "closed", "w+b") as file:
        gone = io.TextIOWrapper(file)

        def broken():
            raise BrokenPipeError

        gone.flush = broken
        monkeypatch.setattr("sys.stdout", gone)
        assert call("predict", run, tmp_path / "rows.jsonl") == 141
        monkeypatch.undo()
        del gone.flush
        gone.detach()
    assert "Traceback" not in capsys.readouterr().err


def test_lines_of_a_pipe_are_given_as_soon_as_no_more_are_waiting():
    receiver, sender = os.pipe()
    with open(receiver, encoding="utf-8") as stream:
        windows = row_windows(stream, 3)
        os.write(sender, b"one\n\ntwo\nthr")
        assert next(windows) == ([1, 3], ["one", "two"])
        os.write(sender, b"ee\n" + "für\n".encode() * 4)
        assert next(windows) == ([4, 5, 6], ["three", "für", "für"])
        os.write(sender, b'{"broken\n["a", "b"]')
        os.close(sender)
        rest = list(windows)
    assert [number for numbers, _ in rest for number in numbers] == [7, 8, 9, 10]
    assert [row for _, rows in rest for row in rows] == ["für", "für", '{"broken', ["a", "b"]]


def test_one_kind_of_line_only():
    with pytest.raises(DataError, match="line 3 is the first of another kind"):
        list(row_windows(io.StringIO('{"text": "a"}\n\nplain\n'), 1))
