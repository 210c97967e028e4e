"""Faults put into clean data files are found with their rows; in clean files nothing is."""

import json
import random
from typing import get_args

import pytest
from audit_data_sets import clean, write
from audit_faults import FAULTS

from nlp_pipeline.audit.answers import check_spans
from nlp_pipeline.config.schema import Check
from nlp_pipeline.stages.auditing import audit_alone

CLEAN = [
    ("single", "csv"),
    ("single", "tsv"),
    ("single", "parquet"),
    ("carved", "jsonl"),
    ("pair", "jsonl"),
    ("multi", "json"),
    ("multi", "csv"),
    ("score", "csv"),
    ("tags", "jsonl"),
    ("plain", "parquet"),
]


def test_there_are_at_least_forty_faults():
    assert len(FAULTS) >= 40


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_with_its_rows(name, tiny_bert, tmp_path):
    fault = FAULTS[name]
    seed = sum(map(ord, name))
    data = clean(fault.kind, fault.format, seed, fault.named)
    check, severity, split, rows = fault.inject(data, random.Random(seed + 1))
    found = audit_alone(data.recipe(tmp_path, tiny_bert)).findings
    told = [(finding.check, finding.severity, finding.split, sorted(finding.rows)) for finding in found]
    assert (check, severity, split, sorted(rows)) in told, "\n".join(map(str, found))
    if check in get_args(Check):  # loading names rows by their numbers and lines
        message = next(str(finding) for finding in found if (finding.check, finding.split) == (check, split))
        assert all(row in message for row in rows)


@pytest.mark.parametrize(("kind", "format"), CLEAN)
def test_nothing_is_found_in_clean_files(kind, format, tiny_bert, tmp_path):
    data = clean(kind, format, seed=len(kind) + 7 * len(format), named=format == "csv")
    audit = audit_alone(data.recipe(tmp_path, tiny_bert))
    assert audit.findings == ()
    assert sum(figures["rows"] for figures in audit.statistics.values()) == 90


def test_answers_that_do_not_stand_in_their_context(tmp_path):
    rows = [
        {"id": str(i), "context": f"The number {i} is green.", "answers": {"text": ["green"], "answer_start": [start]}}
        for i, start in enumerate([16, 16, 15, 16])
    ]
    rows[1]["answers"]["text"] = ["blue"]
    rows.append({"id": "none", "context": "Nothing.", "answers": {"text": [], "answer_start": []}})
    rows.append({"id": "list", "context": "A red hat", "answers": [{"text": "red", "answer_start": 2}]})
    lines = write(rows, tmp_path / "rows.jsonl").read_text().splitlines()
    read = [json.loads(line) for line in lines]
    columns = [[row[name] for row in read] for name in ("id", "context", "answers")]
    absent, elsewhere = check_spans(*columns, "train")
    assert (absent.rows, elsewhere.rows) == (("1",), ("2",))
    assert "answer_start" in elsewhere.message
