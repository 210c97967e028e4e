"""Packages run as their hosts run them: from their own folder, with the code that lies in it."""

import json
import os
import re
import subprocess
import sys
import urllib.request

import pytest
from commands import call
from serving.servers import TEXTS, as_json, classifier

from nlp_pipeline import Recipe
from nlp_pipeline.serving.packaging import pinned


@pytest.fixture(scope="module")
def run(tiny_bert, tmp_path_factory):
    return classifier(tiny_bert, tmp_path_factory.mktemp("runs") / "topics")


@pytest.fixture(scope="module")
def expected(run):
    return as_json([[one["prediction"], one["score"]] for one in Recipe.from_pretrained(run).predict([TEXTS[0]])])


def pack(run, folder, host):
    assert call("package", run, "--to", host, "--output", folder) == 0
    return folder


def in_a_process(folder, code):
    """Runs code in a folder; what it prints last, as JSON. The package must be that of the folder."""
    code += f"\nimport nlp_pipeline\nassert nlp_pipeline.__file__.startswith({str(folder)!r}), nlp_pipeline.__file__"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def exact(requirements):
    lines = requirements.read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]*==[0-9][a-z0-9.]*", line) for line in lines), lines
    return {line.partition("==")[0] for line in lines}


def best(answer):
    return [[labels[0]["label"], labels[0]["score"]] for labels in answer]


@pytest.mark.slow
def test_an_endpoint_loads_the_handler_from_the_repository_and_calls_it(run, tmp_path, expected):
    folder = pack(run, tmp_path / "packed", "inference-endpoint")
    # As huggingface_inference_toolkit does it.
    code = f"""
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("handler.EndpointHandler", {str(folder / "handler.py")!r})
handler = importlib.util.module_from_spec(spec)
sys.modules["handler.EndpointHandler"] = handler
spec.loader.exec_module(handler)
handle = handler.EndpointHandler({str(folder)!r})
try:
    handle({{"inputs": 5, "secret": "abc"}})
except ValueError as error:
    refused = str(error)
print(json.dumps([handle({{"inputs": {TEXTS[0]!r}}}), refused, "fastapi" in sys.modules]))
"""
    answer, refused, framework = in_a_process(folder, code)
    assert best(answer) == expected
    assert "inputs" in refused
    assert "abc" not in refused
    assert not framework
    needed = exact(folder / "requirements.txt")
    assert {"torch", "transformers", "pydantic", "huggingface-hub"} <= needed
    assert not {"fastapi", "pytest", "nlp-pipeline"} & needed


@pytest.mark.slow
def test_sagemaker_calls_the_four_functions(run, tmp_path, expected):
    folder = pack(run, tmp_path / "packed", "sagemaker")
    code = f"""
import json, sys
sys.path.insert(0, {str(folder / "code")!r})
import inference
model = inference.model_fn({str(folder)!r})
data = inference.input_fn(json.dumps({{"inputs": {TEXTS[0]!r}}}).encode(), "application/json")
try:
    inference.input_fn("a,b", "text/csv")
except ValueError as error:
    refused = str(error)
print(json.dumps([json.loads(inference.output_fn(inference.predict_fn(data, model), "application/json")), refused]))
"""
    answer, refused = in_a_process(folder, code)
    assert best(answer) == expected
    assert "text/csv" in refused
    assert "torch" in exact(folder / "code" / "requirements.txt")


def test_the_command_of_the_image_serves(run, tmp_path, expected):
    folder = pack(run, tmp_path / "packed", "docker")
    text = (folder / "Dockerfile").read_text()
    assert f"FROM python:{sys.version_info.major}.{sys.version_info.minor}-slim" in text
    copied = re.findall(r"^COPY (\S+)", text, re.M)
    assert all((folder / name).exists() for name in copied)
    assert sorted(copied) == sorted(set(os.listdir(folder)) - {"Dockerfile"})
    command = json.loads(re.search(r"^CMD (\[.*\])", text, re.M)[1])
    # The image has the same Python; its port may be taken here.
    command = [sys.executable, *command[1:], "--port", "0"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            url = server.stdout.readline().split(" at ")[1].split()[0]
            body = json.dumps({"inputs": TEXTS[0]}).encode()
            asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert best(json.load(answer)) == expected
        finally:
            server.terminate()
    assert {"fastapi", "uvicorn", "torch"} <= exact(folder / "requirements.txt")


def test_versions_are_the_installed_ones(tmp_path):
    from importlib.metadata import version

    lines = dict(line.split("==") for line in pinned("docker", tmp_path))
    assert lines["fastapi"] == version("fastapi")
    assert lines["torch"] == version("torch").partition("+")[0]
    assert "sentencepiece" not in lines
    (tmp_path / "source.spm").touch()
    assert f"sentencepiece=={version('sentencepiece')}" in pinned("docker", tmp_path)


def test_a_folder_that_is_there_and_what_is_no_model_are_refused(run, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    assert call("package", run, "--to", "docker", "--output", tmp_path / "there") == 2
    assert "is there already" in capsys.readouterr().err
    assert call("package", tmp_path, "--to", "docker", "--output", tmp_path / "new") == 2
    assert not (tmp_path / "new").exists()
