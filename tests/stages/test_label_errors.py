"""Likely label errors of a run: folds, resumption, the list, and what is refused."""

import io
import json

import numpy as np
import pytest
import yaml
from rich.console import Console

from nlp_pipeline import ConfigError, TextClassification, TokenClassification
from nlp_pipeline.cli import main
from nlp_pipeline.run_directory import json_line
from nlp_pipeline.stages.folds import fold_recipes, folds_of
from nlp_pipeline.stages.label_errors import _multi_label, closing_lines, error_table, find_label_errors

WORDS = {"money": "money order", "place": "paris london", "mood": "good great"}
SETTINGS = {
    "epochs": 8,
    "learning_rate": 5e-3,
    "precision": "fp32",
    "batch": {"size": 8},
    "evaluation": {"every": 1000},
}


def make_rows(count=60, flipped=(7, 20)):
    """Texts that a tiny model can tell apart, each several times, so that a flipped row, which has the next label, is
    outnumbered by its like."""
    labels = list(WORDS)
    texts = [f"the {WORDS[labels[i % 3]]} {i % 5}" for i in range(count)]
    shifted = [labels[(i + (i in flipped)) % 3] for i in range(count)]
    return [{"id": f"r{i}", "text": t, "label": label} for i, (t, label) in enumerate(zip(texts, shifted, strict=True))]


def make(tiny_bert, folder, rows, **settings):
    return TextClassification(model=tiny_bert, train=rows, dir=str(folder / "run"), **{**SETTINGS, **settings})


def test_flipped_rows_are_listed_worst_first_and_folds_resume(tiny_bert, tmp_path, monkeypatch):
    rows = make_rows()
    rows.append({"id": "lone", "text": "where is my parcel", "label": "only one"})
    found = make(tiny_bert, tmp_path, rows, epochs=12).label_errors(folds=3, progress=False)
    errors = found["label_errors"]
    assert {error["row_id"] for error in errors} == {"r7", "r20"}
    by_id = {row["id"]: row for row in rows}
    for error in errors:
        assert error["text"] == by_id[error["row_id"]]["text"]
        assert error["given"] == by_id[error["row_id"]]["label"]
        assert error["suggested"] == list(WORDS)[int(error["row_id"][1:]) % 3]
    assert [error["score"] for error in errors] == sorted(error["score"] for error in errors)
    assert found["not_judged"] == ["lone"]
    assert found["rows"] == 60
    assert 2 <= found["estimated_errors"] <= 4
    assert found["agreement"] <= 58 / 60  # the flipped ones, and few more, are not as the models say
    assert found["agreement"] > 0.9
    folder = tmp_path / "run-folds"
    assert sorted(path.name for path in folder.iterdir()) == [
        "audit.json",
        *(f"fold-{k}-of-3" for k in (1, 2, 3)),
        "label-errors.jsonl",
    ]
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr("nlp_pipeline.training.loop.fit", None)  # finished folds are read, not trained
    assert make(tiny_bert, tmp_path, rows, epochs=12).label_errors(folds=3, progress=False) == found


def test_folds_hold_every_row_out_once_and_keep_its_class_in_training(tiny_bert, tmp_path):
    rows = [*make_rows(31), {"id": "x", "text": "a", "label": "rare"}, {"id": "y", "text": "b", "label": "rare"}]
    recipe = make(tiny_bert, tmp_path, rows)
    recipe.load()
    fold = folds_of(recipe, 4)
    held = []
    for child in fold_recipes(recipe, fold, tmp_path / "folds"):
        splits = child.load()
        held += splits.test["row_id"]
        assert not set(splits.test["row_id"]) & set(splits.train["row_id"])
        assert len(splits.test) + len(splits.train) == len(rows)
        assert child.labels == recipe.labels
    assert sorted(held) == sorted(row["id"] for row in rows)
    for bad in (1, 34):
        with pytest.raises(ConfigError, match="--folds: found"):
            folds_of(recipe, bad)


def test_several_labels_a_row_are_judged_one_by_one(tiny_bert, tmp_path):
    names = [[name for k, name in enumerate(sorted(WORDS)) if (i >> k) % 2] for i in range(40)]
    probabilities = np.array([[0.9 if name in row else 0.1 for name in sorted(WORDS)] for row in names])
    rows = [{"id": f"r{i}", "text": f"card {i}", "labels": row} for i, row in enumerate(names)]
    rows[7]["labels"] = ["money", "place"]  # mood was forgotten
    rows[8]["labels"] = ["money"]  # none was right
    probabilities[7, 1] = 0.95
    recipe = make(tiny_bert, tmp_path, rows, options={"problem": "multi_label"})
    recipe.load()
    estimated, agreement, records = _multi_label(recipe, recipe.splits.train, probabilities, "class")
    assert estimated == 2
    assert agreement == pytest.approx(118 / 120)  # three labels a row, two of them wrong
    assert [(r["row_id"], r["given"], r["suggested"]) for r in records] == [
        ("r7", ["money", "place"], ["money", "mood", "place"]),
        ("r8", ["money"], []),
    ]
    assert [r["score"] for r in records] == pytest.approx([0.05, 0.1])


def test_labels_that_always_come_together_stay_learnable(tiny_bert, tmp_path):
    rows = [{"text": f"card {i}", "labels": ["a", "b"][: 1 + i % 2]} for i in range(12)]
    rows += [{"text": "x", "labels": ["r", "s"]}, {"text": "y", "labels": ["r", "s", "t"]}, {"text": "z", "labels": []}]
    recipe = make(tiny_bert, tmp_path, rows, options={"problem": "multi_label"})
    recipe.load()
    fold = folds_of(recipe, 3)
    assert fold[13] == -1  # the only row of t
    for child in fold_recipes(recipe, fold, tmp_path / "folds"):
        child.load()
        assert child.labels == recipe.labels


@pytest.mark.parametrize("kind", ["regression", "tags"])
def test_other_tasks_are_refused_with_the_reason(tiny_bert, tmp_path, kind):
    if kind == "regression":
        rows = [{"text": "a", "score": float(i)} for i in range(8)]
        recipe = make(tiny_bert, tmp_path, rows, options={"problem": "regression"})
    else:
        rows = [{"tokens": ["a", "b"], "tags": ["O", "B-X"]}] * 8
        recipe = TokenClassification(model=tiny_bert, train=rows, dir=str(tmp_path / "run"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected text classification with labels") as error:
        find_label_errors(recipe, folds=1, progress=False, output=tmp_path / "file" / "list.jsonl")
    assert len(error.value.problems) == 3
    assert "--folds: found 1, expected 2 or more" in str(error.value)
    assert "list.jsonl can't be written; name another file" in str(error.value)


def test_long_names_of_labels_are_shown_whole():
    record = {"row_id": "r1", "score": 0.1, "given": "G" * 40, "suggested": "S" * 40, "text": "some words " * 9}
    found = {"label_errors": [record], "rows": 9, "not_judged": ["r8"], "agreement": 0.75, "estimated_errors": 2}
    found["file"] = "list.jsonl"
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(error_table(found))
    printed = console.export_text()
    assert (printed.count("G"), printed.count("S")) == (40, 40)
    assert "agree with 75.0% of the labels" in closing_lines(found)[1]
    assert closing_lines(found)[-1] == "not judged, as the only rows of a label: r8"


def test_the_command_prints_a_table_or_json(tiny_bert, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(map(json_line, make_rows(30, flipped=(7,)))))
    training = {name: SETTINGS[name] for name in ("epochs", "learning_rate", "precision")}
    recipe = {"task": "text-classification", "model": tiny_bert, "data": {"train": "rows.jsonl"}, "training": training}
    recipe["evaluation"] = {"every": 1000}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({**recipe, "batch": {"size": 4}}))
    main_ends("label-errors", "x.yaml", "--folds", "2", "--output", "found.jsonl")
    printed = capsys.readouterr().out
    assert "fold 2 of 2: 15 rows held out" in printed
    assert "labels that are likely wrong" in printed
    assert "of all labels about " in printed
    written = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert "r7" in {record["row_id"] for record in written}
    main_ends("label-errors", "x.yaml", "--folds", "2", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["label_errors"] == written
    assert np.isclose(found["label_errors"][0]["score"], written[0]["score"])


def main_ends(*arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert not end.value.code
