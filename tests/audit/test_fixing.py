"""What --fix changes, what it leaves alone, and that it has nothing to do the second time."""

import json
import random

import pytest
from audit_data_sets import clean
from audit_faults import FAULTS, contradict, copies, leak, loosen, put, rare, respell
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlp_pipeline import ConfigError, Recipe
from nlp_pipeline.audit.fixing import fix_splits
from nlp_pipeline.audit.rows import split_rows
from nlp_pipeline.stages.auditing import audit_alone, fix_rows

FIXED = {"missing", "empty_text", "label_spelling", "tags", "exact_duplicates", "shared_rows"}
MENDABLE = {
    "single": [
        put("text", "", "missing"),
        put("label", None, "missing", split="test"),
        put("text", "\u200b", "empty_text"),
        respell(str.upper),
        respell(str.title, split="test"),
        copies(),
        leak(),
        contradict,
        rare,
    ],
    "tags": [loosen, copies(), leak()],
}


def fixes(folder):
    return [json.loads(line) for line in (folder / "fixes.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.kind in MENDABLE])
def test_the_fault_of_a_file_is_mended_or_left_and_told(name, tiny_bert, tmp_path):
    fault = FAULTS[name]
    seed = sum(map(ord, name))
    data = clean(fault.kind, fault.format, seed, fault.named)
    check, severity, split, rows = fault.inject(data, random.Random(seed + 1))
    recipe = data.recipe(tmp_path, tiny_bert)
    audit = audit_alone(recipe)
    if recipe.splits is None:
        assert check == "ids"
        return
    left = fix_rows(recipe, audit, tmp_path / "fixed")
    told = [(finding.check, finding.split, sorted(finding.rows)) for finding in left.findings]
    mended = check in FIXED and severity_allows(check, severity) and (check, split) != ("exact_duplicates", "test")
    assert ((check, split, sorted(rows)) not in told) == mended
    if mended:
        assert fixes(tmp_path / "fixed")


def severity_allows(check, severity):
    """A tag that is no IOB at all can't be mended; a loose one can."""
    return check != "tags" or severity == "warning"


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(list(MENDABLE)), seed=st.integers(0, 10**6), number=st.integers(1, 4))
def test_fixing_is_idempotent_and_leaves_none_of_what_it_mends(kind, seed, number, tiny_bert, tmp_path_factory):
    rng = random.Random(seed + 1)
    data = clean(kind, "jsonl", seed, named=True)
    for inject in rng.sample(MENDABLE[kind], min(number, len(MENDABLE[kind]))):
        inject(data, rng)
        for rows in data.splits.values():  # several faults may copy the same row
            for i, row in enumerate(rows):
                row["id"] = f"{row['id'].rsplit('/', 1)[0]}/{i}"
    folder = tmp_path_factory.mktemp("fixing")
    recipe = data.recipe(folder, tiny_bert)
    before = audit_alone(recipe)
    left = fix_rows(recipe, before, folder / "fixed")
    assert not [finding for finding in left.findings if finding.check in FIXED and finding.split == "train"]
    assert not [f for f in left.findings if f.check in FIXED - {"exact_duplicates"}]
    again = Recipe.from_yaml(folder / "fixed" / "recipe.yaml")
    again.load()
    parts = split_rows(again.splits, again.columns())
    twice, changes = fix_splits(parts)
    assert changes == []
    assert all(twice[split].table.equals(parts[split].table) for split in parts)
    # Every row that is gone, and every test label that is another, is listed.
    listed = {(change["split"], change["row_id"]) for change in fixes(folder / "fixed")}
    for split, rows in data.splits.items():
        kept = {row["row_id"]: row for row in parts[split].table.to_pylist()}
        for row in rows:
            now = kept.get(row["id"])
            label = "tags" if kind == "tags" else "label"
            assert (now is None or now[label] != row[label]) == ((split, row["id"]) in listed)


def test_nothing_is_written_over(tiny_bert, tmp_path):
    recipe = clean("single", "jsonl", 1).recipe(tmp_path, tiny_bert)
    before = (tmp_path / "train.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=r"train\.jsonl.*would be written over"):
        fix_rows(recipe, audit_alone(recipe), tmp_path)
    assert (tmp_path / "train.jsonl").read_bytes() == before
    assert not (tmp_path / "fixes.jsonl").exists()
