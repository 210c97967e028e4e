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
    pairs = list(zip(TEXTS[::2], TEXTS[1::2], strict=True))  # a text alone is read in float32
    expected = [one for pair in pairs for one in recipe.predict(list(pair))]
    import torch

    kept = []
    clear = torch.clear_autocast_cache
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: kept.append("cleared") or clear())
    with client_of(service_of(tmp_path / "run")) as client:
        kept.clear()
        found = [one[0] for pair in pairs for one in client.post("/", json={"inputs": pair}).json()]
        assert kept == []
    assert [one["label"] for one in found] == [one["prediction"] for one in expected]
    assert [one["score"] for one in found] == [one["score"] for one in expected]
    exact = [one for pair in pairs for one in recipe.predict(list(pair), exact=True)]
    assert any(one["score"] != pytest.approx(other["score"], abs=1e-7) for one, other in zip(found, exact, strict=True))
