"""The same rows out of every format, compression, encoding and kind of memory."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sqlite3
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline.config.schema import DataConfig
from nlp_pipeline.data import Column, load_rows, load_splits
from nlp_pipeline.errors import DataError

COLUMNS = (Column("text", "text", ("sentence",)), Column("label", "label", is_label=True))
TEXTS = ["hello, you", "007", "NA", 'say "hi"', "two\nlines", "zoë 2024-05-01"]
LABELS = ["pos", "neg", "pos", "NULL", "neg", "pos"]
FRAME = pd.DataFrame({"text": TEXTS, "label": LABELS})
ROWS = FRAME.to_dict("records")
EXPECTED = {"text": TEXTS, "label": LABELS, "row_id": ["1", "2", "3", "4", "5", "6"]}


def csv_text(delimiter: str = ",") -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["text", "label"])
    writer.writerows(zip(TEXTS, LABELS, strict=True))
    return buffer.getvalue()


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner/rows.csv", csv_text())
        archive.writestr("__MACOSX/._rows.csv", "rubbish")


def write_zst(path: Path) -> None:
    with pa.output_stream(str(path), compression="zstd") as stream:
        stream.write(csv_text().encode())


def write_sqlite(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (text TEXT, label TEXT)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", zip(TEXTS, LABELS, strict=True))
    connection.commit()
    connection.close()


def jsonl() -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.csv": lambda path: path.write_text(csv_text(), newline=""),
    "a.tsv": lambda path: path.write_text(csv_text("\t"), newline=""),
    "bom.csv": lambda path: path.write_bytes(csv_text().encode("utf-8-sig")),
    "utf16.csv": lambda path: path.write_bytes(csv_text().encode("utf-16")),
    "utf16le.csv": lambda path: path.write_bytes(csv_text().encode("utf-16-le")),
    "utf32.csv": lambda path: path.write_bytes(csv_text().encode("utf-32")),
    "a.csv.gz": lambda path: path.write_bytes(gzip.compress(csv_text().encode())),
    "a.csv.bz2": lambda path: path.write_bytes(bz2.compress(csv_text().encode())),
    "a.csv.xz": lambda path: path.write_bytes(lzma.compress(csv_text().encode())),
    "a.csv.zst": write_zst,
    "a.zip": write_zip,
    "a.json": lambda path: path.write_text(json.dumps(ROWS)),
    "data.json": lambda path: path.write_text(json.dumps({"version": 1, "data": ROWS}, indent=2)),
    "columns.json": lambda path: path.write_text(json.dumps(FRAME.to_dict("list"))),
    "lines.json": lambda path: path.write_text(jsonl()),
    "a.jsonl": lambda path: path.write_text(jsonl() + "\n\n"),
    "array.jsonl": lambda path: path.write_text(json.dumps(ROWS, indent=1)),
    "a.ndjson.gz": lambda path: path.write_bytes(gzip.compress(jsonl().encode())),
    "a.parquet": lambda path: FRAME.to_parquet(path),
    "folder": lambda path: Dataset.from_list(ROWS).save_to_disk(path),
    "dict": lambda path: DatasetDict(train=Dataset.from_list(ROWS)).save_to_disk(path),
    "a.db": write_sqlite,
}


@pytest.mark.parametrize("name", list(WRITERS))
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    data = DataConfig(train=name)
    if name == "a.db":
        data = DataConfig(train="sqlite:///a.db", query="SELECT * FROM t")
    splits = load_splits(data, COLUMNS, base_dir=tmp_path)
    assert splits.train is not None
    assert splits.train.to_dict() == EXPECTED
    assert splits.train.features == {name: Value("string") for name in EXPECTED}
    assert splits.fingerprints == {"train": load_splits(DataConfig(), COLUMNS, {"train": ROWS}).fingerprints["train"]}


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(FRAME, id="pandas"),
        pytest.param(FRAME.astype({"label": "category"}), id="pandas categories"),
        pytest.param(pl.DataFrame(ROWS), id="polars"),
        pytest.param(pl.DataFrame(ROWS).with_columns(pl.col("label").cast(pl.Categorical)), id="polars categories"),
        pytest.param(pl.LazyFrame(ROWS), id="lazy polars"),
        pytest.param(ROWS, id="list of dicts"),
        pytest.param(FRAME.to_dict("list"), id="dict of lists"),
        pytest.param({"text": np.array(TEXTS), "label": np.array(LABELS, object)}, id="dict of arrays"),
        pytest.param(pa.Table.from_pylist(ROWS), id="Arrow"),
        pytest.param(pa.RecordBatch.from_pylist(ROWS), id="Arrow batch"),
        pytest.param(Dataset.from_list(ROWS), id="datasets"),
        pytest.param(Dataset.from_list([{"text": "x", "label": "y"}, *ROWS]).select(range(1, 7)), id="selection"),
    ],
)
def test_memory(rows: Any) -> None:
    assert load_rows(rows, DataConfig(), COLUMNS).to_dict() == EXPECTED


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            DatasetDict(train=Dataset.from_list(ROWS)),
            'the rows: is a DatasetDict; pass its splits one by one, such as dataset["train"]',
        ),
        (
            42,
            "the rows: is of type builtins.int; expected a pandas or polars DataFrame, a list of dicts, a dict of lists, "
            "a pyarrow Table or a datasets.Dataset",
        ),
        ([("a", "b")], 'the rows: 1 row without named columns: row 1 is ["a", "b"]. Expected an object a row, such as '
                       '{"text": "…", "label": "…"}'),
        ({"text": "abc"}, 'the rows: columns that are no lists: "text". Expected lists'),
        (FRAME[:0], "the rows: has no rows"),
        (
            pd.DataFrame([["a", "b"]], columns=["text", "text"]),
            'the rows: a column name occurs twice: "text". Columns must have distinct names',
        ),
        (
            pd.DataFrame({"text": ["a", 1.5, None], "label": [1, "x", None]}),
            'the rows: "text" is empty in 1 row: row 3. Fill them in, or leave these rows out with '
            "data.missing_labels=drop",
        ),
    ],
)  # fmt: skip
def test_memory_that_is_no_table(rows: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_rows(rows, DataConfig(), COLUMNS)
    assert caught.value.problems == [message]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 0, 1], ["1", "0", "1"]),
        ([1.0, 0.0, -3.0], ["1", "0", "-3"]),
        ([True, False, True], ["true", "false", "true"]),
        ([" a ", "a", "b"], ["a", "a", "b"]),
        ([1, "a", True], ["1", "a", "true"]),
        (["0.5", "1.0", "x"], ["0.5", "1.0", "x"]),
    ],
)
def test_labels_become_text(labels: list[Any], expected: list[str]) -> None:
    rows = [{"text": "x", "label": label} for label in labels]
    assert load_rows(rows, DataConfig(), COLUMNS)["label"] == expected


def test_floats_in_csv_and_parquet_give_the_same_labels(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": [1.0, 0.0, 2.0]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        assert load_rows(tmp_path / name, DataConfig(), COLUMNS)["label"] == ["1", "0", "2"]


def test_class_labels_become_names(tmp_path: Path) -> None:
    names = ["bad", "good"]
    features = Features(
        text=Value("string"),
        label=ClassLabel(names=names),
        tokens=Sequence(Value("string")),
        tags=Sequence(ClassLabel(names=["O", "B"])),
    )
    rows = [
        {"text": "x", "label": 1, "tokens": ["a", "b"], "tags": [0, 1]},
        {"text": "y", "label": 0, "tokens": ["c"], "tags": [1]},
    ]
    dataset = Dataset.from_list(rows, features=features)
    dataset.to_parquet(tmp_path / "a.parquet")
    columns = (*COLUMNS, Column("tokens", "tokens"), Column("tags", "tags"))
    for source in (dataset, tmp_path / "a.parquet"):
        loaded = load_rows(source, DataConfig(), columns)
        assert loaded["label"] == ["good", "bad"]
        assert loaded["tags"] == [["O", "B"], ["B"]]
    hidden = Dataset.from_dict(
        {"text": ["a", "b"], "label": [-1, 1]}, features=Features({k: features[k] for k in ("text", "label")})
    )
    with pytest.raises(DataError, match='"label" is empty in 1 row: row 1'):
        load_rows(hidden, DataConfig(), COLUMNS, require_labels=True)
    assert load_rows(hidden, DataConfig(), COLUMNS)["label"] == [None, "good"]
    odd = pa.table(
        {"text": ["a", "b"], "label": pa.array([7, 1])},
        schema=dataset.select_columns(["text", "label"]).features.arrow_schema,
    )
    with pytest.raises(DataError) as caught:
        load_rows(odd, DataConfig(), COLUMNS)
    assert caught.value.problems == [
        'the rows: "label" holds numbers that stand for no class in 1 row: row 1: 7. The classes are numbered 0 to 1'
    ]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["a b", " c  d "], [["a", "b"], ["c", "d"]]),
        (['["a", "b"]', "[1]"], [["a", "b"], ["1"]]),
        (["['a', 'b']", "['it\\'s', \"c'd\"]"], [["a", "b"], ["it's", "c'd"]]),
        (["['a' 'b']", "['c'\n 'd']"], [["a", "b"], ["c", "d"]]),  # as numpy writes them
        (["[ a ]", "b c"], [["[", "a", "]"], ["b", "c"]]),
        ([["a", "b"], ["c"]], [["a", "b"], ["c"]]),
        ([np.array(["a", "b"]), np.array(["c"])], [["a", "b"], ["c"]]),
        (pa.array([["a", "b"], ["c", "d"]], pa.list_(pa.string(), 2)), [["a", "b"], ["c", "d"]]),
        (pa.array([["a", "b"], ["c", "d"]], pa.list_view(pa.string_view())), [["a", "b"], ["c", "d"]]),
        (pa.array([["a"], ["b"]], pa.large_list(pa.dictionary(pa.int8(), pa.large_string()))), [["a"], ["b"]]),
    ],
)
def test_tokens(tokens: Any, expected: list[list[str]]) -> None:
    loaded = load_rows({"tokens": tokens}, DataConfig(), [Column("tokens", "tokens")])
    assert loaded["tokens"] == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["a|b", "c; d,e", "[]"], [["a", "b"], ["c", "d", "e"], []]),
        (['["a, b"]', "[]", '["c"]'], [["a, b"], [], ["c"]]),
        ([["a"], [], ["b", "c"]], [["a"], [], ["b", "c"]]),
        ([[1], [], [2, 3]], [["1"], [], ["2", "3"]]),
    ],
)
def test_label_lists(labels: Any, expected: list[list[str]]) -> None:
    columns = [Column("labels", "label_list", is_label=True)]
    assert load_rows({"labels": labels}, DataConfig(), columns, require_labels=True)["labels"] == expected


def test_indicator_columns_and_joined_text() -> None:
    rows = {"title": ["A", "", "C"], "body": ["b", "c", " "], "x": [1, 0, 1], "y": [True, False, False]}
    columns = [Column("text", "text"), Column("labels", "label_list", is_label=True)]
    data = DataConfig(columns={"text": ["title", "body"], "labels": ["x", "y"]})
    loaded = load_rows(rows, data, columns)
    assert loaded["text"] == ["A\nb", "c", "C"]
    assert loaded["labels"] == [["x", "y"], [], ["x"]]


def test_numbers(tmp_path: Path) -> None:
    columns = [Column("score", "number", is_label=True)]
    for given_numbers in (["1", " 2.5", "+3e1"], [1, 2.5, 30], pd.Series([1, 2.5, 30], dtype="float32").tolist()):
        assert load_rows({"score": given_numbers}, DataConfig(), columns)["score"] == [1.0, 2.5, 30.0]


def test_optional_columns() -> None:
    columns = [Column("text", "text"), Column("text_pair", "text", ("sentence2",), required=False)]
    assert load_rows([{"text": "a"}], DataConfig(), columns).column_names == ["text", "row_id"]
    rows = [{"text": "a", "sentence2": "b"}, {"text": "c", "sentence2": None}]
    assert load_rows(rows, DataConfig(), columns)["text_pair"] == ["b", ""]


def test_columns_are_found_by_name_then_case_then_alias() -> None:
    columns = [Column("text", "text", ("sentence", "label")), Column("label", "label")]
    assert load_rows({"LABEL": ["1"], " Text": ["a"], "sentence": ["b"]}, DataConfig(), columns)["text"] == ["a"]
    assert load_rows({"label": ["1"], "Sentence": ["b"]}, DataConfig(), columns)["text"] == ["b"]
    mapped = DataConfig(columns={"text": "other"})
    assert load_rows({"label": ["1"], "text": ["b"], "Other": ["c"]}, mapped, columns)["text"] == ["c"]


def test_sql_in_chunks_and_of_several_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlp_pipeline.data.sql_reader.CHUNK", 2)
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("CREATE TABLE t (text, label)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [("a", None), ("b", None), ("c", 1), ("d", "x"), ("e", 2)])
    connection.commit()
    connection.close()
    query = {"train": "SELECT * FROM t WHERE label IS NOT NULL", "test": "SELECT text, label FROM t WHERE text = 'c'"}
    splits = load_splits(DataConfig(train="sqlite:///a.db", query=query), COLUMNS, base_dir=tmp_path)
    assert splits.train is not None
    assert splits.test is not None
    assert splits.train["label"] == ["1", "x", "2"]
    assert splits.test["text"] == ["c"]
    rows = load_rows("sqlite:///a.db", DataConfig(query="SELECT * FROM t"), COLUMNS, tmp_path)
    assert rows["label"] == [None, None, "1", "x", "2"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "SELECT * FROM nowhere",
            "sqlite:///a.db: the query failed on sqlite:///{0}/a.db: no such table: nowhere. "
            'The query: "SELECT * FROM nowhere"',
        ),
        ("SELECT text, text FROM t", 'sqlite:///a.db: the query gives 1 column twice: "text". Rename with AS'),
        ("SELECT * FROM t WHERE text = ''", "sqlite:///a.db: the query gives no rows"),
        (
            "DROP TABLE IF EXISTS nowhere",
            'sqlite:///a.db: the query gives no rows: "DROP TABLE IF EXISTS nowhere". Expected a SELECT',
        ),
    ],
)
def test_sql_problems(tmp_path: Path, query: str, message: str) -> None:
    write_sqlite(tmp_path / "a.db")
    with pytest.raises(DataError) as caught:
        load_splits(DataConfig(train="sqlite:///a.db", query=query), COLUMNS, base_dir=tmp_path)
    assert caught.value.problems == [message.replace("{0}", str(tmp_path))]


def test_a_database_password_is_never_shown(tmp_path: Path) -> None:
    url = "sqlite://user:hunter2@host/a.db"  # a host is more than sqlite takes, and its message quotes the URL
    with pytest.raises(DataError) as caught:
        load_splits(DataConfig(train=url, query="SELECT 1"), COLUMNS)
    assert "hunter2" not in str(caught.value)
    assert "sqlite://user:***@host/a.db" in str(caught.value)
    assert caught.value.__cause__ is None


def test_missing_driver() -> None:
    with pytest.raises(DataError, match="needs a database driver that is not installed: No module named 'pymysql'"):
        load_splits(DataConfig(train="mysql+pymysql://u:p@h/db", query="SELECT 1"), COLUMNS)


def test_the_splits_of_a_folder(tmp_path: Path) -> None:
    whole = Dataset.from_list(ROWS)
    DatasetDict(train=whole, dev=whole.select([0, 1]), test=whole.select([2])).save_to_disk(tmp_path / "d")
    splits = load_splits(DataConfig(train="d"), COLUMNS, base_dir=tmp_path)
    assert [len(part) if part else 0 for part in (splits.train, splits.validation, splits.test)] == [6, 2, 1]
    assert splits.notes == ["validation: the split 'dev' of d is used", "test: the split 'test' of d is used"]
    carved = load_splits(DataConfig(train="d", validation="d/test", test_fraction=0.3), COLUMNS, base_dir=tmp_path)
    assert carved.validation is not None
    assert carved.test is not None
    assert (len(carved.validation), len(carved.test)) == (1, 2)
    assert len(load_rows("d", DataConfig(), COLUMNS, tmp_path)) == 1
    DatasetDict(a=whole, b=whole).save_to_disk(tmp_path / "e")
    with pytest.raises(DataError) as caught:
        load_splits(DataConfig(train="e"), COLUMNS, base_dir=tmp_path)
    assert caught.value.problems == [
        'e: has no split "train"; it has "a", "b". Name one as hub:user/name#split, or by the split\'s own folder'
    ]


def test_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def load_dataset(name: str, config: str | None, revision: str | None) -> DatasetDict:
        calls.append((name, config, revision))
        whole = Dataset.from_list(ROWS)
        return DatasetDict(train=whole, validation=whole.select([0, 1]), extra=whole.select([2]))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = DataConfig(train="hub:user/name", test="hub:user/name#extra", hub_config="en", hub_revision="v1")
    splits = load_splits(data, COLUMNS)
    assert splits.train is not None
    assert splits.validation is not None
    assert splits.test is not None
    assert (len(splits.train), len(splits.validation), splits.test["text"]) == (6, 2, ["NA"])
    assert calls == [("user/name", "en", "v1")] * 2
    assert len(load_splits(DataConfig(train="user/name", format="hub"), COLUMNS).train or []) == 6


def test_hub_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **settings: Any) -> None:
        raise ConnectionError("Couldn't reach the Hub\nfor some reason")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as caught:
        load_splits(DataConfig(train="hub:user/name"), COLUMNS)
    assert caught.value.problems == [
        "hub:user/name: cannot be loaded from the Hub: ConnectionError: Couldn't reach the Hub for some reason. Check the "
        "name and the network. Without a network, load it once on a machine that has one, "
        "`datasets.load_dataset('user/name').save_to_disk('folder')`, copy the folder, and name it instead"
    ]


def test_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = types.ModuleType("nlp_pipeline.sample_data")
    sample.load_messages = lambda split: ROWS if split == "train" else ROWS[:2]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nlp_pipeline.sample_data", sample)
    splits = load_splits(DataConfig(train="sample:messages", validation_fraction=0.2), COLUMNS)
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part) if part else 0 for part in parts] == [5, 1, 2]
    with pytest.raises(DataError, match='has no split "validation"; it has "train", "test"'):
        load_splits(DataConfig(train="sample:messages", validation="sample:messages"), COLUMNS)


def test_rows_longer_than_a_block(tmp_path: Path) -> None:
    text = "word " * 3_000_000
    (tmp_path / "a.csv").write_text(f'text,label\n"{text}",1\nb,2\n')
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text, "label": 1}) + "\n")
    assert load_rows("a.csv", DataConfig(), COLUMNS, tmp_path)[0]["text"] == text
    assert load_rows("a.jsonl", DataConfig(), COLUMNS, tmp_path)[0]["text"] == text


def test_unquoted_tsv(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tlabel\n"Oh\t1\nno\t2\n"What" now\t3\n')
    splits = load_splits(DataConfig(train="a.tsv"), COLUMNS, base_dir=tmp_path)
    assert splits.train is not None
    assert splits.train["text"] == ['"Oh', "no", '"What" now']
    assert splits.notes == ["a.tsv: double quotes were taken as plain characters, as they don't pair up"]


def test_parquet_with_nested_columns_beside(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [1], "meta": [{"x": [1]}]}), tmp_path / "a.parquet")
    assert load_rows("a.parquet", DataConfig(), COLUMNS, tmp_path).to_dict() == {
        "text": ["a"],
        "label": ["1"],
        "row_id": ["1"],
    }


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), delimiter=st.sampled_from(",;\t|"))
def test_csv_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerow(["first", "second"])
        writer.writerows(rows)
    columns = [Column("first", "text", required=False), Column("second", "text", required=False)]
    loaded = load_rows(path, DataConfig(delimiter=delimiter), columns)
    assert list(zip(loaded["first"], loaded["second"], strict=True)) == rows


def test_a_named_byte_order_mark_may_be_absent(tmp_path: Path) -> None:
    for mark in ("", "\ufeff"):
        (tmp_path / "a.csv").write_text(f"{mark}text,label\nfirst,x\n", encoding="utf-8")
        data = DataConfig(encoding="utf-8-sig")
        rows = load_rows(str(tmp_path / "a.csv"), data, [Column("text", "text")])
        assert list(rows["text"]) == ["first"]
