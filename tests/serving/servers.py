"""What the tests of serving share: tiny models, and applications and servers of them."""

import json
import socket
import threading
import time
from contextlib import contextmanager

from starlette.testclient import TestClient

from nlp_pipeline import TextClassification
from nlp_pipeline.serving.app import create_app
from nlp_pipeline.serving.model import ServedModel
from nlp_pipeline.serving.server import make_server
from nlp_pipeline.serving.service import Service
from nlp_pipeline.serving.settings import Batching, Limits, Settings

LONG = "the card account delivery parcel is late please help where how why "
ROWS = [{"text": f"the card {i} is late " + LONG[: 7 * (i % 9)], "label": "abc"[i % 3]} for i in range(24)]
TEXTS = [row["text"] for row in ROWS]


def trained(recipe, model, folder, rows, **settings):
    """A finished run of a task, in full precision."""
    made = recipe(
        model=model, train=rows, max_steps=3, precision="fp32", learning_rate=1e-3, dir=str(folder), **settings
    )
    made.run(progress=False)
    return folder


def classifier(model, folder, **settings):
    return trained(TextClassification, model, folder, ROWS, **settings)


def service_of(run, **settings):
    """A service of a run, whose parts can be looked into."""
    limits, batching = Limits(**settings.pop("limits", {})), Batching(**settings.pop("batching", {}))
    return Service(ServedModel.load(run, "tiny").make_ready(), Settings(limits=limits, batching=batching, **settings))


def client_of(service, **headers):
    """A client of a service's application, without a network: `with client_of(service) as client`."""
    return TestClient(create_app(service), raise_server_exceptions=False, headers=headers)


@contextmanager
def running(service):
    """A real server in a thread, on a free port; gives its URL."""
    server = make_server(create_app(service), service.settings)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def as_json(value):
    """What a value is once it has been sent."""
    return json.loads(json.dumps(value))
