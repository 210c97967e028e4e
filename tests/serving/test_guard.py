"""Who may ask, how much, and how fast: over real connections."""

import http.client
import json
import socket
import threading
from urllib.parse import urlsplit

import pytest
from serving.servers import classifier, client_of, running, service_of

from nlp_pipeline.errors import ConfigError
from nlp_pipeline.serving.settings import KEYS_VARIABLE, read_keys

KEY, OTHER = "first-key-of-the-tests", "second-key-of-the-tests"


@pytest.fixture(scope="module")
def run(tiny_bert, tmp_path_factory):
    return classifier(tiny_bert, tmp_path_factory.mktemp("runs") / "topics")


@pytest.fixture(scope="module")
def strict(run):
    """The URL of a server with short limits."""
    with running(service_of(run, limits={"body_bytes": 2000, "body_seconds": 1.0, "rows": 3, "characters": 50})) as url:
        yield url


def exchange(url, *parts, pause=None):
    """Sends raw bytes; gives all that comes back until the server closes or nothing more comes."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:  # it has closed
                break
            if pause:
                threading.Event().wait(pause)
        received = b""
        try:
            while more := connection.recv(65536):
                received += more
        except ConnectionResetError:
            pass
        return received


def head(length=None, *more):
    lines = ["POST / HTTP/1.1", "Host: here", "Content-Type: application/json", *more]
    lines += [f"Content-Length: {length}"] if length is not None else ["Transfer-Encoding: chunked"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status(received):
    return int(received.split()[1])


def test_without_a_key_nothing_is_answered_but_what_is_open(run):
    wrong = ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"})
    with client_of(service_of(run, keys=(KEY, OTHER))) as client:
        for headers in wrong:
            for answer in (
                client.post("/", json={"inputs": "a"}, headers=headers),
                client.post("/", content=b"{", headers=headers),
                client.post("/predict", json={"inputs": {"text": "a"}}, headers=headers),
                client.get("/v1/models", headers=headers),
                client.get("/metrics", headers=headers),
                client.get("/nowhere", headers=headers),
            ):
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/health", "/ready", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200, path
        for key in (KEY, OTHER):
            assert client.post("/", json={"inputs": "a"}, headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_keys_come_from_a_file_and_the_environment_and_are_shown_nowhere(tmp_path, monkeypatch, run):
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n\n{OTHER}\n")
    monkeypatch.setenv(KEYS_VARIABLE, f"third-key-of-the-tests,{KEY}")
    assert sorted(read_keys(file)) == sorted([KEY, OTHER, "third-key-of-the-tests"])
    assert KEY not in repr(service_of(run, keys=(KEY,)).settings)
    monkeypatch.setenv(KEYS_VARIABLE, "short")
    with pytest.raises(ConfigError, match="16 characters"):
        read_keys(None)
    monkeypatch.delenv(KEYS_VARIABLE)
    assert read_keys(None) == ()
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_keys(tmp_path / "empty")
    with pytest.raises(ConfigError, match="can't be read"):
        read_keys(tmp_path / "none")


def test_a_body_that_says_it_is_too_large_is_not_read(strict):
    received = exchange(strict, head(10**12))
    assert status(received) == 413
    assert b"connection: close" in received.lower()
    assert json.loads(received.split(b"\r\n\r\n")[1])["error"].startswith("found a body of more than 2,000 bytes")


def test_a_chunked_body_without_end_is_cut_off(strict):
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    assert status(exchange(strict, head(), *[chunk] * 3)) == 413


@pytest.mark.parametrize("parts", [(head(100), b'{"inp'), (head(), b"5\r\n{'inp\r\n")])
def test_a_body_that_does_not_come_is_not_waited_for(strict, parts):
    received = exchange(strict, *parts)
    assert status(received) == 408
    assert b"connection: close" in received.lower()


def test_a_body_that_trickles_is_not_waited_for_either(strict):
    received = exchange(strict, head(100), *[b" "] * 10, pause=0.15)
    assert status(received) == 408


@pytest.mark.parametrize("parts", [(b"",), (b"POST / HT",), (b"POST / HTTP/1.1\r\nHost: here\r\nX: ",)])
def test_a_head_that_does_not_come_closes_the_connection(strict, parts):
    assert exchange(strict, *parts) == b""


def test_a_head_that_trickles_on_a_used_connection_closes_it_too(strict):
    body = b'{"inputs": "a"}'
    received = exchange(strict, head(len(body)) + body, *[b"P", b"O", b"S", b"T", b" ", b"/", b" ", b"H"], pause=0.15)
    assert status(received) == 200
    assert received.count(b"HTTP/1.1") == 1


def test_a_fast_client_may_send_many_requests_on_one_connection_for_longer_than_that(strict):
    place = urlsplit(strict)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    for _ in range(8):
        connection.request("POST", "/", b'{"inputs": "a"}', {"Content-Type": "application/json"})
        assert connection.getresponse().read().startswith(b"[[")
        threading.Event().wait(0.15)
    connection.close()


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\0" * 100, b"X Y HTTP/9.9\r\n\r\n"]
)
def test_what_is_no_http_gets_400(strict, garbage):
    assert status(exchange(strict, garbage)) == 400


def test_too_many_texts_and_too_long_ones(run):
    with client_of(service_of(run, limits={"rows": 3, "characters": 50})) as client:
        assert client.post("/", json={"inputs": ["a"] * 3}).status_code == 200
        assert "at most 3" in client.post("/", json={"inputs": ["a"] * 4}).json()["error"]
        assert client.post("/", json={"inputs": "a" * 50}).status_code == 200
        assert "at most 50" in client.post("/", json={"inputs": "a" * 51}).json()["error"]


def test_a_client_that_leaves_is_no_error(strict, run):
    place = urlsplit(strict)
    for _ in range(20):
        with socket.create_connection((place.hostname, place.port)) as connection:
            connection.sendall(head(15) + b'{"inputs": "a"}')
    assert status(exchange(strict, head(15, "Connection: close") + b'{"inputs": "a"}')) == 200


def test_figures_name_routes_not_what_clients_make_up(run):
    service = service_of(run, limits={"body_bytes": 100})
    with client_of(service) as client:
        client.post("/", json={"inputs": "a"})
        client.post("/", json={"inputs": "a" * 200})
        client.get("/made/up")
        text = client.get("/metrics").text
        assert client.get("/metrics").headers["content-type"].startswith("text/plain")
    assert 'nlp_pipeline_requests_total{route="/",status="200"} 1.0' in text
    assert 'nlp_pipeline_requests_total{route="/",status="413"} 1.0' in text
    assert 'nlp_pipeline_requests_total{route="other",status="404"} 1.0' in text
    assert "made" not in text
    assert 'nlp_pipeline_model{name="tiny"} 1.0' in text
