"""Broken files: each message is compared as a whole, as it is what the user has to act on."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from nlp_pipeline.config.schema import DataConfig
from nlp_pipeline.data import Column, load_splits
from nlp_pipeline.errors import DataError

TEXT = (Column("text", "text", ("sentence",)), Column("label", "label", is_label=True))
TOKENS = (Column("tokens", "tokens"), Column("tags", "tags", is_label=True))
LABELS = (Column("text", "text"), Column("labels", "label_list", is_label=True))
SCORE = (Column("text", "text"), Column("score", "number", is_label=True))


def problems(
    folder: Path,
    name: str,
    content: str | bytes,
    columns: tuple[Column, ...] = TEXT,
    mapping: Any = None,
    **settings: Any,
) -> list[str]:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError) as caught:
        load_splits(DataConfig(train=name, columns=mapping or {}, **settings), columns, base_dir=folder)
    return caught.value.problems


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            "text,label\nhello,pos\nx\ny,z,w\n",
            "a.csv: 2 rows without exactly the 2 fields of the header: row 2 (line 3) has 1, row 3 (line 4) has 3. "
            'Put double quotes around text that holds the delimiter ","',
            id="ragged",
        ),
        pytest.param(
            "text,label\n\n" + "x\n" * 12,
            "a.csv: 12 rows without exactly the 2 fields of the header: "
            + ", ".join(f"row {row} (line {row + 2}) has 1" for row in range(1, 11))
            + ' and 2 more. Put double quotes around text that holds the delimiter ","',
            id="ragged, cut to ten",
        ),
        pytest.param(
            "text;label\nhello;pos\n",
            'a.csv: only one column, "text;label", was found with the delimiter ","; set data.delimiter=\';\'',
            id="semicolon",
        ),
        pytest.param(
            "text\tlabel\nhello\tpos\n",
            'a.csv: only one column, "text\\tlabel", was found with the delimiter ","; set data.format=tsv',
            id="tab",
        ),
        pytest.param(
            "text|label\nhello, you|pos\n",
            'a.csv: only one column, "text|label", was found with the delimiter ","; set data.delimiter=\'|\'',
            id="bar",
        ),
        pytest.param(
            "text,label,text\na,b,c\n",
            'a.csv: the header names a column twice: "text". Columns must have distinct names',
            id="duplicate columns",
        ),
        pytest.param("text,label\n", "a.csv: has a header line but no rows", id="header only"),
        pytest.param("text,label", "a.csv: has a header line but no rows", id="header only, no line end"),
        pytest.param(" \n\n", "a.csv: is empty: there is nothing but blanks in it", id="blank"),
        pytest.param("", 'data.train: "a.csv" is empty (0 bytes)', id="empty"),
        pytest.param(
            'text,label\n"x,2\n3,4\n',
            "a.csv: the double quote opened in row 1 (line 2) is never closed; close or remove it",
            id="unclosed quote",
        ),
        pytest.param(
            'text,label\n"x y,2\n3,4\n"z,5\n',  # read as quoted, rows 1 to 3 would be one
            "a.csv: 1 row with text after a closing double quote: row 1 (line 2). "
            'Inside quotes, write a double quote twice: ""',
            id="rows swallowed by stray quotes",
        ),
        pytest.param(
            "txt,label\nhello,pos\n",
            'a.csv: no column "text" (or "sentence"). Columns there: "txt", "label". '
            'If "txt" is meant, set data.columns.text=txt',
            id="near column name",
        ),
        pytest.param(
            "body,label\nhello,pos\n",
            'a.csv: no column "text" (or "sentence"). Columns there: "body", "label". '
            "Name the right one with data.columns.text=NAME",
            id="no near column name",
        ),
        pytest.param(
            "text,label\nhello,pos\nx, \n  ,a\n",
            [
                'a.csv: "text" is empty in 1 row: row 3 (line 4). Fill them in, or leave these rows out with '
                "data.missing_labels=drop",
                'a.csv: "label" is empty in 1 row: row 2 (line 3). Fill them in, or leave these rows out with '
                "data.missing_labels=drop",
            ],
            id="empty text and label",
        ),
        pytest.param(
            "text,label\na,0.5\nb,1.0\n",
            'a.csv: "label" holds fractions in 1 row: row 1 (line 2): "0.5". A label is a name or a whole number: to '
            'predict numbers use a regression task, to use them as classes write them as text such as "0.5 stars"',
            id="fractions as labels",
        ),
    ],
)
def test_csv(tmp_path: Path, content: str, message: str | list[str]) -> None:
    assert problems(tmp_path, "a.csv", content) == ([message] if isinstance(message, str) else message)


def test_header_line_missing(tmp_path: Path) -> None:
    found = problems(tmp_path, "a.csv", "I do like this one,1\nnot bad,1\n")
    assert found[0] == (
        'a.csv: no column "text" (or "sentence"). Columns there: "I do like this one", "1". Name the right one with '
        "data.columns.text=NAME. Or is the header line missing? The first line must name the columns"
    )


def test_undecodable_bytes(tmp_path: Path) -> None:
    content = "text,label\nok,a\ncafé,b\nnaïve,c\n".encode("cp1252")
    assert problems(tmp_path, "a.csv", content) == [
        "a.csv: 2 lines cannot be decoded as utf-8: line 3 (byte 0xe9), line 4 (byte 0xef). Set the encoding the file "
        'was saved in: data.encoding=cp1252 (line 3 reads "café,b") or data.encoding=cp1251 (line 3 reads "cafй,b") '
        'or data.encoding=latin-1 (line 3 reads "café,b")'
    ]
    assert problems(tmp_path, "a.csv", b"text,label\nab,c", encoding="utf-16") == [
        "a.csv: is not utf-16. Set data.encoding to the encoding the file was saved in"
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param(
            "a.jsonl",
            '{"text":"a","label":1}\n{"text":\n\nnope\n{"text":"x","label":3}\n',
            "a.jsonl: 2 lines of 4 not valid JSON: row 2 (line 2), column 9: Expecting value: '{\"text\":', "
            'row 3 (line 4), column 1: Expecting value: "nope". Expected one object a line; for another layout set '
            "data.format=json",
            id="invalid lines",
        ),
        pytest.param(
            "a.jsonl",
            '{"text":"a","label":1}\nnull\n\n[1]\n',  # Arrow 26 crashes on a line `null`
            "a.jsonl: 2 rows without named columns: row 2 (line 2) is null, row 3 (line 4) is [1]. Expected an object "
            'a row, such as {"text": "…", "label": "…"}',
            id="no objects",
        ),
        pytest.param(
            "a.jsonl",
            '{"text":"a","label":1}\n{"text":7,"label":2}\n{"text":["b"],"label":2}\n',
            'a.jsonl: "text" holds a list of text in 1 row: row 3 (line 3): \'["b"]\'. Text was expected',
            id="mixed kinds",
        ),
        pytest.param(
            "a.json",
            '[{"text":"a","label":"x"},\n',
            "a.json: is not valid JSON: Expecting value at line 2, column 1",
            id="cut short",
        ),
        pytest.param(
            "a.json",
            '[{"text":{"de":"b"},"label":"x"}]',
            'a.json: "text" holds nested objects ({"de": "b"}); text was expected',
            id="nested text",
        ),
        pytest.param(
            "a.json",
            '[{"text":"a","label":["x"]}]',
            'a.json: "label" holds lists (["x"]); expected one label a row: text, whole numbers or true/false',
            id="list as label",
        ),
        pytest.param(
            "a.json",
            '{"text":["a","b"],"label":["x"]}',
            'a.json: columns of different length: "text" has 2, "label" has 1',
            id="uneven columns",
        ),
        pytest.param("a.json", "[]", "a.json: has no rows", id="empty array"),
        pytest.param(
            "a.json",
            "5",
            "a.json: holds 5; expected an array of objects, an object with such an array under "
            '"data", or an object with a list for each column',
            id="a number",
        ),
    ],
)
def test_json(tmp_path: Path, name: str, content: str, message: str) -> None:
    assert problems(tmp_path, name, content) == [message]


@pytest.mark.parametrize(
    ("columns", "content", "message"),
    [
        pytest.param(
            TOKENS,
            "tokens,tags\na b,O O\na b c,O\nd,\n",
            [
                'a.csv: "tokens" and "tags" differ in length in 1 row: row 2 (line 3): 3 tokens, 1 tags. '
                "Each token needs exactly one tag",
                'a.csv: "tags" is empty in 1 row: row 3 (line 4). Fill them in, or leave these rows out with '
                "data.missing_labels=drop",
            ],
            id="tags of another length",
        ),
        pytest.param(
            TOKENS,
            'tokens,tags\n"[""a""]","[""O""]"\n"[""b""","[""O""]"\n"[""c""]","[{}]"\n',
            [
                'a.csv: "tokens" holds unreadable lists in 1 row: row 2 (line 3): \'["b"\'. '
                'Expected a JSON list such as ["a", "b"]',
                'a.csv: "tags" holds unreadable lists in 1 row: row 3 (line 4): "[{}]". '
                'Expected a JSON list such as ["a", "b"]',
            ],
            id="unreadable lists",
        ),
        pytest.param(
            LABELS,
            "text,labels\na,x|y\nb,\n",
            [
                'a.csv: "labels" is empty in 1 row: row 2 (line 3). Fill them in, or write [] where no label applies, '
                "or leave these rows out with data.missing_labels=drop"
            ],
            id="no labels",
        ),
        pytest.param(
            SCORE,
            'text,score\na,1\nb,good\nc,"3,5"\n',
            [
                'a.csv: "score" holds no number in 2 rows: row 2 (line 3): "good", row 3 (line 4): "3,5". '
                "Expected numbers such as 3.5, with a decimal point instead of a comma"
            ],
            id="text among numbers",
        ),
        pytest.param(
            SCORE,
            "text,score\na,1\nb,nan\nc,-inf\n",
            [
                'a.csv: "score" holds NaN or infinity in 2 rows: row 2 (line 3): "nan", row 3 (line 4): "-inf". '
                "Expected finite numbers; leave a cell empty where there is none"
            ],
            id="not finite",
        ),
    ],
)
def test_other_kinds(tmp_path: Path, columns: tuple[Column, ...], content: str, message: list[str]) -> None:
    found = problems(tmp_path, "a.csv", content, columns)
    assert found == message


def test_mixed_tags(tmp_path: Path) -> None:
    rows = [{"tokens": ["a"], "tags": [1]}, {"tokens": ["b"], "tags": [2]}, {"tokens": ["c"], "tags": ["O"]}]
    rows += [{"tokens": ["d", None], "tags": [1, 1]}]
    assert problems(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)), TOKENS) == [
        'a.jsonl: "tokens" holds missing items in 1 row: row 4 (line 4): ["d", null]. Expected lists of text, or '
        "tokens separated by blanks",
        'a.jsonl: "tags" holds a list of text, not a list of numbers as elsewhere, in 1 row: row 3 (line 3): '
        "'[\"O\"]'. Expected lists of text, or tokens separated by blanks",
    ]


def test_mappings(tmp_path: Path) -> None:
    content = "text,label\na,b\n"
    assert problems(tmp_path, "a.csv", content, mapping={"txt": "text", "label": "labl"}) == [
        'data.columns.txt: this task has no column "txt"; it has "text", "label". Did you mean "text"?',
        'a.csv: data.columns.label names the column "labl", which is not there. Columns there: "text", "label". '
        'Did you mean "label"?',
    ]
    assert problems(tmp_path, "a.csv", content, mapping={"label": ["text", "label"]}) == [
        "a.csv: data.columns.label names 2 columns, but a label column is one: name one of them"
    ]


def test_id_column(tmp_path: Path) -> None:
    content = "key,text,label\na,1,0\nb,2,0\na,3,0\n"
    assert problems(tmp_path, "a.csv", content, id_column="key") == [
        'a.csv: the ids in "key" must be distinct, but 1 id occurs repeatedly: "a" (rows 1, 3)'
    ]
    assert problems(tmp_path, "a.csv", content, id_column="kex") == [
        'a.csv: data.id_column names "kex", which is not there. Columns there: "key", "text", "label"'
    ]
    assert problems(tmp_path, "a.csv", "key,text,label\n,1,0\n", id_column="key") == [
        'a.csv: "key" is empty in 1 row: row 1 (line 2). Every row needs an id'
    ]


def test_damaged_archives(tmp_path: Path) -> None:
    packed = gzip.compress(b"text,label\na,b\n" * 100)
    assert problems(tmp_path, "a.csv.gz", packed[:30]) == [
        "a.csv.gz: cannot be decompressed as gz (Compressed file ended before the end-of-stream marker was reached); "
        "was it cut short, or misnamed?"
    ]
    assert problems(tmp_path, "a.csv.gz", "text,label\na,b\n") == [
        "a.csv.gz: cannot be decompressed as gz (Not a gzipped file (b'te')); was it cut short, or misnamed?"
    ]
    assert problems(tmp_path, "a.zip", "text,label\na,b\n") == [
        'data.train: "a.zip" is damaged, empty or no archive; expected a ZIP archive of exactly one file'
    ]
    (found,) = problems(tmp_path, "a.parquet", "text,label\na,b\n")
    assert found.startswith("a.parquet: is not a readable Parquet file: Parquet magic bytes not found")


def test_all_splits_at_once_and_alike_files_together(tmp_path: Path) -> None:
    (tmp_path / "a1.csv").write_text("body,label\nx,1\n")
    (tmp_path / "a2.csv").write_text("body,label\nx,1\n")
    (tmp_path / "good.csv").write_text("text,label\nx,1\n")
    (tmp_path / "v.csv").write_text("text,label\nx\n")
    data = DataConfig(train=["a*.csv", "missing.csv"], validation="v.csv", test="good.csv", test_fraction=0.5)
    with pytest.raises(DataError) as caught:
        load_splits(data, TEXT, base_dir=tmp_path)
    assert str(caught.value) == (
        "The data has problems: 4 problems\n"
        f'  - data.train: there is no file "missing.csv" (looked in {tmp_path})\n'
        "  - data.test_fraction: 0.5 is given although test rows are named as well; keep one\n"
        '  - a1.csv, a2.csv: no column "text" (or "sentence"). Columns there: "body", "label". Name the right one with '
        "data.columns.text=NAME\n"
        "  - v.csv: 1 row without exactly the 2 fields of the header: row 1 (line 2) has 1. Put double quotes around "
        'text that holds the delimiter ","'
    )


def test_files_with_different_columns(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("sentence,label\nx,1\n")
    (tmp_path / "a.csv").write_text("text,label\nx,1\n")
    with pytest.raises(DataError) as caught:
        load_splits(DataConfig(train="*.csv"), TEXT, base_dir=tmp_path)
    assert caught.value.problems == [
        'b.csv: its columns are not those of a.csv: "sentence", "label" here, "text", "label" there. Name the columns '
        "alike in all files"
    ]


def test_nothing_left(tmp_path: Path) -> None:
    assert problems(tmp_path, "a.csv", "text,label\nx,\n,1\n", missing_labels="drop") == [
        "train: no rows are left: every one lacks a label or a text"
    ]


def test_too_few_rows_to_carve(tmp_path: Path) -> None:
    assert problems(tmp_path, "a.csv", "text,label\nx,1\n", validation_fraction=0.5) == [
        "data.validation_fraction: too few training rows (1) to carve any"
    ]
