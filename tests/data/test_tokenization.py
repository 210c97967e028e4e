"""The cache's key, its reasons, and ids equal to the tokenizer's own."""

import datasets
import numpy as np
import pytest
from transformers import AutoTokenizer

from nlp_pipeline import TextClassification
from nlp_pipeline.data.tokenization import Encoder

ROWS = [{"text": f"the card number {i} is late " * (1 + i % 3), "label": "ab"[i % 2]} for i in range(20)]


def run(tiny_bert, cache, rows=None, **settings):
    recipe = TextClassification(
        model=tiny_bert, train=rows or ROWS, tokenization={"cache_dir": str(cache), **settings.pop("tokenization", {})},
        **settings,
    )  # fmt: skip
    said = []
    recipe.reporter.say = said.append
    recipe.tokenize()
    return next(line for line in said if line.startswith("train:"))


def test_hits_and_misses_with_their_reasons(tiny_bert, tmp_path):
    assert "tokenized (nothing in the cache yet)" in run(tiny_bert, tmp_path)
    assert "cache hit" in run(tiny_bert, tmp_path)
    assert "cache hit" in run(tiny_bert, tmp_path, learning_rate=1e-3, output={"dir": str(tmp_path / "other")})
    edited = [{**ROWS[0], "text": "edited"}, *ROWS[1:]]
    assert "data changed" in run(tiny_bert, tmp_path, rows=edited)
    assert "labels changed" in run(tiny_bert, tmp_path, rows=[{**r, "label": r["label"].upper()} for r in ROWS])


def test_another_maximum_length_misses_and_says_so(tiny_bert, tmp_path):
    run(tiny_bert, tmp_path, tokenization={"max_length": 32})
    line = run(tiny_bert, tmp_path, tokenization={"max_length": 8})
    assert "max_length changed from 32 to 8" in line
    assert "% truncated" in line


def test_cache_can_be_turned_off(tiny_bert, tmp_path):
    for _ in range(2):
        assert "tokenized (cache is off)" in run(tiny_bert, tmp_path, tokenization={"cache": False})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("max_length", [6, 9, 64])
def test_ids_equal_the_tokenizers_own(tiny_bert, pair, max_length):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    texts = [row["text"] for row in ROWS]
    pairs = texts[::-1] if pair else None
    ours = Encoder(tokenizer, max_length)(texts, pairs)
    theirs = tokenizer(texts, pairs, truncation=True, max_length=max_length)
    full = tokenizer(texts, pairs)
    assert [ours.ids[a:b].tolist() for a, b in zip(ours.offsets, ours.offsets[1:], strict=False)] == theirs["input_ids"]
    assert ours.truncated.tolist() == [len(ids) > max_length for ids in full["input_ids"]]
    if pair:
        flat = np.concatenate(theirs["token_type_ids"])
        assert ours.type_ids.tolist() == flat.tolist()


def test_the_tokenizer_of_the_run_keeps_its_settings(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    before = tokenizer.backend_tokenizer.to_str()
    encoder = Encoder(tokenizer, 5)
    encoder(["the card"])
    assert tokenizer.backend_tokenizer.truncation is None
    assert tokenizer.backend_tokenizer.to_str() == before
    assert Encoder(tokenizer, 6).sha256 == encoder.sha256


def test_an_interrupted_write_leaves_nothing_that_looks_whole(tiny_bert, tmp_path):
    from nlp_pipeline.data.tokenization import tokenize

    rows = datasets.Dataset.from_list(ROWS)

    def broken(part):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        tokenize(rows, broken, {"a": 1}, "train", tmp_path)
    assert not list(tmp_path.glob("*"))
