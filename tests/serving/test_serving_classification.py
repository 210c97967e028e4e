"""A served classifier answers as `predict` does, in the shape that the Hub's own client reads."""

import pytest
from huggingface_hub import InferenceClient
from serving.servers import TEXTS, classifier, client_of, running, service_of

from nlp_pipeline import Recipe


@pytest.fixture(scope="module")
def run(tiny_bert, tmp_path_factory):
    return classifier(tiny_bert, tmp_path_factory.mktemp("runs") / "topics")


@pytest.fixture(scope="module")
def client(run):
    with client_of(service_of(run)) as client:
        yield client


def test_one_text_gets_what_predict_says_to_the_last_bit(run, client):
    recipe = Recipe.from_pretrained(run)
    for text in TEXTS:
        (answer,) = client.post("/", json={"inputs": text}).json()
        (expected,) = recipe.predict([text])
        assert answer[0] == {"label": expected["prediction"], "score": expected["score"]}
        assert sorted(one["label"] for one in answer) == ["a", "b", "c"]
        assert [one["score"] for one in answer] == sorted((one["score"] for one in answer), reverse=True)


def test_several_texts_are_answered_in_their_order(run, client):
    answers = client.post("/", json={"inputs": TEXTS}).json()
    expected = Recipe.from_pretrained(run).predict(TEXTS)
    assert [answer[0]["label"] for answer in answers] == [one["prediction"] for one in expected]
    assert [answer[0]["score"] for answer in answers] == pytest.approx([one["score"] for one in expected], abs=1e-6)


def test_pairs_and_parameters(run, client):
    pair = {"text": TEXTS[0], "text_pair": TEXTS[1]}
    (answer,) = client.post("/", json={"inputs": pair, "parameters": {"top_k": 1}}).json()
    (expected,) = Recipe.from_pretrained(run).predict([pair])
    assert answer == [{"label": expected["prediction"], "score": expected["score"]}]
    (logits,) = client.post("/", json={"inputs": pair, "parameters": {"function_to_apply": "none"}}).json()
    (each,) = client.post("/", json={"inputs": pair, "parameters": {"function_to_apply": "sigmoid"}}).json()
    assert any(not 0 <= one["score"] <= 1 for one in logits)
    assert all(0 < one["score"] < 1 for one in each)
    assert sum(one["score"] for one in each) != pytest.approx(1.0)


def test_the_hubs_own_client_reads_it(run, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the server is on this machine
    with running(service_of(run)) as url:
        found = InferenceClient(model=url).text_classification(TEXTS[3], top_k=2)
    (expected,) = Recipe.from_pretrained(run).predict([TEXTS[3]])
    assert len(found) == 2
    assert (found[0].label, found[0].score) == (expected["prediction"], expected["score"])


def test_numbers(tiny_bert, tmp_path):
    from serving.servers import trained

    from nlp_pipeline import TextClassification

    rows = [{"text": text, "score": i / 3} for i, text in enumerate(TEXTS)]
    run = trained(TextClassification, tiny_bert, tmp_path / "run", rows, options={"problem": "regression"})
    (expected,) = Recipe.from_pretrained(run).predict([TEXTS[0]])
    with client_of(service_of(run)) as client:
        answer = client.post("/", json={"inputs": TEXTS[0]}).json()
    assert answer == [[{"label": "LABEL_0", "score": expected["prediction"]}]]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"{", 400, "JSON"),
        (b"", 422, "required"),
        (b"[1]", 422, "dictionary"),
        (b'{"inputs": 5}', 422, "inputs"),
        (b'{"inputs": ""}', 422, "at least 1 character"),
        (b'{"inputs": []}', 422, "at least 1 item"),
        (b'{"inputs": ["a", null]}', 422, "inputs"),
        (b'{"inputs": "\\ud800"}', 422, "unicode"),
        (b'{"inputs": NaN}', 422, "inputs"),
        (b'{"inputs": "a", "parameters": {"top_k": 0}}', 422, "top_k"),
        (b'{"inputs": "a", "parameters": {"topk": 1}}', 422, "topk"),
        (b'{"inputs": "a", "text": "b"}', 422, "text"),
        (b'{"inputs": ' + b"[" * 100_000, 400, ""),
        (b'{"inputs": "a", "parameters": {"top_k": ' + b"9" * 5000 + b"}}", 400, ""),
    ],
)
def test_what_is_no_request_is_refused_and_said_why(client, body, status, told):
    answer = client.post("/", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert told in answer.json()["error"]
    assert len(answer.content) < 2000


def test_what_was_sent_is_not_sent_back(client):
    answer = client.post("/", json={"inputs": {"text": "my secret", "text_pair": 5}})
    assert answer.status_code == 422
    assert "secret" not in answer.text


def test_another_content_type_other_paths_and_methods(client):
    assert client.post("/", content=b'{"inputs": "a"}', headers={"Content-Type": "text/plain"}).status_code == 422
    assert client.get("/nowhere").json() == {"error": "Not Found"}
    answer = client.put("/", json={"inputs": "a"})
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]
