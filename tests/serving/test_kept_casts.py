"""A served model in bfloat16 casts its weights once, not on every pass, and says what `predict` says."""

import pytest
from serving.servers import ROWS, TEXTS, client_of, service_of

from nlp_pipeline import Recipe, TextClassification


def test_weights_are_cast_once_and_the_second_look_is_exact(tiny_bert, tmp_path, monkeypatch):
    run = TextClassification(
        model=tiny_bert, train=ROWS, max_steps=3, precision="bf16", learning_rate=1e-3, dir=str(tmp_path / "run")
    )
    run.run(progress=False)
    recipe = Recipe.from_pretrained(tmp_path / "run")
    expected = [recipe.predict([text])[0] for text in TEXTS]
    import torch

    kept = []
    clear = torch.clear_autocast_cache
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: kept.append("cleared") or clear())
    with client_of(service_of(tmp_path / "run")) as client:
        kept.clear()
        found = [client.post("/", json={"inputs": text}).json()[0][0] for text in TEXTS]
        assert kept == []
    assert [one["label"] for one in found] == [one["prediction"] for one in expected]
    assert [one["score"] for one in found] == [one["score"] for one in expected]
    assert any(
        one["score"] != pytest.approx(other["score"], abs=1e-7) for one, other in zip(found, exact(recipe), strict=True)
    )


def exact(recipe):
    return [recipe.predict([text], exact=True)[0] for text in TEXTS]
