"""Rows that are read window by window are those that are read at once, with the same words for what is wrong."""

import bz2
import gzip
import json
import lzma
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline.config.schema import DataConfig
from nlp_pipeline.data import Column, load_rows
from nlp_pipeline.data.streaming import FileRows, RecordRows, TableRows, open_rows
from nlp_pipeline.errors import DataError

TEXT = [Column("text", "text")]
RECORDS = [{"text": f'row "{i}",\nof many ü', "score": i} for i in range(10)]
CSV = "text,score\n" + "".join(f'"row ""{i}"",\nof many ü",{i}\n' for i in range(10))
LINES = "\n".join(json.dumps(record, ensure_ascii=i % 2 == 0) for i, record in enumerate(RECORDS)) + "\n\n"


def write(path: Path) -> Path:
    content = (LINES if ".jsonl" in path.name else CSV.replace(",", "\t") if ".tsv" in path.name else CSV).encode()
    match path.suffix:
        case ".gz":
            path.write_bytes(gzip.compress(content))
        case ".bz2":
            path.write_bytes(bz2.compress(content))
        case ".xz":
            path.write_bytes(lzma.compress(content))
        case ".zst":
            with pa.output_stream(str(path), compression="zstd") as stream:
                stream.write(content)
        case ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(path.stem, content)
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(RECORDS), path, row_group_size=4)
        case ".json":
            path.write_text(json.dumps(RECORDS))
        case _:
            path.write_bytes(content)
    return path


def windowed(source: Any, size: int, columns: Any = TEXT, **settings: Any) -> tuple[list[int], dict[str, list[Any]]]:
    rows = open_rows(source, DataConfig(**settings), columns, size)
    parts = list(rows)
    assert len(rows) == sum(map(len, parts))
    return [len(part) for part in parts], {name: [v for p in parts for v in p[name]] for name in parts[0].column_names}


@pytest.mark.parametrize(
    "name",
    [
        "a.csv",
        "a.tsv",
        "a.jsonl",
        "a.parquet",
        "a.json",
        "a.csv.gz",
        "a.jsonl.bz2",
        "a.csv.xz",
        "a.csv.zst",
        "a.jsonl.zip",
    ],
)
@pytest.mark.parametrize("size", [1, 3, 10, 99])
def test_windows_hold_the_rows_of_the_whole_in_order(tmp_path: Path, name: str, size: int) -> None:
    path = write(tmp_path / name)
    sizes, found = windowed(path, size)
    assert found == load_rows(path, DataConfig(), TEXT).to_dict()
    assert sizes == [min(size, 10 - start) for start in range(0, 10, size)]
    assert isinstance(open_rows(path, DataConfig(), TEXT, size), TableRows if name == "a.json" else FileRows)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text(CSV, encoding=encoding)
    setting = {"encoding": encoding} if encoding == "cp1252" else {}
    assert windowed(tmp_path / "a.csv", 4, **setting)[1]["text"] == [record["text"] for record in RECORDS]


def test_several_files_and_ids_over_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\nx,a\ny,b\nz,c\n")
    (tmp_path / "b.csv").write_text("id,text\nw,d\n")
    (tmp_path / "c.csv").write_text("id,text\nx,e\n")
    distinct, repeated = ([str(tmp_path / f"{name}.csv") for name in names] for names in ("ab", "abc"))
    for sources in (distinct, repeated):
        assert windowed(sources, 2)[1] == load_rows(sources, DataConfig(), TEXT).to_dict()
    assert windowed(repeated, 2)[1]["row_id"] == ["1", "2", "3", "4", "5"]
    with pytest.raises(DataError) as caught:
        windowed(repeated, 2, id_column="id")
    assert caught.value.problems[0].endswith('must be distinct, but 1 id occurs repeatedly: "x" (rows 1, 5)')


def test_columns_that_come_late_are_found(tmp_path: Path) -> None:
    lines = [{"sentence": "a"}, {"sentence": "b"}, {"sentence": "c", "text_pair": "d"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    columns = [Column("text", "text", ("sentence",)), Column("text_pair", "text", required=False)]
    found = windowed(tmp_path / "a.jsonl", 1, columns)[1]
    assert found == load_rows(tmp_path / "a.jsonl", DataConfig(), columns).to_dict()
    assert found["text_pair"] == ["", "", "d"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,score\n" + "a,1\n" * 7 + "b\n" + "c,1\n" * 3 + "d,1,2\n"),
        ("a.csv", 'text,score\na,1\n"b,2\n' + "c,3\n" * 9),
        ("a.csv", "text,score\n"),
        ("a.csv", " \n\n"),
        ("a.csv", "text;score\na;1\n"),
        ("a.csv", "text,text\na,1\n"),
        ("a.csv", "body,score\na,1\n"),
        ("a.csv", b"text,score\nok,a\ncaf\xe9,b\nna\xefve,c\n"),
        ("a.csv", "text,score\n" + "a,1\n" * 7 + " ,1\n"),
        ("a.jsonl", '{"text": "a"}\n' * 6 + "\n{]\n" + '{"text": "a"}\n' * 3 + "[\n"),
        ("a.jsonl", '{"text": "a"}\n' * 6 + "3\n"),
        ("a.jsonl", '{"text": "a"}\n' * 6 + '{"text": ""}\n'),
        ("a.jsonl", "{\n"),
        ("a.csv.gz", gzip.compress(("text\n" + "word\n" * 9999).encode(), mtime=0)[:-40]),
        ("a.parquet", b"PAR1, or not"),
    ],
)
@pytest.mark.parametrize("size", [2, 5, 1000])
def test_what_is_wrong_is_said_in_the_same_words_before_the_first_row(
    tmp_path: Path, name: str, content: str | bytes, size: int
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    errors = []
    for read in (load_rows, lambda *arguments: open_rows(*arguments, size)):
        with pytest.raises(DataError) as caught:
            read(str(path), DataConfig(), TEXT)
        errors.append(caught.value.problems)
    assert errors[0] == errors[1]


def test_rows_without_a_text_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n\na,1\n,2\n,3\nb,4\n")
    assert windowed(tmp_path / "a.csv", 2, missing_labels="drop") == (
        [1, 1],
        {"text": ["a", "b"], "row_id": ["1", "4"]},
    )
    (tmp_path / "b.csv").write_text("text,n\n,1\n,2\n")
    with pytest.raises(DataError, match="no rows are left"):
        windowed(tmp_path / "b.csv", 1, missing_labels="drop")


def test_tsv_without_quoting(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tlabel\n"Oh\t1\nno\t2\n"What" now\t3\n')
    assert windowed(tmp_path / "a.tsv", 2)[1]["text"] == ['"Oh', "no", '"What" now']


def test_text_after_a_closing_quote_is_read_as_in_the_whole(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,n\n"ab"c,1\nd"e,2\n"f ""g""",3\n')
    found = windowed(tmp_path / "a.csv", 2)[1]
    assert found == load_rows(tmp_path / "a.csv", DataConfig(), TEXT).to_dict()
    assert found["text"] == ["abc", 'd"e', 'f "g"']


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz", "a.parquet"])
def test_memory_is_that_of_a_window_however_long_the_file(tmp_path: Path, name: str) -> None:
    table = pa.table({"text": [f"{i} " + "word " * 200 for i in range(4000)]})
    if name == "a.parquet":
        pq.write_table(table, tmp_path / name, row_group_size=200)
    else:
        lines = (
            [json.dumps(row) for row in table.to_pylist()] if "jsonl" in name else ["text", *table["text"].to_pylist()]
        )
        content = "".join(f"{line}\n" for line in lines).encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    window = table.nbytes / 20
    next(iter(open_rows(tmp_path / name, DataConfig(), TEXT, 200)))  # what is imported doesn't count
    tracemalloc.start()
    try:
        before, most, count = pa.total_allocated_bytes() + tracemalloc.get_traced_memory()[0], 0, 0
        tracemalloc.reset_peak()
        for rows in open_rows(tmp_path / name, DataConfig(), TEXT, 200):
            count += len(rows)
            most = max(most, pa.total_allocated_bytes() + tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert count == 4000
    assert most < 8 * window + 2**19, (most / window, "windows")  # read as Python text, as Arrow, converted; not 20


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)


@given(texts=st.lists(CELLS, min_size=1, max_size=8), size=st.integers(1, 9))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, texts: list[str], size: int) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text, "n": 1}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    assert windowed(path, size, [Column("text", "text", required=False)])[1]["text"] == texts


def test_records_are_taken_as_they_come_and_errors_name_their_lines() -> None:
    taken = []

    def arriving() -> Any:
        for start in range(0, 6, 2):
            taken.append(start)
            rows = [{"text": f"row {i}"} | ({"id": "mine"} if i == 1 else {}) for i in range(start, start + 2)]
            yield [10 + start, 11 + start], rows if start < 4 else [rows[0], {"text": ""}]

    rows = iter(RecordRows(arriving(), DataConfig(), TEXT, "standard input"))
    assert taken == []
    assert next(rows)["row_id"] == ["10", "mine"]
    assert taken == [0]
    assert next(rows)["text"] == ["row 2", "row 3"]
    with pytest.raises(DataError, match=r'standard input: "text" is empty in 1 row: row 6 \(line 15\)'):
        next(rows)
