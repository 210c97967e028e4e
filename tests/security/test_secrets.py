"""Canaries: values that must stay secret, and every byte that a run leaves or prints."""

import json
import os
import sqlite3
import subprocess
import sys

import pytest
import yaml

from nlp_pipeline import ConfigError, DataError, TextClassification, load_config
from nlp_pipeline.config.schema import DataConfig
from nlp_pipeline.data.sources import plan_sources
from nlp_pipeline.secrets import expand, hide, redact

CANARIES = {
    "HF_TOKEN": "hf_canaryHubTokenZq7",
    "WANDB_API_KEY": "canaryTrackerKeyZq7",
    "AWS_SECRET_ACCESS_KEY": "canaryCloudKeyZq7",
    "DB_PASSWORD": "canary/DatabaseZq7",
    "CANARY": "canaryPlainValueZq7",
}
LITERAL = "canaryLiteralPasswordZq7"
NEVER = [*CANARIES.values(), LITERAL]


@pytest.fixture
def start(tmp_path, tiny_bert):
    """Starts a command with the canaries in its environment and its caches in this folder."""
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("create table rows (text, label, note)")
        rows = [(f"the card {i} is late", "ab"[i % 2], "x") for i in range(16)]
        connection.executemany("insert into rows values (?, ?, ?)", rows)
    recipe = {
        "task": "text-classification",
        "model": tiny_bert,
        "data": {
            # SQLite takes no password; a parameter of the URL that is called one is treated as such all the same.
            "train": f"sqlite:///{tmp_path}/rows.db?password=${{DB_PASSWORD}}",
            "test": f"sqlite:///{tmp_path}/rows.db?secret={LITERAL}",
            "query": {"train": "select * from rows where note <> '${CANARY}'", "test": "select * from rows"},
        },
        "training": {"max_steps": 2, "precision": "fp32"},
        "output": {"dir": "run"},
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(recipe))
    places = {"NLP_PIPELINE_CACHE": "cache", "HF_HOME": "hf", "XDG_CACHE_HOME": "xdg", "TMPDIR": "tmp", "HOME": "home"}
    for folder in places.values():
        (tmp_path / folder).mkdir()
    environment = {
        **os.environ,
        "NLP_PIPELINE_NATIVE": "0",
        **CANARIES,
        **{name: str(tmp_path / place) for name, place in places.items()},
    }

    def start(*words, code="from nlp_pipeline.cli import main; main()"):
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )

    return start


def assert_unseen(folder, *answers):
    """No canary in any file's bytes or name, or in what was printed."""
    given = folder / "x.yaml"  # what the user wrote holds the literal password
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != given]
    assert any("checkpoints" in path.parts for path in files)
    for secret in NEVER:
        for path in files:
            assert secret not in str(path)
            assert secret.encode() not in path.read_bytes(), path
        for answer in answers:
            assert secret not in answer.stdout + answer.stderr


# A crash whose message holds all there is: settings, a variable, a URL.
CRASH = """
import os, sys
from nlp_pipeline.cli import main
def crash(self, *given):
    config = self.config if hasattr(self, "config") else self.recipe.config
    raise RuntimeError(f"unforeseen: {config!r} {os.environ['DB_PASSWORD']} sqlite://u:LITERAL@h")
""".replace("LITERAL", LITERAL)
CRASH_IN_TRAINING = CRASH + "from nlp_pipeline.training.step import Stepper; Stepper.step = crash; main()"
CRASH_IN_EVALUATION = (
    CRASH
    + f"""
for words in (["train", "x.yaml"], ["evaluate", "run", "sqlite:///none.db?password={LITERAL}"]):
    try:
        main(words)
    except SystemExit as end:
        print("code", end.code)
from nlp_pipeline.stages import scoring; scoring.loaded_model = crash; main(["evaluate", "run", "rows.csv"])
"""
)


def test_a_whole_run_leaves_no_secret(start, tmp_path):
    first = start("train", "x.yaml")
    assert first.returncode == 0, first.stderr
    (tmp_path / "rows.csv").write_text("text,label\nthe card,a\n")
    again = start(code=CRASH_IN_EVALUATION)
    assert "holds the finished run of this recipe" in again.stdout  # what is hidden is still compared
    assert "code 2" in again.stdout
    assert again.returncode == 1
    assert "RuntimeError: unforeseen: Config(" in again.stderr
    assert_unseen(tmp_path, first, again)
    written = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert written["data"]["train"].endswith("?password=${DB_PASSWORD}")
    assert written["data"]["query"]["train"].endswith("'${CANARY}'")
    assert written["data"]["test"].endswith("?secret=***")


@pytest.mark.slow
def test_an_export_leaves_no_secret(start, tmp_path):
    pytest.importorskip("onnxruntime")
    first = start("train", "x.yaml")
    assert first.returncode == 0, first.stderr
    targets = ("onnx", "onnx-int8", "exported-program", "merged")
    again = start("export", "run", *(word for target in targets for word in ("--to", target)))
    assert again.returncode == 0, again.stderr
    assert {path.name for path in (tmp_path / "run" / "export").iterdir()} == {*targets}
    assert_unseen(tmp_path, first, again)


def test_a_crash_in_training_shows_a_traceback_without_secrets(start, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "x").touch()
    answer = start("train", "x.yaml", f"data.test=sqlite:///rows.db?token={LITERAL}", code=CRASH_IN_TRAINING)
    assert answer.returncode == 1, answer.stderr
    assert "RuntimeError: unforeseen: Config(" in answer.stderr
    assert "Go on with the same command" in answer.stderr
    assert_unseen(tmp_path, answer)


URL = f"postgresql://me:{LITERAL}@host/db"


@pytest.mark.parametrize(
    "settings",
    [
        {"train": URL},
        {"train": [URL, URL], "query": "select 1"},
        {"train": "x.csv", "output": {"dir": URL}},
        {"train": "x.csv", "epochs": URL},
        {"train": "x.csv", "batch": URL},
        {"train": "x.csv", "training": {URL: 1}},
        {"train": f"mssql://h/db?pwd={LITERAL}"},
    ],
)
def test_no_message_holds_a_password(settings, tiny_bert):
    with pytest.raises(ConfigError) as error:
        TextClassification(model=tiny_bert, **settings)
    assert LITERAL not in str(error.value)
    assert not any(LITERAL in problem for problem in error.value.problems)


@pytest.mark.filterwarnings("ignore:Query string argument")  # SQLite has no use for a password
def test_neither_does_a_query_that_fails(tmp_path, tiny_bert, monkeypatch):
    monkeypatch.setenv("CANARY", CANARIES["CANARY"])
    sqlite3.connect(tmp_path / "rows.db").close()
    recipe = TextClassification(
        model=tiny_bert,
        train=f"sqlite:///{tmp_path}/rows.db?password={LITERAL}",
        query="select '${CANARY}' from nowhere",
        dir=str(tmp_path / "run"),
    )
    for text in (repr(recipe.config), str(recipe.config.data), repr(recipe)):
        assert LITERAL not in text
    with pytest.raises(DataError, match=r"'\$\{CANARY\}'|nowhere") as error:
        recipe.load()
    assert CANARIES["CANARY"] not in str(error.value)
    assert LITERAL not in str(error.value)


def test_the_card_names_no_database(tmp_path, tiny_bert, monkeypatch):
    from nlp_pipeline.evaluation.card import _data_name

    monkeypatch.setenv("DB_URL", f"sqlite:///{tmp_path}/rows.db?password={LITERAL}")
    sqlite3.connect(tmp_path / "rows.db").close()
    for train in (f"sqlite:///{tmp_path}/rows.db?password={LITERAL}", "${DB_URL}"):
        recipe = TextClassification(model=tiny_bert, train=train, query="select 1", dir=str(tmp_path / "run"))
        assert LITERAL not in _data_name(recipe)
        assert str(tmp_path) not in _data_name(recipe)


def test_variables_are_read_where_they_are_used(tmp_path, tiny_bert, monkeypatch):
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("MODELS", os.path.dirname(tiny_bert))
    (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "x.yaml").write_text(
        json.dumps({"task": "text-classification", "model": "${MODELS}/tiny-bert", "data": {"train": "${FOLDER}/rows.csv"},
                    "output": {"dir": "${FOLDER}/run"}})
    )  # fmt: skip
    config = load_config(tmp_path / "x.yaml")
    assert config.public()["model"]["name"] == "${MODELS}/tiny-bert"
    recipe = TextClassification.from_config(config)
    assert recipe.run_directory.path == tmp_path / "run"
    assert len(recipe.load().train) == 2
    source = plan_sources(config.data).sources["train"][0]
    assert (source.shown, source.value) == ("${FOLDER}/rows.csv", str(tmp_path / "rows.csv"))
    assert str(tmp_path) not in repr(source)


def test_variables_that_are_not_set_or_not_read_are_problems(tiny_bert, monkeypatch):
    monkeypatch.delenv("NO_SUCH", raising=False)
    with pytest.raises(ConfigError) as error:
        TextClassification(
            model={"name": "${NO_SUCH}/x", "revision": "${NO_SUCH}"},
            train="${NO_SUCH}.csv",
            output={"dir": "${NO_SUCH}"},
        )
    text = str(error.value)
    for place in ("model: ${NO_SUCH}: no such", "data: train: ${NO_SUCH}: no such", "output.dir: ${NO_SUCH}: no such"):
        assert place in text
    assert "model.revision: '${NO_SUCH}' would stay so" in text


def test_expanding_and_hiding(monkeypatch):
    monkeypatch.setenv("NAME_X", "value-x")
    monkeypatch.setenv("MY_TOKEN", "token-value-123")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM_", "a-value-that-is-none")
    assert expand("a ${NAME_X} b $${NAME_X} $NAME_X") == "a value-x b ${NAME_X} $NAME_X"
    assert redact("it is value-x") == "it is ${NAME_X}"
    assert hide("token-value-123, a-value-that-is-none") == "***, a-value-that-is-none"
    assert hide("mysql://u:p@ss@h/x and mail me@home") == "mysql://u:***@home"  # too much rather than too little
    assert hide("mysql://u:${DB}@h/x") == "mysql://u:${DB}@h/x"
    assert hide(hide("a://u:p@h?token=x&b=1")) == "a://u:***@h?token=***&b=1"


def test_a_hidden_password_is_no_password():
    """A recipe that a run wrote, used again."""
    problems = plan_sources(DataConfig(train="postgresql://me:***@host/db", query="select 1")).problems
    assert "holds *** where a password was hidden" in problems[0]


def test_the_working_folder_is_no_secret(monkeypatch):
    monkeypatch.setenv("PWD", "/home/me/project")
    monkeypatch.setenv("DB_PWD", "hunter2hunter2")
    assert hide("/home/me/project/rows.csv by hunter2hunter2") == "/home/me/project/rows.csv by ***"
