"""What shows without reading: `check_sources`."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nlp_pipeline.config.schema import DataConfig
from nlp_pipeline.data.sources import check_sources, plan_sources
from nlp_pipeline.secrets import hide_password


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train.csv", "b.csv", "x.log", "x.xlsx", "noending"):
        (tmp_path / name).write_text("text,label\na,b\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.jsonl").write_text("{}\n")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "x")
        archive.writestr("b.csv", "x")
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"train": "train.csv"}, []),
        ({}, ["train: there is nothing to train on; set data.train=FILE"]),
        ({"train": "trian.csv"}, ['train: there is no file "trian.csv" (looked in {0}); did you mean "train.csv"?']),
        (
            {"train": "data/a.csv"},
            ['train: there is no file "data/a.csv": the folder {0}/data does not exist'],
        ),
        ({"train": "*.parquet"}, ['train: no file matches "*.parquet" (looked in {0})']),
        ({"train": "empty.csv"}, ['train: "empty.csv" is empty (0 bytes)']),
        (
            {"train": "x.log"},
            [
                'train: the ending ".log" of "x.log" does not tell the format; set data.format to csv, tsv, json, jsonl, '
                "parquet or txt."
            ],
        ),
        (
            {"train": "noending"},
            [
                'train: "noending", which has no ending, does not tell the format; set data.format to csv, tsv, json, '
                "jsonl, parquet or txt."
            ],
        ),
        (
            {"train": "x.xlsx"},
            [
                'train: the ending ".xlsx" of "x.xlsx" does not tell the format; set data.format to csv, tsv, json, '
                "jsonl, parquet or txt. Save a spreadsheet as CSV first."
            ],
        ),
        (
            {"train": "sub"},
            [
                'train: "sub" is a folder, but none that save_to_disk wrote (no dataset_dict.json or state.json); '
                "for the files in it use a glob such as sub/*.csv"
            ],
        ),
        (
            {"train": "train.csv", "format": "disk"},
            ['train: "train.csv" is a file, but data.format is disk; expected a folder that save_to_disk wrote'],
        ),
        (
            {"train": "two.zip"},
            ['train: "two.zip" is an archive of 2 files (a.csv, b.csv); expected a ZIP archive of exactly one file'],
        ),
        (
            {"train": ["b.csv", "*.csv"]},
            ['train: "b.csv" is named twice; its rows would count twice', 'train: "empty.csv" is empty (0 bytes)'],
        ),
        (
            {"train": "sqlite:///no.db", "query": "SELECT 1"},
            ['train: there is no file "no.db" (looked in {0})'],
        ),
        (
            {"train": "postgresql://me:pa@ss@host/db?sslpassword=x"},
            [
                "train: postgresql://me:***@host/db?sslpassword=*** is a database, but there is no query for it; "
                "set data.query.train='SELECT …'"
            ],
        ),
        (
            {"train": "postgresql://h/db", "test": "postgresql://h/db", "query": "SELECT 1"},
            ["test: postgresql://h/db is a database, but there is no query for it; set data.query.test='SELECT …'"],
        ),
        (
            {"train": "train.csv", "query": {"train": "SELECT 1", "test": "SELECT 2"}},
            [
                "query: there is a query for train, but data.train is no database URL",
                "query: there is a query for test, but data.test is no database URL",
            ],
        ),
        (
            {"train": "https://host/a.csv"},
            ['train: "https://host/a.csv" is a remote file; download it first, then name the local file'],
        ),
        ({"train": "hf://datasets/x/y"}, ['train: "hf://datasets/x/y": data sets of the Hub are named hub:user/name']),
        (
            {"train": "hub:a/b/c"},
            ['train: "hub:a/b/c" is no name of a Hub data set; expected hub:user/name or hub:user/name#split'],
        ),
        ({"train": "hub:a/b#dev", "hub_revision": "main"}, []),
        ({"train": "a/b", "format": "hub"}, []),
        (
            {"train": "train.csv", "hub_config": "x"},
            ["hub_config: only a Hub data set (hub:user/name) has one; remove it"],
        ),
        ({"train": "sample:messages"}, []),
        (
            {"train": "sample:mesages"},
            ['train: there is no sample data set "mesages"; there are: messages. Did you mean "messages"?'],
        ),
        (
            {"train": "memory:rows"},
            [
                'train: "memory:rows" stands for in-memory rows under the name "rows", but there are none (nothing was passed)'
            ],
        ),
        (
            {"train": "train.csv", "encoding": "utf9"},
            ['encoding: "utf9" is unknown; expected one such as utf-8, cp1252 or utf-16'],
        ),
        (
            {"train": "train.csv", "validation_fraction": 0.5, "test_fraction": 0.5},
            [
                "validation_fraction: 0.5 and test_fraction: 0.5 leave nothing to train on; together they must be below 1"
            ],
        ),
        (
            {"train": "no.csv", "validation": "b.csv", "test": " ", "validation_fraction": 0.1},
            [
                'train: there is no file "no.csv" (looked in {0})',
                "test: an empty name; name a file",
                "validation_fraction: 0.1 is given although validation rows are named as well; keep one",
            ],
        ),
    ],
)
def test_check_sources(folder: Path, settings: dict[str, Any], expected: list[str]) -> None:
    found = check_sources(DataConfig(**settings), {}, folder)
    assert found == [message.replace("{0}", str(folder)) for message in expected]


def test_unreadable_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlp_pipeline.data.locations.os.access", lambda path, mode: False)
    expected = ['train: "train.csv" may not be read: permission denied']
    assert check_sources(DataConfig(train="train.csv"), {}, folder) == expected


def test_in_memory_placeholders(folder: Path) -> None:
    assert check_sources(DataConfig(train="memory:train"), {"train": [{}]}) == []
    assert check_sources(DataConfig(), {"train": [{}]}) == []
    assert check_sources(DataConfig(train="memory:tests"), {"test": [], "train": None}) == [
        'train: "memory:tests" stands for in-memory rows under the name "tests", but there are none (passed: test)'
    ]


def test_globs_are_sorted_and_relative(folder: Path) -> None:
    (folder / "empty.csv").unlink()
    plan = plan_sources(DataConfig(train="**/*.*s*[lv]"), None, folder)
    assert [source.shown for source in plan.sources["train"]][:1] == ["b.csv"]
    assert [source.shown for source in plan_sources(DataConfig(train="*.csv"), None, folder).sources["train"]] == [
        "b.csv",
        "train.csv",
    ]


def test_a_name_with_glob_characters_is_a_name_first(folder: Path) -> None:
    (folder / "a[1].csv").write_text("x")
    assert check_sources(DataConfig(train="a[1].csv"), None, folder) == []


def test_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert check_sources(DataConfig(train="~/train.csv")) == []
    assert plan_sources(DataConfig(train="~/b*.csv")).sources["train"][0].value == str(folder / "b.csv")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("mysql://u:p%40q@h:3306/db", "mysql://u:***@h:3306/db"),
        ("mssql://h/db?user=u&Password=p;x=1", "mssql://h/db?user=u&Password=***;x=1"),
    ],
)
def test_hidden_passwords(url: str, shown: str) -> None:
    assert hide_password(url) == shown


def test_importing_loads_nothing_heavy(folder: Path) -> None:
    code = """
import sys
import nlp_pipeline.data
from nlp_pipeline.config.schema import DataConfig
nlp_pipeline.data.check_sources(DataConfig(train="train.csv", validation="two.zip", test="sqlite:///x.db"))
print([name for name in ("torch", "datasets", "pyarrow", "pandas", "sqlalchemy", "numpy") if name in sys.modules])
"""
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]", result.stderr
