"""`nlp-pipeline serve` as a process: it says where it answers, and ends after it has answered what it took."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from commands import call
from serving.servers import TEXTS, classifier

from nlp_pipeline import Recipe


@pytest.fixture(scope="module")
def run(tiny_bert, tmp_path_factory):
    return classifier(tiny_bert, tmp_path_factory.mktemp("runs") / "topics")


@contextmanager
def process(*arguments):
    """A serving process and its URL; killed at the end if it still runs."""
    command = [sys.executable, "-c", "from nlp_pipeline.cli import main; main()", "serve", *map(str, arguments)]
    with subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            line = started.stdout.readline()
            assert " answers at http://" in line, line + (started.stderr.read() if started.poll() is not None else "")
            yield started, line.split(" at ")[1].split()[0]
        finally:
            started.kill()


def ask(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status, json.load(answer)


def test_it_answers_and_a_signal_ends_it_once_all_is_answered(run):
    expected = Recipe.from_pretrained(run).predict(TEXTS)
    long = [
        " ".join([text] * (3500 // len(text))) for text in TEXTS * 10
    ]  # a second's work, while which the others wait
    texts = [long, *TEXTS]
    with process(run) as (server, url), ThreadPoolExecutor(len(texts)) as pool:
        answers = [pool.submit(ask, url, {"inputs": text}) for text in texts]
        waiting = -1.0
        while waiting != len(TEXTS) - sum(answer.done() for answer in answers[1:]):
            figures = urllib.request.urlopen(url + "/metrics").read().decode()
            waiting = float(figures.partition("\nnlp_pipeline_waiting_rows ")[2].partition("\n")[0])
        assert not answers[0].done()
        server.send_signal(signal.SIGTERM)
        found = [answer.result() for answer in answers]
        assert server.wait(60) == 0
        assert server.stderr.read() == ""
    assert [status for status, _ in found] == [200] * len(texts)
    assert [answer[0][0]["label"] for _, answer in found[1:]] == [one["prediction"] for one in expected]
    assert len(found[0][1]) == len(TEXTS) * 10


def test_a_port_that_is_taken_and_what_is_no_model(run, tmp_path, capsys):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert call("serve", run, "--port", taken.getsockname()[1]) == 2
    assert "can't be listened on" in capsys.readouterr().err
    assert call("serve", tmp_path) == 2
    assert "neither a finished run nor its model folder" in capsys.readouterr().err


def test_keys_are_asked_for_and_a_short_one_is_refused_before_anything_loads(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NLP_PIPELINE_API_KEYS", "0123456789")
    assert call("serve", tmp_path / "none") == 2
    told = capsys.readouterr().err
    assert "16 characters" in told
    assert "0123456789" not in told
    monkeypatch.setenv("NLP_PIPELINE_API_KEYS", "a-key-that-is-long-enough")
    with process(run) as (_, url):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(url, {"inputs": "a"})
        request = urllib.request.Request(
            url, b'{"inputs": "a"}',
            {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['NLP_PIPELINE_API_KEYS']}"},
        )  # fmt: skip
        assert urllib.request.urlopen(request).status == 200


def test_an_address_for_everyone_without_a_key_is_warned_about(run):
    with process(run, "--host", "0.0.0.0") as (server, _):
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
        assert "set NLP_PIPELINE_API_KEYS" in server.stderr.read()
