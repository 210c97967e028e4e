"""Scores of any number of rows are those of a single process, to the last digit, on any number of processes."""

import json
from pathlib import Path

import pytest
from multi_process.launching import launch

from nlp_pipeline import TextClassification

pytestmark = [pytest.mark.multi_process, pytest.mark.slow]
SCRIPT = Path(__file__).parent / "evaluating.py"


def test_scores_of_1_to_33_rows_on_1_2_and_3_processes(tiny_bert, tmp_path):
    rows = [{"text": f"the card {i} is late " * (1 + i * 7 % 5), "label": "abc"[i * i % 3]} for i in range(33)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"max_steps": 2, "precision": "fp32", "learning_rate": 1e-3, "dir": str(tmp_path / "run")}
    TextClassification(model=tiny_bert, train=rows, batch={"evaluation": 3}, **settings).run(progress=False)
    found = {}
    for processes in (1, 2, 3):
        out = tmp_path / f"{processes}.json"
        answer = launch(SCRIPT, processes, tmp_path / "run", tmp_path / "rows.jsonl", out)
        assert answer.returncode == 0, answer.stderr
        found[processes] = json.loads(out.read_text())
        assert {scores.pop("processes") for scores in found[processes].values()} == {processes}
    for n in map(str, range(1, 34)):
        assert found[1][n]["rows"] == int(n)
        assert found[1][n].get("ids", [str(i + 1) for i in range(int(n))]) == [str(i + 1) for i in range(int(n))]
        assert found[2][n] == found[3][n] == found[1][n], n
    assert len({scores["scores"]["loss"] for scores in found[1].values()}) > 20
