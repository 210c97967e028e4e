"""Each task in its shape: what a client gets is what `predict` says, and the Hub's own client reads it."""

import math
from functools import cache

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from serving.servers import as_json, client_of, running, service_of, trained
from tasks.chat_models import write_tiny_llama

from nlp_pipeline import Recipe, TextClassification
from nlp_pipeline.tasks import task_class

NAMES = [
    {"tokens": f"Mary flew from Paris to London {i}".split(), "tags": "B-PER O O B-LOC O B-LOC O".split()}
    for i in range(12)
]
QUESTIONS = [
    {
        "question": "where is the parcel?",
        "context": f"the parcel {i} is in paris",
        "answers": {"text": ["paris"], "answer_start": [len(f"the parcel {i} is in ")]},
    }
    for i in range(12)
]
TEXTS = [{"text": f"please help me, where is my parcel {i}"} for i in range(12)]
RANKED = [
    {"query": f"where is card {i}", "positives": ["the card is late"], "negatives": ["good money", "bad account"]}
    for i in range(12)
]
SCORED = [{"query": f"where is card {i}", "text": "the card is late", "score": i / 12} for i in range(12)]
CHOICES = [{"prompt": f"the card {i}", "choices": ["is late", "is a parcel", "a"], "label": i % 3} for i in range(12)]
TALKS = [{"prompt": f"where is card {i}?", "completion": f"it is in paris {i}"} for i in range(12)]
PAIRS = [{"prompt": f"where is card {i}?", "chosen": "in paris", "rejected": "no"} for i in range(12)]
NLI = [
    {"text": f"the card {i} is late", "text_pair": "the card is slow", "label": ("entailment", "neutral", "contradiction")[i % 3]}
    for i in range(12)
]  # fmt: skip
TASKS = {
    "token-classification": (NAMES, {}),
    "question-answering": (QUESTIONS, {}),
    "fill-mask": (TEXTS, {}),
    "text-ranking": (RANKED, {}),
    "multiple-choice": (CHOICES, {}),
    "text-generation": (TEXTS, {}),
    "instruction-tuning": (TALKS, {"options": {"samples": 0}}),
    "preference-tuning": (PAIRS, {}),
}
DECODERS = ("text-generation", "instruction-tuning", "preference-tuning")


@pytest.fixture(scope="module")
def run_of(tiny_bert, tmp_path_factory):
    """A finished run of a task, trained once."""
    folder = tmp_path_factory.mktemp("runs")
    llama = write_tiny_llama(folder / "llama", [str(row) for row in TEXTS + TALKS + PAIRS])

    @cache
    def make(task):
        rows, settings = TASKS[task]
        return trained(task_class(task), llama if task in DECODERS else tiny_bert, folder / task, rows, **settings)

    return make


@pytest.fixture(scope="module")
def served(run_of):
    """(recipe, client) of a task."""
    clients = []

    def make(run):
        client = client_of(service_of(run))
        client.__enter__()
        clients.append(client)
        return Recipe.from_pretrained(run), client

    kept = cache(lambda task: make(run_of(task)))
    yield kept
    for client in clients:
        client.__exit__(None, None, None)


def post(client, path="/", **body):
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_answered_as_predict_answers_them(served, task):
    recipe, client = served(task)
    names = [column.name for column in recipe.columns() if not column.is_label]
    rows = [{name: row[name] for name in names if name in row} for row in TASKS[task][0][:3]]
    one = recipe.predict(rows[:1])[0]
    del one["row_id"]
    assert post(client, "/predict", inputs=rows[0]) == as_json(one)
    several = recipe.predict(rows)
    for record in several:
        del record["row_id"]
    for found, expected in zip(post(client, "/predict", inputs=rows), as_json(several), strict=True):
        assert close(found, expected)


def close(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-6) if isinstance(one, float) else one == other


def test_entities_stand_where_they_are_said_to(served):
    recipe, client = served("token-classification")
    text = 'Mary (of Paris) flew  to "New London", late.'
    words = ["Mary", "(", "of", "Paris", ")", "flew", "to", '"', "New", "London", '"', ",", "late", "."]
    (expected,) = recipe.predict([{"tokens": words}])
    assert len(expected["prediction"]) == len(words)
    found = post(client, inputs=text)
    assert [one["entity_group"] for one in found] == [one["type"] for one in expected["entities"]]
    for one, entity in zip(found, expected["entities"], strict=True):
        assert text[one["start"] : one["end"]] == one["word"]
        assert one["word"].split()[0] == words[entity["start"]]
        assert 0 < one["score"] <= 1
    each = post(client, inputs=text, parameters={"aggregation_strategy": "none", "ignore_labels": []})
    assert [one["word"] for one in each] == words
    assert [one["entity"] for one in each] == expected["prediction"]
    few = post(client, inputs=text, parameters={"aggregation_strategy": "none", "ignore_labels": ["B-PER", "O"]})
    assert [one["word"] for one in few] == [
        w for w, t in zip(words, expected["prediction"], strict=True) if t not in ("B-PER", "O")
    ]
    assert post(client, inputs=[text, "  "])[0] == found


def test_tags_of_words_beyond_the_maximum_length(served):
    recipe, client = served("token-classification")
    text = "paris " * 300
    found = post(client, inputs=text, parameters={"aggregation_strategy": "none", "ignore_labels": []})
    assert len(found) == 300
    assert found[299]["score"] == 0
    assert [one["entity"] for one in found] == recipe.predict([{"tokens": text.split()}])[0]["prediction"]


def test_answers_stand_in_their_context(served):
    recipe, client = served("question-answering")
    given = {"question": "where is the parcel?", "context": "the parcel is in london, not in paris"}
    (expected,) = recipe.predict([given])
    found = post(client, inputs=given)
    assert found == {"answer": expected["prediction"], **{n: expected[n] for n in ("score", "start", "end")}}
    assert given["context"][found["start"] : found["end"]] == found["answer"]
    several = post(client, inputs=given, parameters={"top_k": 5})
    assert several[0] == found
    assert [one["answer"] for one in several[:3]] == [one["text"] for one in expected["n_best"]]
    assert len(several) == 5
    none = post(client, inputs=given, parameters={"top_k": 100, "handle_impossible_answer": True})
    assert sum(one["score"] for one in none) < 1.0001


def test_masks_are_filled(served):
    recipe, client = served("fill-mask")
    text = "please help [MASK], where is my [MASK]"
    (expected,) = recipe.predict([text])
    found = post(client, inputs=text)
    assert [[one["token_str"] for one in mask] for mask in found] == [
        [f["token"] for f in fills] for fills in expected["fills"]
    ]
    assert [[one["score"] for one in mask] for mask in found] == [
        [f["score"] for f in fills] for fills in expected["fills"]
    ]
    best = found[1][0]
    assert best["sequence"] == f"please help [MASK], where is my {best['token_str']}"
    assert recipe.encoder.tokenizer.decode([best["token"]]) == best["token_str"]
    one = post(client, inputs="where is my [MASK]", parameters={"top_k": 2})
    assert len(one) == 2
    assert client.post("/", json={"inputs": "no mask"}).status_code == 422


def test_masks_are_filled_in_one_pass_of_the_words_and_predict_goes_on_with_all(run_of, monkeypatch):
    from nlp_pipeline.modeling import heads

    passes = []
    hidden = heads.losses_hidden_in_turn
    monkeypatch.setattr(heads, "losses_hidden_in_turn", lambda *a: passes.append(a[-1]) or hidden(*a))
    with client_of(service_of(run_of("fill-mask"))) as client:
        passes.clear()
        post(client, inputs="where is my [MASK]")
        post(client, "/predict", inputs={"text": "where is my [MASK]"})
    assert passes == [1, 8]


@pytest.mark.parametrize(("rows", "options"), [(RANKED, {"rows": "lists"}), (SCORED, {"rows": "pairs"})])
def test_texts_are_ranked(tiny_bert, tmp_path, rows, options):
    run = trained(task_class("text-ranking"), tiny_bert, tmp_path / "run", rows, options=options)
    recipe = Recipe.from_pretrained(run)
    texts = ["the card is late", "good money", "where is my parcel please"]
    if options["rows"] == "lists":
        ranking = recipe.predict([{"query": "where is my card", "positives": texts}])[0]["ranking"]
        expected = [(one["place"], one["score"]) for one in ranking]
    else:
        scores = [one["prediction"] for one in recipe.predict([("where is my card", text) for text in texts])]
        expected = sorted(enumerate(scores), key=lambda one: -one[1])
    given = {"query": "where is my card", "texts": texts}
    with client_of(service_of(run)) as client:
        found = post(client, inputs=given)
        assert [(one["index"], one["score"]) for one in found] == [(i, pytest.approx(s, abs=1e-6)) for i, s in expected]
        assert [one["text"] for one in found] == [texts[place] for place, _ in expected]
        plain = post(client, "/rerank", **given)
        assert plain == [{"index": one["index"], "score": pytest.approx(one["score"], abs=1e-6)} for one in found]
        assert "text" in post(client, "/rerank", **given, return_text=True)[0]


def test_labels_of_ones_own_by_entailment(tiny_bert, tmp_path):
    run = trained(TextClassification, tiny_bert, tmp_path / "run", NLI)
    recipe = Recipe.from_pretrained(run)
    names, labels, text = recipe.predict(["a"]) and recipe.labels.names, ["a parcel", "money"], "where is my parcel"
    pairs = [(text, f"It is about {label}.") for label in labels]
    from nlp_pipeline.stages.predicting import open_source, predict_window

    (rows,) = open_source(recipe, pairs)
    logits = np.stack(predict_window(recipe, rows, None, False).values)
    entailed, against = (logits[:, names.index(name)] for name in ("entailment", "contradiction"))
    settings = {"candidate_labels": labels, "hypothesis_template": "It is about {}."}
    with client_of(service_of(run)) as client:
        found = {one["label"]: one["score"] for one in post(client, inputs=text, parameters=settings)}
        each = {
            one["label"]: one["score"]
            for one in post(client, inputs=text, parameters={**settings, "multi_label": True})
        }
        plain = post(client, inputs={"text": text, "text_pair": "it is late"})
        assert client.post("/", json={"inputs": [text], "parameters": settings}).status_code == 422
    shares = np.exp(entailed) / np.exp(entailed).sum()
    assert [found[label] for label in labels] == pytest.approx(shares.tolist(), abs=1e-5)
    assert [each[label] for label in labels] == pytest.approx((1 / (1 + np.exp(against - entailed))).tolist(), abs=1e-5)
    assert {one["label"] for one in plain[0]} == set(names)


def test_texts_go_on_as_transformers_generates_them(run_of, served):
    from transformers import pipeline

    recipe, client = served("text-generation")
    text = "please help me"
    recipe.predict([text])
    generate = pipeline("text-generation", model=str(run_of("text-generation") / "model"))
    settings = {"max_new_tokens": 7, "do_sample": False}
    ids = [
        recipe.encoder.tokenizer.bos_token_id,
        *recipe.encoder.tokenizer(text, add_special_tokens=False)["input_ids"],
    ]
    import torch

    expected = generate.model.generate(torch.tensor([ids]), **settings)[0, len(ids) :]
    expected = recipe.encoder.tokenizer.decode(expected, skip_special_tokens=True)
    assert expected
    (found,) = post(client, inputs=text, parameters=settings)
    assert found == {"generated_text": expected}
    (whole,) = post(client, inputs=text, parameters={**settings, "return_full_text": True})
    assert whole == {"generated_text": text + expected}
    (cut,) = post(client, inputs=text, parameters={**settings, "stop": [expected[-1]]})
    assert cut == {"generated_text": expected[: expected.index(expected[-1])]}
    refused = client.post("/", json={"inputs": text, "parameters": {"do_sample": True}})
    assert refused.status_code == 422
    completed = post(client, "/v1/completions", prompt=[text, text], max_tokens=7, temperature=0)
    assert [one["text"] for one in completed["choices"]] == [expected] * 2
    assert completed["usage"] == {
        "prompt_tokens": 2 * len(ids),
        "completion_tokens": 14,
        "total_tokens": 2 * len(ids) + 14,
    }
    assert completed["choices"][0]["finish_reason"] == "length"
    assert client.post("/v1/chat/completions", json={}).status_code == 404


def test_replies_are_those_of_predict(served):
    recipe, client = served("instruction-tuning")
    expected = recipe.predict(["where is card 3?"])[0]["prediction"]
    assert expected
    assert post(client, inputs="where is card 3?") == [{"generated_text": expected}]
    talk = [{"role": "user", "content": "where is card 3?"}]
    found = post(client, "/v1/chat/completions", messages=talk, model="any")
    assert found["choices"][0]["message"] == {"role": "assistant", "content": expected}
    assert found["model"] == "tiny"
    refused = client.post("/v1/chat/completions", json={"messages": talk, "temperature": 1})
    assert refused.status_code == 422
    assert refused.json()["error"]["type"] == "invalid_request_error"


def test_the_hubs_own_client(run_of, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the server is on this machine
    with running(service_of(run_of("token-classification"))) as url:
        found = InferenceClient(model=url).token_classification("Mary flew to Paris", aggregation_strategy="first")
        assert all("Mary flew to Paris"[one.start : one.end] == one.word for one in found)
    with running(service_of(run_of("question-answering"))) as url:
        answer = InferenceClient(model=url).question_answering(question="where?", context="in paris or london")
        assert answer.answer in "in paris or london"
    with running(service_of(run_of("fill-mask"))) as url:
        fills = InferenceClient(model=url).fill_mask("where is my [MASK]", top_k=3)
        assert len(fills) == 3
        assert fills[0].token_str in fills[0].sequence
    with running(service_of(run_of("instruction-tuning"))) as url:
        reply = InferenceClient(model=url).chat_completion([{"role": "user", "content": "hello"}], max_tokens=3)
        assert reply.usage.completion_tokens <= 3


EMBEDDING = """
from nlp_pipeline import TextClassification


class Embedding(TextClassification):
    def postprocess(self, values, rows):
        return [{"row_id": i, "embedding": [float(x) for x in v]} for i, v in zip(rows["row_id"], values)]
"""


def test_embeddings_of_a_task_that_predicts_them(tiny_bert, tmp_path, monkeypatch):
    import base64
    import importlib.util

    (tmp_path / "embedding.py").write_text(EMBEDDING)
    spec = importlib.util.spec_from_file_location("embedding", tmp_path / "embedding.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "embedding", module)
    spec.loader.exec_module(module)
    rows = [{"text": f"the card {i}", "label": "ab"[i % 2]} for i in range(12)]
    run = trained(TextClassification, tiny_bert, tmp_path / "run", rows)
    recipe = module.Embedding.from_config(Recipe.from_pretrained(run).config)
    recipe._model_folder = run / "model"
    from nlp_pipeline.serving.model import ServedModel
    from nlp_pipeline.serving.service import Service
    from nlp_pipeline.serving.settings import Settings

    texts = ["the card is late", "the card", "where is my parcel"]
    recipe.task = "sentence-similarity"
    service = Service(ServedModel(recipe, "tiny").make_ready(), Settings())
    expected = [recipe.predict([text])[0]["embedding"] for text in texts]
    with client_of(service) as client:
        assert post(client, inputs=texts[0]) == [expected[0]]
        assert np.allclose(post(client, inputs=texts), expected, atol=1e-6)
        found = post(client, inputs={"source_sentence": texts[0], "sentences": texts})
        unit = np.array(expected) / np.linalg.norm(expected, axis=1, keepdims=True)
        assert found == pytest.approx((unit @ unit[0]).tolist(), abs=1e-5)
        answer = post(client, "/v1/embeddings", input=texts)
        assert np.allclose([one["embedding"] for one in answer["data"]], expected, atol=1e-6)
        assert answer["usage"]["prompt_tokens"] == sum(
            len(recipe.encoder.tokenizer(text)["input_ids"]) for text in texts
        )
        packed = post(client, "/v1/embeddings", input=texts[0], encoding_format="base64")["data"][0]["embedding"]
        assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == np.array(expected[0], "f4").tolist()
