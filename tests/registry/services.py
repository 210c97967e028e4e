"""Services that registries ask, started for a test, and pushes that are killed while they talk to one."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from commands import call
from registry import hub_server, wandb_server

from nlp_pipeline.registry.address import parse
from nlp_pipeline.registry.pushing import push
from nlp_pipeline.registry.versions import open_registry
from nlp_pipeline.run_directory import file_hash

HUB_PATH = "/{repo_id}/resolve/{revision}/{filename}"
# Forks a push for each line that it reads, and says how it ended. Every operation on a socket is a place to be killed:
# before it, after it, and in the middle of what is sent. Where a client talks through a process of its own, a service's
# address is given, which kills both at a request (see http_service).
PUSHES = """
import json, os, signal, socket, sys, traceback, urllib.request
from pathlib import Path
from nlp_pipeline.registry.address import parse
from nlp_pipeline.registry.pushing import push
from nlp_pipeline.registry import packing, verification, versions
versions.open_registry(parse(sys.argv[1]).root)  # imports the service's client
place = 0

def reached(last):
    global place
    place += 1
    if place == last:
        os.kill(os.getpid(), signal.SIGKILL)

def watch(name, last):
    real = getattr(socket.socket, name)
    def operation(self, *arguments):
        reached(last)
        if name in ("send", "sendall") and len(arguments[0]) > 1000:
            half = memoryview(arguments[0])[: len(arguments[0]) // 2]
            sent = real(self, half)
            reached(last)
            if name == "send":
                return sent
            arguments = (memoryview(arguments[0])[len(half) :], *arguments[1:])
        result = real(self, *arguments)
        reached(last)
        return result
    setattr(socket.socket, name, operation)

def let_service_watch(**what):
    request = urllib.request.Request(sys.argv[2] + "/_watch", json.dumps(what).encode())
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["places"]

def start(run, at):
    readable, writable = os.pipe()
    if os.fork():
        os.close(writable)
        return readable
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the answers alone go there
        if sys.argv[2]:
            let_service_watch(pid=os.getpid(), at=at)
        else:
            for name in ("connect", "send", "sendall", "recv", "recv_into"):
                watch(name, at)
        number = push(Path(run), sys.argv[1], "production", verify=False).number
        os.write(writable, json.dumps({"number": number, "places": place}).encode())
    except BaseException:
        os.write(writable, json.dumps({"error": traceback.format_exc()}).encode())
    finally:
        os._exit(0)

for line in sys.stdin:
    order = json.loads(line)
    children = [start(run, order["at"]) for run in order["runs"]]
    told = []
    for readable in children:
        with open(readable, "rb") as pipe:
            told.append(json.loads(pipe.read() or '{"killed": true}'))
        os.wait()
    if sys.argv[2]:
        told[0]["places"] = let_service_watch(pid=None, at=None)
    print(json.dumps(told), flush=True)
"""


@contextlib.contextmanager
def served(name):
    """The address of one of the servers beside this file, which runs for as long."""
    words = [sys.executable, "-m", f"registry.{name}"]
    with subprocess.Popen(words, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


def told(url, path, **what):
    """What one of the servers says to a test."""
    with urlopen(Request(url + path, json.dumps(what).encode(), method="POST")) as answer:
        return json.load(answer)


@contextlib.contextmanager
def hub_running(monkeypatch):
    """The address of a Hub of one's own, which the client asks, in this process and in those that it starts."""
    with served("hub_server") as url:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url + HUB_PATH)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        for name, value in {
            "ENDPOINT": url,
            "HUB_OFFLINE": "0",
            "HUB_DISABLE_XET": "1",
            "TOKEN": hub_server.TOKEN,
        }.items():
            monkeypatch.setenv(f"HF_{name}", value)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield url


@contextlib.contextmanager
def wandb_running(monkeypatch, folder):
    """The address of a Weights & Biases of one's own, which the client asks, in this process and in those it starts."""
    skip_without("wandb")
    import wandb

    with served("wandb_server") as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", wandb_server.KEY)
        for name in ("CACHE", "CONFIG", "DATA"):
            monkeypatch.setenv(f"WANDB_{name}_DIR", str(folder / "wandb"))
        for name in ("MODE", "SILENT"):
            monkeypatch.delenv(f"WANDB_{name}", raising=False)
        wandb.teardown()  # what it knows of the environment
        try:
            yield url
        finally:
            wandb.teardown()


@contextlib.contextmanager
def s3_running(monkeypatch):
    """The URL of an empty bucket of an S3 of one's own."""
    skip_without("s3fs", "moto")
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything-at-all")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        bucket = f"models-{uuid.uuid4().hex}"
        s3fs.S3FileSystem().mkdir(bucket)
        yield f"s3://{bucket}"
    finally:
        server.stop()


@contextlib.contextmanager
def mlflow_running(folder):
    """The address of an MLflow server, on a database in a folder."""
    skip_without("mlflow", "flask", "flask_cors", "huey")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [
        "server",
        "--backend-store-uri",
        f"sqlite:///{folder / 'served.db'}",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words], stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and server.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def skip_without(*packages):
    """Skip where a package isn't installed."""
    for package in packages:
        pytest.importorskip(package)


@contextlib.contextmanager
def pushes(target, service=""):
    """A warm process: `push(run, …, at=place)` pushes runs at the same time, each in a child of it that is killed at a
    place (by the service, where its address is given), and returns what became of them."""
    process = subprocess.Popen(
        [sys.executable, "-c", PUSHES, target, service], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def push(*runs, at=None):
        process.stdin.write(json.dumps({"runs": [str(run) for run in runs], "at": at}) + "\n")
        process.stdin.flush()
        told = json.loads(process.stdout.readline())
        for answer in told:
            assert "error" not in answer, answer["error"]
        return told

    with process:
        try:
            yield push
        finally:
            process.kill()


def list_show_promote_diff(target, place, run, capsys):
    """Three versions that differ in their card, in a registry: the commands say of them what they say anywhere."""
    for text in ("first", "second", "third"):
        (run / "model" / "README.md").write_text(f"---\nlibrary_name: transformers\n---\n{text}\n")
        push(run, target, verify=False)
    assert call("registry", "promote", f"{target}:2") == 0
    assert call("registry", "promote", f"{target}@production", "--alias", "staging") == 0
    assert call("registry", "promote", target) == 0
    assert "is version 3, was 2" in capsys.readouterr().out
    for listed in (place, target):
        call("registry", "list", listed, "--json")
        found = [(entry["version"], entry["aliases"]) for entry in json.loads(capsys.readouterr().out)]
        assert found == [(1, []), (2, ["staging"]), (3, ["production"])]
    assert call("registry", "show", f"{target}@staging") == 0
    assert "model.safetensors" in capsys.readouterr().out
    assert call("registry", "diff", f"{target}:1", target, "--json") == 0
    assert json.loads(capsys.readouterr().out)["files"] == {"README.md": "changed"}
    assert call("registry", "prune", place) == 2


def other_weights(run, number):
    """Let a run have weights and a card of its own, as if it had evaluated them."""
    weights = run / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4:] = number.to_bytes(4, "little")
    weights.write_bytes(content)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["model_files"]["model.safetensors"] = file_hash(weights)
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "model" / "README.md").write_text(f"push {number}\n")


def card(target, which, folder):
    """The card of a version that was read from end to end, hashes compared."""
    address = parse(target + which)
    registry = open_registry(address.root)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    version = registry.find(address)
    registry.fetch(version, folder)
    return version.number, (folder / "README.md").read_text()


def number_together(target, run, folder, pushers=20):
    """Push different runs at the same time: each gets a version of its own, none is lost or there twice."""
    copies = [shutil.copytree(run, folder / f"run-{number}") for number in range(pushers)]
    for number, copy in enumerate(copies):
        (copy / "model" / "README.md").write_text(f"push {number}\n")
    with pushes(target) as push:
        told = push(*copies)
    assert sorted(answer["number"] for answer in told) == list(range(1, pushers + 1))
    cards = {card(target, f":{number}", folder / "read")[1] for number in range(1, pushers + 1)}
    assert cards == {f"push {number}\n" for number in range(pushers)}
    assert 1 <= card(target, "@production", folder / "read")[0] <= pushers


def survive_kills(target, run, folder, kills=100, service=""):
    """Kill pushes at random places; after each kill a reader finds the old version or the whole new one, and the same
    push completes when it is repeated."""
    chance = random.Random(0)
    registry, name = open_registry(parse(target).root), parse(target).name
    counts = {"kills": 0, "published": 0, "named": 0}
    with pushes(target, service) as push:
        other_weights(run, 0)
        push(run)
        other_weights(run, 1)
        (told,) = push(run)
        for number in range(2, kills + 2):
            before = registry.numbers(name)
            other_weights(run, number)
            (ended,) = push(run, at=chance.randrange(1, told["places"] + 1))
            now = registry.numbers(name)
            assert now in (before, [*before, before[-1] + 1])
            named, text = card(target, "@production", folder)
            assert (named, text) in ((before[-1], f"push {number - 1}\n"), (now[-1], f"push {number}\n"))
            assert card(target, "", folder) == (now[-1], f"push {number - (now == before)}\n")
            counts["kills"] += "killed" in ended
            counts["published"] += now != before
            counts["named"] += named != before[-1]
            (told,) = push(run)
            assert card(target, "@production", folder) == (told["number"], f"push {number}\n")
    print(json.dumps(counts | {"places": told["places"]}))
    assert counts["kills"] > 0.9 * kills
    assert 0 < counts["published"] < kills
    return counts
