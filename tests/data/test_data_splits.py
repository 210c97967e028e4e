"""The carve, row ids, fingerprints and notes."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline.config.schema import DataConfig
from nlp_pipeline.data import Column, load_rows, load_splits
from nlp_pipeline.data.carve import assign_folds, carve, draw
from nlp_pipeline.data.fingerprint import fingerprint

COLUMNS = (Column("text", "text"), Column("label", "label", is_label=True))
FRACTIONS = st.just(0.0) | st.floats(0.001, 0.45)
LABELS = st.lists(st.sampled_from(["a", "b", "c", "rare"]), max_size=200)


def rows(labels: list[str]) -> list[dict[str, Any]]:
    return [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]


@given(count=st.integers(0, 300), validation=FRACTIONS, test=FRACTIONS, seed=st.integers(-5, 2**40))
def test_plain_carve(count: int, validation: float, test: float, seed: int) -> None:
    parts = carve(count, validation, test, seed)
    # Disjoint, complete, in order.
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test]).tolist()) == list(range(count))
    for part in (parts.train, parts.validation, parts.test):
        assert (np.diff(part) > 0).all()
    assert len(parts.train) >= min(count, 1)
    enough = count >= 1 + bool(validation) + bool(test)
    for part, fraction in ((parts.validation, validation), (parts.test, test)):
        if not fraction or not enough:
            assert len(part) == 0
        else:
            assert len(part) >= 1
            assert abs(len(part) - count * fraction) <= 1 or len(parts.train) == 1
    again = carve(count, validation, test, seed)
    assert again.train.tolist() == parts.train.tolist()
    assert again.test.tolist() == parts.test.tolist()


@given(labels=LABELS, validation=FRACTIONS, test=FRACTIONS, seed=st.integers(0, 1000))
def test_stratified_carve(labels: list[str], validation: float, test: float, seed: int) -> None:
    parts = carve(len(labels), validation, test, seed, labels)
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test]).tolist()) == list(range(len(labels)))
    wanted = 1 + bool(validation) + bool(test)
    in_train = Counter(labels[i] for i in parts.train)
    for label, size in Counter(labels).items():
        assert in_train[label] >= 1
        for part, fraction in ((parts.validation, validation), (parts.test, test)):
            have = sum(labels[i] == label for i in part)
            if size < wanted:
                assert have == 0
            else:
                assert abs(have - size * fraction) <= 1 or in_train[label] == 1
    sizes = Counter(labels)
    usable = sum(size for size in sizes.values() if size >= wanted)
    if test and usable:
        assert abs(len(parts.test) - usable * test) <= 1


def test_the_carve_stays_the_same() -> None:
    # Written down, so that another version or machine can't change it unnoticed.
    parts = carve(20, 0.2, 0.1, 13)
    assert parts.validation.tolist() == [0, 6, 9, 19]
    assert parts.test.tolist() == [4, 11]
    assert draw(20, 5, 13).tolist() == [0, 2, 3, 10, 14]


def test_seeds_give_different_carves_and_all_rows_are_alike() -> None:
    hits = np.zeros(50)
    for seed in range(400):
        hits[carve(50, 0.2, 0.0, seed).validation] += 1
    assert hits.sum() == 4000
    assert abs(hits / 400 - 0.2).max() < 0.08


def test_rare_classes_stay_in_training() -> None:
    labels = ["a"] * 20 + ["b", "b", "c"] + ["d"] * 10
    splits = load_splits(
        DataConfig(validation_fraction=0.1, test_fraction=0.2), COLUMNS, {"train": rows(labels)}, stratify="label"
    )
    assert splits.train is not None
    assert splits.validation is not None
    assert splits.test is not None
    assert Counter(splits.test["label"]) == {"a": 4, "d": 2}
    assert Counter(splits.validation["label"]) == {"a": 2, "d": 1}
    assert Counter(splits.train["label"]) == {"a": 14, "b": 2, "c": 1, "d": 7}
    assert splits.notes == [
        "validation: 3 rows of 33 carved from the training rows (seed 13, stratified by label)",
        "test: 6 rows of 33 carved from the training rows (seed 13, stratified by label)",
        'train: fewer rows than splits, all kept for training: "b" (2 rows), "c" (1 row)',
    ]
    ids = [int(i) for part in (splits.train, splits.validation, splits.test) for i in part["row_id"]]
    assert sorted(ids) == list(range(1, 34))
    assert all(text == f"text {int(i) - 1}" for i, text in zip(splits.test["row_id"], splits.test["text"], strict=True))


def test_training_rows_are_thinned_after_the_carve() -> None:
    settings = {"validation_fraction": 0.2}
    whole = load_splits(DataConfig(**settings), COLUMNS, {"train": rows(["a", "b"] * 20)})
    thin = load_splits(DataConfig(**settings, max_train_rows=5), COLUMNS, {"train": rows(["a", "b"] * 20)})
    assert whole.train is not None
    assert thin.train is not None
    assert thin.fingerprints["validation"] == whole.fingerprints["validation"]
    assert len(thin.train) == 5
    assert set(thin.train["row_id"]) < set(whole.train["row_id"])
    assert [int(i) for i in thin.train["row_id"]] == sorted(int(i) for i in thin.train["row_id"])
    assert thin.notes[-1] == "train: 5 of 32 rows are used (data.max_train_rows)"
    assert load_splits(DataConfig(max_train_rows=99), COLUMNS, {"train": rows(["a"])}).notes == []


def test_row_ids(tmp_path: Path) -> None:
    (tmp_path / "a1.csv").write_text("id,text,label\nx,a,1\ny,,2\n")
    (tmp_path / "a2.csv").write_text("id,text,label\nz,c,1\n")
    drop = DataConfig(train="a*.csv", missing_labels="drop")
    splits = load_splits(drop, COLUMNS, base_dir=tmp_path)
    assert splits.train is not None
    assert splits.train["row_id"] == ["x", "z"]
    assert splits.notes == ['train: left out 1 row of a1.csv where "text" is empty: row 2 (line 3)']
    (tmp_path / "a2.csv").write_text("id,text,label\nx,c,1\n")
    splits = load_splits(drop, COLUMNS, base_dir=tmp_path)
    assert splits.train is not None
    assert splits.train["row_id"] == ["1", "3"]
    assert splits.notes[:1] == ['train: the column "id" does not name rows one by one; row numbers are used']
    numbers = load_rows([{"id": 7, "text": "a"}, {"id": 9, "text": "b"}], DataConfig(), COLUMNS)
    assert numbers["row_id"] == ["7", "9"]
    mapped = load_rows([{"id": "u", "text": "a", "key": "k"}], DataConfig(id_column="Key"), COLUMNS)
    assert mapped["row_id"] == ["k"]
    as_text = load_rows([{"id": "u"}], DataConfig(columns={"text": "id"}), COLUMNS)
    assert as_text.to_dict() == {"text": ["u"], "row_id": ["1"]}


def test_dropped_rows_at_prediction_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    found = load_rows([{"text": "a"}, {"text": ""}], DataConfig(missing_labels="drop"), COLUMNS)
    assert found["row_id"] == ["1"]
    assert caplog.messages == ['rows: left out 1 row of the rows where "text" is empty: row 2']


def test_labels_are_not_needed_to_predict() -> None:
    assert load_rows([{"text": "a"}], DataConfig(), COLUMNS).column_names == ["text", "row_id"]
    assert load_rows([{"text": "a", "label": None}], DataConfig(), COLUMNS)["label"] == [None]


@given(
    values=st.lists(st.tuples(st.text(), st.lists(st.text()) | st.none(), st.floats(allow_nan=False) | st.none())),
    cuts=st.lists(st.integers(0, 20)),
)
def test_fingerprint_does_not_depend_on_chunks(values: list[Any], cuts: list[int]) -> None:
    schema = pa.schema([("text", pa.string()), ("tokens", pa.list_(pa.string())), ("score", pa.float64())])
    table = pa.Table.from_pylist([dict(zip(schema.names, value, strict=True)) for value in values], schema=schema)
    edges = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    pieces = [table.slice(a, b - a) for a, b in pairwise(edges)] or [table]
    assert fingerprint(pa.concat_tables(pieces)) == fingerprint(table)
    assert fingerprint(table.combine_chunks()) == fingerprint(table)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": ["xy", "z"]}, {"a": ["x", "yz"]}),
        ({"a": ["x"]}, {"b": ["x"]}),
        ({"a": ["x", None]}, {"a": ["x", ""]}),
        ({"a": [["x"], ["y"]]}, {"a": [["x", "y"], []]}),
        ({"a": [["x"], None]}, {"a": [["x"], []]}),
        ({"a": [0.0, None]}, {"a": [0.0, 0.0]}),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}),
    ],
)
def test_fingerprint_tells_contents_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fingerprint(pa.table(one)) != fingerprint(pa.table(other))


def test_fingerprint_of_a_dataset_is_that_of_its_rows() -> None:
    splits = load_splits(DataConfig(), COLUMNS, {"train": rows(["a", "b", "c"])})
    assert splits.train is not None
    assert fingerprint(splits.train) == splits.fingerprints["train"] == splits.train._fingerprint
    assert fingerprint(splits.train.select([2, 0])) != fingerprint(splits.train)
    assert fingerprint(pa.table({"text": ["a"], "score": [-0.0]})) == fingerprint(
        pa.table({"score": [0.0], "text": ["a"]})
    )
    assert fingerprint(pa.table({"text": ["a"]})) == "2226e1f323f37f56ee1d2f812a8d9458"


@given(
    labels=st.lists(st.sampled_from(["a", "b", "c", "rare"]), max_size=120),
    folds=st.integers(2, 9),
    seed=st.integers(0, 99),
)
def test_folds_are_even_in_all_and_in_every_class(labels: list[str], folds: int, seed: int) -> None:
    fold = assign_folds(len(labels), folds, seed, labels)
    assert fold.tolist() == assign_folds(len(labels), folds, seed, labels).tolist()
    sizes = Counter(labels)
    assert [i for i in range(len(labels)) if fold[i] == -1] == [
        i for i, label in enumerate(labels) if sizes[label] == 1
    ]
    for chosen in [
        fold[fold >= 0],
        *(fold[[i for i, x in enumerate(labels) if x == name]] for name in sizes if sizes[name] > 1),
    ]:
        counts = np.bincount(chosen, minlength=folds)
        assert len(counts) == folds
        assert counts.max() - counts.min() <= 1


def test_folds_without_labels_take_every_row_and_go_by_the_seed() -> None:
    first, second = (assign_folds(50, 5, seed) for seed in (1, 2))
    assert np.bincount(first).tolist() == [10] * 5
    assert first.tolist() != second.tolist()
    assert assign_folds(0, 3).tolist() == []
