"""The audit inside a run and as a command."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from audit_data_sets import clean
from commands import call

from nlp_pipeline import DataError, Recipe, TextClassification
from nlp_pipeline.audit.findings import Audit
from nlp_pipeline.data.problems import RowProblem

ROOT = Path(__file__).parents[2]
SHORT = {"max_steps": 1, "precision": "fp32"}


@pytest.fixture
def faulty(tiny_bert, tmp_path, monkeypatch):
    """A recipe file whose rows have an error (an empty text) and warnings (a duplicate, a spelling)."""
    data = clean("single", "jsonl", 5, named=True)
    rows = data.splits["train"]
    rows[3]["text"] = ""
    rows[4]["label"] = rows[4]["label"].upper()
    rows.append({**rows[7], "id": "copy"})
    data.recipe(tmp_path, tiny_bert)
    recipe = {
        "task": "text-classification",
        "model": tiny_bert,
        "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "training": SHORT,
    }
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path


def test_the_command_shows_a_table_and_leaves_with_code_2_on_errors(faulty, capsys):
    assert call("audit", "x.yaml") == 2
    printed = capsys.readouterr()
    assert "audit: 1 error, 2 warnings" in printed.out
    for check in ("missing", "label_spelling", "exact_duplicates"):
        assert check in printed.out
    assert "Traceback" not in printed.out + printed.err
    assert not (faulty / "runs").exists()
    assert call("audit", "x.yaml", "data.missing_labels=drop") == 0


def test_json_holds_every_row(faulty, capsys):
    assert call("audit", "x.yaml", "--json") == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["errors"], found["warnings"]) == (1, 2)
    rows = {finding["check"]: (finding["rows"], finding["partners"]) for finding in found["findings"]}
    assert rows["missing"] == (["train-3"], [])
    assert rows["exact_duplicates"] == (["copy"], ["train-7"])
    assert found["statistics"]["test"]["characters"]["median"] > 10
    assert json.loads(json.dumps(Audit.from_json(found).to_json())) == found


def test_what_fix_writes_trains(faulty, capsys):
    assert call("audit", "x.yaml", "--fix", "cleaned") == 0
    assert "nlp-pipeline train cleaned/recipe.yaml" in capsys.readouterr().out.replace("\n", "")
    actions = [json.loads(line) for line in (faulty / "cleaned" / "fixes.jsonl").read_text().splitlines()]
    assert [(change["action"], change["row_id"]) for change in actions] == [
        ("drop_row", "train-3"),
        ("change_label", "train-4"),
        ("drop_row", "copy"),
    ]
    assert call("train", "cleaned/recipe.yaml", "--quiet") == 0
    run = faulty / "runs" / "x-cleaned"
    assert json.loads((run / "audit.json").read_text())["findings"] == []
    assert (run / "results.json").exists()


def test_rows_that_cannot_be_loaded_at_all_are_told_the_same_way(faulty, capsys):
    assert call("audit", "x.yaml", "data.columns.text=nowhere") == 2
    assert '"nowhere"' in capsys.readouterr().out
    assert call("audit", "x.yaml", "data.columns.text=nowhere", "--fix", "cleaned") == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (faulty / "cleaned").exists()


def test_an_error_stops_a_run_before_the_model_is_loaded(tiny_bert, tmp_path, monkeypatch):
    data = clean("single", "jsonl", 6)
    for rows in data.splits.values():
        for i, row in enumerate(rows):
            row["text"] = f"слово номер {i} и ещё {i * 7919} слова"
    recipe = data.recipe(tmp_path, tiny_bert)
    monkeypatch.setattr("nlp_pipeline.modeling.loading.load_model", None)
    with pytest.raises(DataError) as error:
        recipe.run(progress=False)
    assert [problem.split(":")[0] for problem in error.value.problems] == ["train", "test"]
    assert "choose a model for this language" in str(error.value)
    assert not recipe.run_directory.audit.exists()


def rows_with_a_duplicate():
    rows = clean("single", "jsonl", 8).splits["train"]
    return [*rows, rows[0]]


def test_a_run_keeps_its_audit_and_reads_it_when_nothing_has_changed(tiny_bert, tmp_path, capsys, monkeypatch):
    rows = rows_with_a_duplicate()

    def run(**settings):
        settings = {"dir": str(tmp_path), **SHORT, **settings}
        TextClassification(model=tiny_bert, train=rows, **settings).run()
        return capsys.readouterr().out

    first = run()
    assert "exact_duplicates" in first
    kept = json.loads((tmp_path / "audit.json").read_text())
    assert [finding["rows"] for finding in kept["findings"]] == [["61"]]
    monkeypatch.setattr("nlp_pipeline.audit.checks.check_exact", None)
    again = run(max_steps=2)  # goes on from the checkpoint
    assert "audit: as before, 1 warnings" in again
    monkeypatch.undo()
    assert "exact_duplicates" not in run(max_steps=3, audit={"ignore": ["exact_duplicates"]})
    assert json.loads((tmp_path / "audit.json").read_text())["findings"] == []


def test_it_can_be_turned_off(tiny_bert, tmp_path):
    recipe = TextClassification(
        model=tiny_bert, train=rows_with_a_duplicate(), dir=str(tmp_path), audit={"enabled": False}, **SHORT
    )
    recipe.run(progress=False)
    assert recipe.audited is None
    assert not recipe.run_directory.audit.exists()


def test_the_sample_messages_come_out_clean(tiny_bert):
    from nlp_pipeline.stages.auditing import audit_alone

    for settings in ({"columns": {"label": "topic"}}, {"columns": {"label": "priority"}}):
        audit = audit_alone(TextClassification(model=tiny_bert, train="sample:messages", **settings))
        assert not audit.errors


@pytest.mark.parametrize("name", ["banking77", "nlupp_banking", "sick", "wnut17"])
def test_public_data_sets_have_no_errors_and_few_warnings(name, shared_data, minilm):
    from nlp_pipeline.stages.auditing import audit_alone

    recipes = {
        "banking77": "text-classification/banking77",
        "nlupp_banking": "text-classification/nlupp-banking",
        "sick": "text-classification/sick-entailment",
        "wnut17": "token-classification/wnut17",
    }
    files = {path.stem: str(path) for path in (shared_data / name).glob("*.jsonl")}
    audit = audit_alone(Recipe.from_yaml(ROOT / "recipes" / f"{recipes[name]}.yaml", model=minilm, **files))
    assert not audit.errors
    assert 0 < len(audit.warnings) < 12
    if name == "banking77":
        shared = next(finding for finding in audit.findings if finding.check == "shared_rows")
        assert (shared.rows[0], shared.partners[0], shared.count) == ("555", "1723", 7)


def test_a_problem_with_rows_survives_the_way_to_another_process():
    problem = RowProblem("train: 2 rows", "missing", {"train": ["1", "7"]})
    again = pickle.loads(pickle.dumps(problem))
    assert (again, again.check, again.rows) == (problem, "missing", {"train": ["1", "7"]})


def test_importing_the_audit_loads_no_torch():
    code = "import sys, nlp_pipeline.audit.checks, nlp_pipeline.audit.fixing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
