"""Two processes train and score as one does: the same global batches, the same weights up to rounding."""

import json

import numpy as np
import pytest
import yaml
from multi_process.launching import PREDICT, TRAIN, launch
from safetensors.numpy import load_file

pytestmark = pytest.mark.multi_process


def train(folder, recipe, processes, *overrides):
    return launch(TRAIN, processes, recipe, f"output.dir={folder}", *overrides)


@pytest.fixture
def recipe(tmp_path, tiny_bert):
    rows = [
        {
            "id": str(i),
            "text": "the card is late " * (1 + i % 4) + "money " * (i % 2),
            "label": ["card", "money"][i % 2],
        }
        for i in range(21)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.yaml"
    settings = {
        "task": "text-classification",
        "model": {"name": tiny_bert, "settings": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}},
        "data": {"train": str(data), "validation": str(data), "test": str(data)},
        # Windows of 8 rows: batches of 4, 4, 4, 4, 4 and 1 row, the last one for one process.
        "batch": {
            "size": 4,
            "evaluation": 4,
            "window": 8,
        },  # 21 rows: the last batch of an epoch holds one row, for one process
        "training": {"epochs": 2, "learning_rate": 1e-3, "precision": "fp32", "log_every": 1},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def test_two_processes_equal_one(tmp_path, recipe):
    for processes in (1, 2):
        answer = train(tmp_path / f"run{processes}", recipe, processes)
        assert answer.returncode == 0, answer.stderr
        if processes == 2:
            assert answer.stdout.count("Training, 12 steps") == 1, answer.stdout
    one, two = (load_file(tmp_path / f"run{n}" / "model" / "model.safetensors") for n in (1, 2))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], atol=2e-5, err_msg=name)
    results = [json.loads((tmp_path / f"run{n}" / "results.json").read_text()) for n in (1, 2)]
    assert results[0]["rows"] == results[1]["rows"] == 21
    assert results[0]["scores"]["accuracy"] == results[1]["scores"]["accuracy"]
    lines = [(tmp_path / f"run{n}" / "predictions" / "test.jsonl").read_text().count("\n") for n in (1, 2)]
    assert lines == [21, 21]
    assert json.loads((tmp_path / "run2" / "manifest.json").read_text())["processes"] == 2


def test_two_processes_predict_as_one(tmp_path, recipe):
    run = tmp_path / "run"
    assert train(run, recipe, 1, "training.max_steps=2").returncode == 0
    rows = tmp_path / "rows.jsonl"
    answers = []
    for processes in (1, 2):
        output = tmp_path / f"{processes}.jsonl"
        answer = launch(PREDICT, processes, run, rows, "-o", output)
        assert answer.returncode == 0, answer.stderr
        assert "21 predictions in" in answer.stdout
        answers.append([json.loads(line) for line in output.read_text().splitlines()])
    answer = launch(PREDICT, 2, run, "-", given=rows.read_text())  # only the main process reads
    assert answer.returncode == 0, answer.stderr
    answers.append([json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")])
    for found in answers:
        assert [record["row_id"] for record in found] == [str(i) for i in range(21)]
        assert [record["prediction"] for record in found] == [record["prediction"] for record in answers[0]]
        np.testing.assert_allclose([r["score"] for r in found], [r["score"] for r in answers[0]], atol=1e-5)


def test_a_wrong_recipe_is_reported_once(tmp_path, recipe):
    answer = train(tmp_path / "run", recipe, 2, "batch.size=none-such")
    assert answer.returncode != 0
    assert (answer.stdout + answer.stderr).count("error: batch.size: found 'none-such'") == 1
