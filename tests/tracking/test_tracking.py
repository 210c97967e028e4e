"""Runs sent to real trackers: live, killed and gone on with, replayed; what a tracker does never stops training."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import time
import zipfile

import pytest
from commands import call
from faults.killing import kill, start, write_recipe
from registry.services import mlflow_running
from tracking.comet_server import comet_running

from nlp_pipeline import Recipe
from nlp_pipeline.config.loading import load_config
from nlp_pipeline.errors import ConfigError
from nlp_pipeline.run_directory import RunDirectory
from nlp_pipeline.tracking.follower import Follower, numbers_of, summary_of
from nlp_pipeline.tracking.trackers import PACKAGES

STEPS = list(range(1, 61))
LONG = 2000
CANARY = "canary-5f1c0b7a2d"


def mlflow_losses(uri, run_id):
    query = "select step from metrics where run_uuid = ? and key = 'train/loss' order by step"
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        return [step for (step,) in database.execute(query, (run_id,))]


def wandb_steps(folder):
    """Steps of the training loss in wandb's offline files: records in blocks as LevelDB's log has them."""
    from wandb.proto.wandb_internal_pb2 import Record

    steps = []
    for file in folder.rglob("*.wandb"):
        content, place, parts = file.read_bytes(), 7, b""
        while place + 7 <= len(content):
            left = 32768 - place % 32768
            if left < 7:
                place += left
                continue
            _, length, kind = struct.unpack("<IHB", content[place : place + 7])
            parts += content[place + 7 : place + 7 + length]
            place += 7 + length
            if kind in (1, 4):  # whole, or the last part
                items = {i.key or "/".join(i.nested_key): i.value_json for i in Record.FromString(parts).history.item}
                steps += [int(items["step"])] if "train/loss" in items else []
                parts = b""
    return sorted(steps)


def comet_messages(run):
    """What the zips of a run would have `comet upload` send."""
    for archive in (run / "tracking" / "comet").glob("*.zip"):
        with zipfile.ZipFile(archive) as file:
            assert file.testzip() is None
            yield from map(json.loads, file.read("messages.json").splitlines())


def sign_of_life(name, run):
    """What changes while a follower sends."""
    if name != "comet":
        file = run / "tracking" / f"{name}.json"
        return file.read_text() if file.exists() else ""
    with contextlib.suppress(FileNotFoundError):
        return sum(path.read_bytes().count(b"train/loss") for path in (run / "tracking").rglob("messages.json"))


def losses(name, where, run):
    """Steps of the training loss as a tracker has them, duplicates among them."""
    run_id = json.loads((run / "tracking" / f"{name}.json").read_text())["id"]
    if name == "mlflow":
        return mlflow_losses(where, run_id)
    if name.startswith("tensorboard"):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(run_id, {"scalars": 0}).Reload()
        assert len(events.Tensors("confusion/text_summary")) == 1
        return [event.step for event in events.Scalars("train/loss")]
    if name == "comet":
        metrics = [message["payload"]["metric"] for message in comet_messages(run) if message["type"] == "metric_msg"]
        return sorted(metric["step"] for metric in metrics if metric["metricName"] == "train/loss")
    from trackio.sqlite_storage import SQLiteStorage

    rows = SQLiteStorage.get_logs("nlp-pipeline", run.name, run_id=run_id)
    return [row["step"] for row in rows if "train/loss" in row]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, tiny_bert):
    return write_recipe(tmp_path_factory.mktemp("tracking"), tiny_bert)


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """A run that was sent nowhere."""
    out = tmp_path_factory.mktemp("runs") / "done"
    process = start(recipe, out)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return out


def copied(finished, tmp_path, tracking):
    """The same run, with settings of where to send it."""
    import shutil

    import yaml

    out = tmp_path / "run"
    shutil.copytree(finished, out)
    settings = yaml.safe_load((out / "recipe.yaml").read_text())
    settings["tracking"] = {**settings["tracking"], **tracking}
    (out / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return out


def place(name, tmp_path, monkeypatch):
    pytest.importorskip(PACKAGES[name])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("COMET_API_KEY", raising=False)
    if name == "trackio":
        monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    return f"sqlite:///{tmp_path / 'x.db'}" if name == "mlflow" else str(tmp_path / name)


def command(run, name):
    return [sys.executable, "-m", "nlp_pipeline.cli", "track", str(run), "--to", name]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MLflow puts artifacts beside its database's process


@pytest.mark.parametrize("name", ["comet", pytest.param("mlflow", marks=pytest.mark.slow), "tensorboard", "trackio"])
def test_a_run_is_sent_afterwards_once(finished, tmp_path, monkeypatch, name):
    where = place(name, tmp_path, monkeypatch)
    run = copied(finished, tmp_path, {"uri": {name: where}} if name != "comet" else {})
    for _ in range(2):
        done = subprocess.run(command(run, name), capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
    assert losses(name, where, run) == STEPS
    # What a killed follower had sent but not noted is known from the tracker.
    file = run / "tracking" / f"{name}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sent": {"loss": 7}}))
    assert subprocess.run(command(run, name), timeout=200).returncode == 0
    assert losses(name, where, run) == STEPS


def test_wandb_without_a_login_is_offline_and_its_files_hold_every_step_once(finished, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SOME_API_KEY", CANARY)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    run = copied(finished, tmp_path, {})
    for _ in range(2):
        done = subprocess.run(command(run, "wandb"), capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        assert "wandb: offline; send it with: wandb sync" in done.stderr
    assert wandb_steps(run / "tracking") == STEPS
    (table,) = run.rglob("*confusion*.table.json")
    confusion = json.loads((run / "results.json").read_text())["confusion"]
    cells = json.loads(table.read_text())["data"]
    assert [count for *_, count in cells] == [count for row in confusion["counts"] for count in row]
    assert [names for *names, _ in cells[:2]] == [["a", "a"], ["a", "b"]]
    files = [path for path in run.rglob("*") if path.is_file()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_comet_without_a_login_is_offline_and_gathers_nothing(finished, tmp_path, monkeypatch):
    place("comet", tmp_path, monkeypatch)
    monkeypatch.setenv("SOME_API_KEY", CANARY)
    run = copied(finished, tmp_path, {"log_model": True})
    done = subprocess.run(command(run, "comet"), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        f"tracking: comet: offline; send it with: comet upload {run}/tracking/comet/*.zip"
    ]
    messages = list(comet_messages(run))
    assert {message["type"] for message in messages} == {"file_upload", "log_other", "metric_msg", "parameter_msg"}
    others = {m["payload"]["key"]: m["payload"]["value"] for m in messages if m["type"] == "log_other"}
    assert others == {"Name": "run", "offline_experiment": True, "state": "finished"}
    settings = {m["payload"]["param"]["paramName"] for m in messages if m["type"] == "parameter_msg"}
    assert {"training.learning_rate", "batch.size"} <= settings
    assert not any("tracking" in name for name in settings)
    metrics = {m["payload"]["metric"]["metricName"] for m in messages if m["type"] == "metric_msg"}
    assert {"train/loss", "validation/accuracy", "final/validation/accuracy"} <= metrics
    files = {
        m["payload"]["additional_params"]["fileName"]: m["payload"]["file_path"]
        for m in messages
        if m["type"] == "file_upload"
    }
    assert {"recipe.yaml", "results.json", "README.md", "model/model.safetensors"} <= set(files)
    results = json.loads((run / "results.json").read_text())
    (archive,) = (run / "tracking" / "comet").iterdir()
    with zipfile.ZipFile(archive) as file:
        assert json.loads(file.read("experiment.json"))["project_name"] == "nlp-pipeline"
        chart = json.loads(file.read(files["confusion-matrix.json"]))
        assert {"labels": chart["labels"], "counts": chart["matrix"]} == results["confusion"]
        assert file.read(files["results.json"]) == (run / "results.json").read_bytes()
        assert file.read(files["model/model.safetensors"]) == (run / "model" / "model.safetensors").read_bytes()
        assert not [name for name in file.namelist() if CANARY.encode() in file.read(name)]


def test_a_zip_that_was_cut_is_none_that_may_be_noted_as_sent(tmp_path):
    pytest.importorskip("comet_ml")
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as file:
        file.writestr("messages.json", "{}\n" * 1000)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("experiment.json", "{}")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "whole.zip").read_bytes()[:-50])
    said = "from nlp_pipeline.tracking.comet_adapter import _is_whole; import pathlib, sys; "
    said += "print([_is_whole(pathlib.Path(name)) for name in sys.argv[1:]])"
    names = [str(tmp_path / f"{name}.zip") for name in ("whole", "other", "cut", "none")]
    done = subprocess.run([sys.executable, "-c", said, *names], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[True, False, False, False]"


def test_comet_with_a_login_knows_at_the_service_what_was_sent(finished, tmp_path, monkeypatch):
    place("comet", tmp_path, monkeypatch)
    with comet_running() as server:
        monkeypatch.setenv("COMET_API_KEY", CANARY)
        run = copied(finished, tmp_path, {"uri": {"comet": server.url}})
        file = run / "tracking" / "comet.json"
        for _ in range(2):
            done = subprocess.run(command(run, "comet"), capture_output=True, text=True, timeout=200)
            assert done.returncode == 0, done.stderr
            # What a killed follower had sent but not noted.
            file.write_text(json.dumps(json.loads(file.read_text()) | {"sent": {"loss": 7}}))
    assert sorted(m["step"] for m in server.metrics if m["metricName"] == "train/loss") == STEPS
    assert server.experiments == {json.loads(file.read_text())["id"]}
    assert not [path for path in server.paths if "git" in path or "package" in path or "system" in path]
    files = [path for path in run.rglob("*") if path.is_file()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_another_address_is_another_run_that_is_gone_on_with(finished, tmp_path):
    pytest.importorskip("tensorboard")
    run, other = copied(finished, tmp_path, {}), tmp_path / "other"
    for words in ([], ["--uri", f"tensorboard={other}"], ["--uri", other]):
        assert call("track", run, "--to", "tensorboard", *words) == 0
    states = sorted((run / "tracking").glob("tensorboard*.json"))
    assert [json.loads(state.read_text())["id"] for state in reversed(states)] == [
        str(run / "tracking" / "tensorboard"), str(other / "run"),
    ]  # fmt: skip
    for state in states:
        assert losses(state.stem, None, run) == STEPS


def test_addresses_that_cannot_be_are_all_said_at_once(finished, capsys):
    words = (
        "--to mlflow --to tensorboard --uri http://host --uri wandb=http://host --uri mlflow=http://me:hunter22@host"
    )
    assert call("track", finished, *words.split(), "--uri", "tensorboard=${NO_SUCH_FOLDER}") == 2
    said = capsys.readouterr().err
    for part in (
        "'http://host', expected NAME=ADDRESS",
        "'wandb=http",
        "--uri mlflow: has a password",
        "${NO_SUCH_FOLDER}",
    ):
        assert part in " ".join(said.split())
    assert "hunter22" not in said
    assert call("track", finished, "--to", "mlflow", "--uri", "a", "--uri", "mlflow=b") == 2
    assert "given twice" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["comet", "mlflow", "tensorboard", "trackio"])
def test_one_run_over_kills_of_training_and_of_the_follower(recipe, tmp_path, monkeypatch, name):
    import psutil

    where, out = place(name, tmp_path, monkeypatch), tmp_path / "out"
    words = [f"tracking.to=[{name}]", f"training.max_steps={LONG}"]
    words += [f"tracking.uri.{name}={where}"] if name != "comet" else []
    words += ["checkpoint.every=50", "evaluation.every=1000"]  # long enough for a slow client to be killed within it
    ids = set()
    for victim in ("training", "follower"):
        process = start(recipe, out, *words)
        file, deadline = out / "tracking" / f"{name}.json", time.monotonic() + 200
        before = sign_of_life(name, out)
        while process.poll() is None and time.monotonic() < deadline:
            if file.exists() and sign_of_life(name, out) not in (before, None):
                break
            time.sleep(0.01)
        assert process.poll() is None, "ended before it was killed"
        if victim == "training":
            os.kill(process.pid, signal.SIGKILL)
        else:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        kill(process)
        ids.add(json.loads(file.read_text())["id"])
    process = start(recipe, out, *words)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "has not got everything" not in output
    assert {json.loads(file.read_text())["id"]} == ids
    assert losses(name, where, out) == list(range(1, LONG + 1))


@pytest.mark.slow
def test_a_tracker_that_never_answers_stops_nothing_and_gets_it_later(recipe, tmp_path, monkeypatch):
    place("mlflow", tmp_path, monkeypatch)
    out = tmp_path / "out"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        words = ["tracking.to=[mlflow]", f"tracking.uri.mlflow={uri}", "tracking.wait=1"]
        process = start(recipe, out, *words)
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert len(re.findall("has not got everything", output)) == 1
    assert f"nlp-pipeline track {out} --to mlflow" in output
    where = f"sqlite:///{tmp_path / 'later.db'}"
    text = (out / "recipe.yaml").read_text()
    (out / "recipe.yaml").write_text(text.replace(uri, where))
    assert subprocess.run(command(out, "mlflow"), timeout=200).returncode == 0
    assert losses("mlflow", where, out) == STEPS


def test_no_secret_is_sent(finished, tmp_path, monkeypatch):
    place("mlflow", tmp_path, monkeypatch)
    place("tensorboard", tmp_path, monkeypatch)
    where = f"sqlite:///{tmp_path / 'x.db'}"
    run = copied(finished, tmp_path, {"uri": {"mlflow": where}})
    monkeypatch.setenv("SOME_API_KEY", CANARY)
    for name in ("mlflow", "tensorboard"):
        assert subprocess.run(command(run, name), timeout=200).returncode == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "x.db" for path in files)
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_a_folder_begun_anew_with_other_settings_is_another_run(finished, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    run = RunDirectory(copied(finished, tmp_path, {}))
    (run.path / "tracking").mkdir()
    for identity, number in (("a", 60), ("a", 0), ("b", 60)):
        run.write_json(run.path / "tracking" / "run.json", {"identity": identity})
        follower = Follower(run, "tensorboard")
        assert (follower.send_new() >= number) if number else follower.send_new() == 0
        follower.finish()
    assert {path.name for path in (run.path / "tracking").glob("tensorboard*") if path.is_dir()} == {
        "tensorboard", "tensorboard-2",
    }  # fmt: skip


def test_a_follower_that_cannot_be_started_stops_nothing(recipe, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboard")

    def refuse(*arguments):
        raise OSError("no process to be had")

    monkeypatch.setattr("nlp_pipeline.tracking.live._start", refuse)
    run = Recipe.from_yaml(recipe, "tracking=[tensorboard]", f"output.dir={tmp_path / 'run'}", "training.max_steps=6")
    assert run.run(progress=False)["training"]["step"] == 6
    said = capsys.readouterr().err
    assert said.count("no process to be had") == 1
    assert f"nlp-pipeline track {tmp_path / 'run'} --to tensorboard" in said


def test_unknown_trackers_and_missing_packages_are_problems_of_the_recipe(recipe, monkeypatch):
    from nlp_pipeline.tracking import trackers

    with pytest.raises(ConfigError, match=r"tracking\.to"):
        load_config(recipe, ["tracking=[mlflaw]"])
    monkeypatch.setitem(trackers.PACKAGES, "mlflow", "no_such_module")
    with pytest.raises(ConfigError, match=r"pip install 'nlp-pipeline\[mlflow\]'") as caught:
        load_config(recipe, ["tracking=[mlflow]", "tracking.uri.mlflow=http://me:hunter22@host", "batch.micro=99"])
    assert any("batch.micro" in problem for problem in caught.value.problems)


def test_a_service_that_was_shut_down_is_refused_with_the_reason(recipe, finished, capsys):
    with pytest.raises(ConfigError, match=r"neptune.*expected one of comet, .*shut down in March 2026"):
        load_config(recipe, ["tracking=[neptune]"])
    assert call("track", finished, "--to", "neptune") == 2
    assert "shut down in March 2026" in capsys.readouterr().err


def test_a_password_in_a_uri_is_refused(recipe):
    with pytest.raises(ConfigError, match=r"tracking\.uri\.mlflow: has a password"):
        load_config(recipe, ["tracking.uri.mlflow=http://me:hunter22@host"])


def test_numbers_of_a_line():
    assert numbers_of({"step": 3, "loss": None, "learning_rate": 0.1}) == {"train/learning_rate": 0.1}
    assert numbers_of({"step": 3, "validation": {"f1": 0.5, "auc": None}}) == {"validation/f1": 0.5}
    results = {"split": "test", "scores": {"f1": 0.5}, "intervals": {"f1": [0.4, 0.6]}}
    assert summary_of(results) == {"final/test/f1": 0.5, "final/test/f1/low": 0.4, "final/test/f1/high": 0.6}


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert call("track", tmp_path, "--to", "mlflaw") == 2
    assert "mlflaw" in capsys.readouterr().err


@pytest.mark.slow
def test_an_mlflow_server_over_http(finished, tmp_path, monkeypatch):
    with mlflow_running(tmp_path) as url:
        run = copied(finished, tmp_path, {"uri": {"mlflow": url}, "log_model": True})
        for _ in range(2):
            done = subprocess.run(command(run, "mlflow"), capture_output=True, text=True, timeout=200)
            assert done.returncode == 0, done.stderr + (tmp_path / "server.log").read_text()
    database = f"sqlite:///{tmp_path / 'served.db'}"
    assert losses("mlflow", database, run) == STEPS
    sent = {path.name for path in (tmp_path / "artifacts").rglob("*")}
    assert {"recipe.yaml", "results.json", "README.md", "model.safetensors"} <= sent
