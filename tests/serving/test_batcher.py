"""Requests of many clients become few forward passes, and one that fails spoils no other."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving.servers import TEXTS, classifier, client_of, service_of

from nlp_pipeline import Recipe


@pytest.fixture(scope="module")
def run(tiny_bert, tmp_path_factory):
    return classifier(tiny_bert, tmp_path_factory.mktemp("runs") / "topics")


class Held:
    """Keeps a model from answering until it is let go; notes what it was asked."""

    def __init__(self, model, monkeypatch):
        self.asked, self.first, self.go = [], threading.Event(), threading.Event()
        answer = model.answer

        def holding(question, rows):
            self.asked.append(len(rows))
            self.first.set()
            assert self.go.wait(30)
            return answer(question, rows)

        monkeypatch.setattr(model, "answer", holding)


def wait_until(condition):
    """Polls what another thread is about to bring about."""
    import time

    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def ask_together(client, service, held, bodies):
    """Sends one request, which occupies the model, then the others at once; gives all answers."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        first = pool.submit(client.post, "/", json=bodies[0])
        assert held.first.wait(30)
        others = [pool.submit(client.post, "/", json=body) for body in bodies[1:]]
        rows = sum(len(b["inputs"]) if isinstance(b["inputs"], list) else 1 for b in bodies[1:])
        try:
            wait_until(lambda: service.metrics.value("nlp_pipeline_waiting_rows") == rows)
        finally:
            held.go.set()
        return [first.result(), *(other.result() for other in others)]


def test_what_waits_goes_into_one_pass_and_each_gets_its_own_answer(run, monkeypatch):
    service = service_of(run)
    held = Held(service.model, monkeypatch)
    bodies = [{"inputs": text} for text in TEXTS]
    with client_of(service) as client:
        answers = [one.json() for one in ask_together(client, service, held, bodies)]
    assert held.asked == [1, len(TEXTS) - 1]
    expected = Recipe.from_pretrained(run).predict(TEXTS)
    assert [answer[0][0]["label"] for answer in answers] == [one["prediction"] for one in expected]
    assert [answer[0][0]["score"] for answer in answers] == pytest.approx([e["score"] for e in expected], abs=1e-6)
    assert service.metrics.value("nlp_pipeline_batch_rows_count") == 2
    assert service.metrics.value("nlp_pipeline_batch_rows_sum") == len(TEXTS)


def test_one_client_alone_waits_for_nobody(run):
    service = service_of(run, batching={"wait_seconds": 3600})
    with client_of(service) as client:
        assert all(client.post("/", json={"inputs": text}).status_code == 200 for text in TEXTS[:3])


def test_clients_that_were_answered_together_are_waited_for(run, monkeypatch):
    service = service_of(run, batching={"wait_seconds": 3600})
    held = Held(service.model, monkeypatch)
    bodies = [{"inputs": text} for text in TEXTS]
    with client_of(service) as client:
        ask_together(client, service, held, bodies[:5])  # 1, then 4 that wait together
        with ThreadPoolExecutor(4) as pool:
            assert all(one.status_code == 200 for one in pool.map(lambda b: client.post("/", json=b), bodies[:4]))
    assert held.asked == [1, 4, 4]


def test_requests_of_another_kind_are_not_waited_for(run, monkeypatch):
    service = service_of(run, batching={"wait_seconds": 3600})
    held = Held(service.model, monkeypatch)
    pair = {"inputs": {"text": "the card", "text_pair": "is late"}}
    with client_of(service) as client:
        ask_together(client, service, held, [{"inputs": "a"}, {"inputs": "a"}, {"inputs": "a"}, pair])
        assert client.post("/", json=pair).status_code == 200
    assert sorted(held.asked) == [1, 1, 1, 2]


def test_a_batch_holds_no_more_than_its_tokens(run, monkeypatch):
    service = service_of(run, batching={"tokens": 60})
    held = Held(service.model, monkeypatch)
    text = "the card is late, please help me"  # 10 tokens, as they are estimated
    with client_of(service) as client:
        ask_together(client, service, held, [{"inputs": text}] * 13)
    assert held.asked == [1, 6, 6]


def test_a_request_larger_than_a_batch_goes_alone(run, monkeypatch):
    service = service_of(run, batching={"tokens": 60})
    held = Held(service.model, monkeypatch)
    text = "the card is late, please help me"
    bodies = [{"inputs": text}, {"inputs": [text] * 9}, {"inputs": text}]
    with client_of(service) as client:
        answers = ask_together(client, service, held, bodies)
    assert sorted(held.asked) == [1, 1, 9]
    assert [len(one.json()) for one in answers] == [1, 9, 1]


def test_texts_and_pairs_don_t_share_a_pass(run, monkeypatch):
    service = service_of(run)
    held = Held(service.model, monkeypatch)
    pair = {"text": "the card", "text_pair": "is late"}
    with client_of(service) as client:
        answers = ask_together(client, service, held, [{"inputs": "a"}] + [{"inputs": "a"}, {"inputs": pair}] * 3)
    assert held.asked == [1, 3, 3]
    expected = Recipe.from_pretrained(run).predict([pair])[0]["score"]
    assert answers[2].json()[0][0]["score"] == pytest.approx(expected, abs=1e-6)


def test_a_request_that_the_model_fails_on_spoils_no_other(run, monkeypatch):
    service = service_of(run)
    answer = service.model.answer

    def failing(question, rows):
        if any("poison" in row["text"] for row in rows):
            raise RuntimeError("bad row")
        return answer(question, rows)

    monkeypatch.setattr(service.model, "answer", failing)
    held = Held(service.model, monkeypatch)
    bodies = [{"inputs": text} for text in ("a", "b", "poison", "c")]
    with client_of(service) as client:
        answers = ask_together(client, service, held, bodies)
        assert client.post("/", json={"inputs": "d"}).status_code == 200
    assert [one.status_code for one in answers] == [200, 200, 500, 200]
    assert "bad row" not in answers[2].text


def test_a_full_queue_turns_requests_away_and_says_when_to_come_again(run, monkeypatch):
    service = service_of(run, limits={"queue": 4})
    held = Held(service.model, monkeypatch)
    with client_of(service) as client, ThreadPoolExecutor(8) as pool:
        first = pool.submit(client.post, "/", json={"inputs": "a"})
        assert held.first.wait(30)
        waiting = [pool.submit(client.post, "/", json={"inputs": ["b", "c"]}) for _ in range(2)]
        try:
            wait_until(lambda: service.metrics.value("nlp_pipeline_waiting_rows") == 4)
            refused = client.post("/", json={"inputs": "d"})
        finally:
            held.go.set()
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "too many" in refused.json()["error"]
        assert [one.result().status_code for one in (first, *waiting)] == [200] * 3
        assert client.post("/", json={"inputs": "d"}).status_code == 200


def test_what_waited_too_long_is_told_so(run, monkeypatch):
    service = service_of(run, limits={"answer_seconds": 0.2})
    held = Held(service.model, monkeypatch)
    with client_of(service) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/", json={"inputs": "a"})
        assert held.first.wait(30)
        late = pool.submit(client.post, "/", json={"inputs": "b"})
        try:
            wait_until(lambda: service.metrics.value("nlp_pipeline_waiting_rows") == 1)
            threading.Event().wait(0.3)
        finally:
            held.go.set()
        assert first.result().status_code == 200
        assert late.result().status_code == 503
        assert held.asked == [1]
