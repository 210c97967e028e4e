"""The commands as a user calls them, on a tiny model."""

import io
import json

import pytest
import yaml
from commands import call


@pytest.fixture
def run(tmp_path, tiny_bert, monkeypatch):
    """A trained run of six steps."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f'{i},"the card {i} is late","{["a", "b"][i % 2]}"\n' for i in range(12))
    (tmp_path / "rows.csv").write_text("id,text,label\n" + rows)
    recipe = {
        "task": "text-classification",
        "model": tiny_bert,
        "data": {"train": "rows.csv", "test": "rows.csv"},
        "training": {"max_steps": 2, "precision": "fp32"},
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(recipe))
    call("train", "x.yaml")
    return tmp_path / "runs" / "x"


def test_train_prints_the_table_and_where_everything_lies(run, capsys):
    assert call("train", "x.yaml") == 0
    printed = capsys.readouterr().out
    assert "holds the finished run of this recipe" in printed
    assert "baseline: most frequent label" in printed
    assert str(run.relative_to(run.parents[1]) / "model") in printed


def test_predict_reads_a_file_or_standard_input_and_keeps_the_row_ids(run, capsys, monkeypatch, tmp_path):
    (tmp_path / "new.csv").write_text("id,text\nx7,where is the card\nx9,late again\n")
    capsys.readouterr()
    assert call("predict", run, "new.csv") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["row_id"] for line in lines] == ["x7", "x9"]
    monkeypatch.setattr("sys.stdin", io.StringIO('where is the card\n\n{"text": "late again"}\n'))
    assert call("predict", run) == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("where is the card\n\nlate again\n"))
    assert call("predict", run, "-o", "out.jsonl") == 0
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["row_id"] for line in written] == ["1", "3"]  # the numbers of the lines
    assert [line["prediction"] for line in written] == [line["prediction"] for line in lines]


def test_new_rows_need_neither_the_mapped_label_nor_the_mapped_names(tiny_bert, tmp_path):
    from nlp_pipeline import DataError, TextClassification

    rows = [{"body": f"the card {i}", "kind": "ab"[i % 2]} for i in range(8)]
    recipe = TextClassification(
        model=tiny_bert, train=rows, columns={"text": "body", "label": "kind"}, max_steps=1, dir=str(tmp_path)
    )
    recipe.run(progress=False)
    by_list = recipe.predict(["the card 1"])
    assert recipe.predict([{"body": "the card 1"}]) == by_list == recipe.predict([{"text": "the card 1"}])
    with pytest.raises(DataError, match="body"):
        recipe.predict([{"words": "the card 1"}])


def test_evaluate_gives_the_scores_of_the_run(run, capsys):
    capsys.readouterr()
    assert call("evaluate", run, "rows.csv", "--json") == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores == pytest.approx(json.loads((run / "results.json").read_text())["scores"], abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "missing.yaml"], "there is no recipe file missing.yaml. Did you mean"),
        (["predict", "runs/nothing"], "neither a finished run nor its model folder"),
        (["evaluate", "runs/x", "nothing.csv"], "nothing.csv"),
        (["evaluate", "runs/x", "unlabelled.csv"], "label"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(run, arguments, message, capsys, tmp_path):
    (tmp_path / "unlabelled.csv").write_text("text\na\n")
    (tmp_path / "missin.yaml").write_text("")
    assert call(*arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert message in printed
    assert "Traceback" not in printed


def test_a_crash_says_what_was_kept_and_how_to_go_on(run, capsys, monkeypatch):
    from nlp_pipeline.training.step import Stepper

    def broken(self, given):
        raise RuntimeError("the cable fell out")

    monkeypatch.setattr(Stepper, "step", broken)
    assert call("train", "x.yaml", "--fresh") == 1
    printed = capsys.readouterr().err
    assert "the cable fell out" in printed
    assert "Go on with the same command: nlp-pipeline" in printed


def test_a_loss_that_is_not_a_number_stops_with_code_3(run, capsys, monkeypatch):
    from nlp_pipeline import TextClassification

    monkeypatch.setattr(TextClassification, "loss", lambda self, outputs, targets: outputs.logits.sum() * float("nan"))
    assert call("train", "x.yaml", "--fresh") == 3
    assert "the loss or gradient of step 1 is not a finite number, in fp32 neither; rows: " in capsys.readouterr().err
    assert not list(run.with_name("x-2").glob("checkpoints/*"))
