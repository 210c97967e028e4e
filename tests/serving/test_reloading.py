"""A newly promoted version answers from some request on, and no request is lost; a broken one changes nothing."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from registry.runs import finished_run
from serving.servers import trained
from starlette.testclient import TestClient

from nlp_pipeline import Recipe
from nlp_pipeline.registry.pulling import find
from nlp_pipeline.registry.pushing import push
from nlp_pipeline.serving.app import create_app
from nlp_pipeline.serving.reloading import Reloader, load
from nlp_pipeline.serving.service import Service
from nlp_pipeline.serving.settings import Settings

TEXT = "the card 3 is late"


@pytest.fixture(scope="module")
def runs(tiny_bert, tmp_path_factory):
    """Two runs whose predictions differ."""
    folder = tmp_path_factory.mktemp("runs")
    return [finished_run(tiny_bert, folder / str(seed), seed=seed, learning_rate=1e-3) for seed in (1, 2)]


@pytest.fixture
def place(runs, tmp_path):
    """A registry with both as versions, the first one promoted."""
    address = f"file:{tmp_path}/registry/topics"
    for run in runs:
        push(run, address, None, verify=False)
    promote(address, 1)
    return address


def promote(address, version):
    registry, found = find(f"{address}:{version}")
    registry.promote(found, "production")


def score(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()[0][0]["score"]


def expected(runs):
    return [Recipe.from_pretrained(run).predict([TEXT])[0]["score"] for run in runs]


def test_a_promoted_version_takes_over_while_requests_run_and_none_is_lost(place, runs):
    service = Service(load(f"{place}@production").make_ready(), Settings(reload_seconds=0.05))
    app = create_app(service, Reloader(service, f"{place}@production"))
    one, two = expected(runs)
    assert one != two
    stop, answers = threading.Event(), []

    def ask(client):
        while not stop.is_set():
            answers.append(score(client.post("/", json={"inputs": TEXT})))

    with TestClient(app) as client, ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(ask, client) for _ in range(4)]
        try:
            wait_for(lambda: len(answers) > 20)
            assert client.get("/ready").json()["model"] == "topics:1"
            promote(place, 2)
            wait_for(lambda: service.model.name == "topics:2")
            count = len(answers)
            wait_for(lambda: len(answers) > count + 20)
        finally:
            stop.set()
        for worker in workers:
            worker.result()
        assert client.get("/ready").json()["model"] == "topics:2"
    first = [abs(answer - one) < 1e-6 for answer in answers]
    assert all(first[:20])
    assert not any(first[-20:])
    assert all(abs(answer - one) < 1e-6 or abs(answer - two) < 1e-6 for answer in answers)
    assert service.metrics.value("nlp_pipeline_reloads_total", {"outcome": "done"}.items()) == 1


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen within 30 seconds")


def look(service, address):
    """One look of a reloader, with the model's thread running."""
    service.start()
    try:
        return asyncio.run(Reloader(service, address).look())
    finally:
        asyncio.run(service.stop())


def test_what_can_t_be_loaded_leaves_the_model_in_its_place(place, runs, tmp_path, caplog):
    address = f"{place}@production"
    service = Service(load(address).make_ready(), Settings())
    promote(place, 2)
    manifest = tmp_path / "registry/models/topics/versions/2.json"
    content = json.loads(manifest.read_text())
    content["files"]["model.safetensors"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(content))
    assert look(service, address) is False
    assert service.model.name == "topics:1"
    assert "topics:1 goes on answering" in caplog.text
    assert service.metrics.value("nlp_pipeline_reloads_total", {"outcome": "failed"}.items()) == 1


def test_a_model_of_another_task_is_refused(place, tiny_bert, tmp_path, caplog):
    from nlp_pipeline import TokenClassification

    rows = [{"tokens": ["a", "b"], "tags": ["O", "B-X"]}] * 12
    run = trained(TokenClassification, tiny_bert, tmp_path / "tags", rows, test=rows)
    service = Service(load(f"{place}@production").make_ready(), Settings())
    push(run, place, "production", verify=False)
    assert look(service, f"{place}@production") is False
    assert "expected one that is asked as topics:1 is" in caplog.text


def test_nothing_new_and_no_address_change_nothing(place, runs):
    service = Service(load(f"{place}@production").make_ready(), Settings())
    before = service.model
    assert look(service, f"{place}@production") is False
    assert service.model is before
    other = Service(load(str(runs[0])).make_ready(), Settings())
    assert other.model.name == "1"
    assert look(other, str(runs[0])) is False


def test_another_precision_is_taken_over_too(place, runs, tiny_bert, tmp_path):
    from registry.runs import ROWS

    from nlp_pipeline import TextClassification

    run = TextClassification(
        model=tiny_bert, train=ROWS, test=ROWS, max_steps=2, precision="bf16", dir=str(tmp_path / "r")
    )
    run.run(progress=False)
    push(tmp_path / "r", place, None, verify=False)
    service = Service(load(f"{place}@production").make_ready(), Settings())
    assert service.model.recipe.accelerator.mixed_precision == "no"
    promote(place, 3)
    assert look(service, f"{place}@production") is True
    assert service.model.name == "topics:3"
    assert service.model.recipe.accelerator.mixed_precision == "bf16"
