"""Tokenizers that only run in Python give the ids of a plain call, are known by content, and refuse what they can't."""

from itertools import pairwise

import numpy as np
import pytest
from transformers import AutoTokenizer, ByT5Tokenizer, EsmTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy
from translation_models import ROWS, m2m100_tokenizer, marian_tokenizer, write_model

from nlp_pipeline import MaskedLanguageModeling, ModelError, TextClassification, Translation
from nlp_pipeline.data.documents import next_token_columns
from nlp_pipeline.data.tokenization import Encoder

pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
SOURCES = [row["source"] * (1 + i % 3) for i, row in enumerate(ROWS)] + ["", "x ñ 漢字"]
TARGETS = [row["target"] * (1 + i % 3) for i, row in enumerate(ROWS)] + ["ß", "a"]
PROTEIN = [{"text": "MKV" * (1 + i % 4) + "AC"[i % 2] * 3, "label": "ab"[i % 2]} for i in range(20)]


@pytest.fixture(params=["marian", "opus", "separate", "m2m100", "byt5"])
def tokenizer(request, tmp_path):
    if request.param == "byt5":
        return ByT5Tokenizer()
    if request.param == "m2m100":
        made = m2m100_tokenizer(tmp_path)
        made.src_lang, made.tgt_lang = "en", "de"
        return made
    return marian_tokenizer(tmp_path, ("deu",) if request.param == "opus" else (), request.param == "separate")


@pytest.fixture(scope="module")
def esm(tmp_path_factory):
    """A small protein model."""
    from transformers import EsmConfig, EsmForMaskedLM

    folder = tmp_path_factory.mktemp("esm")
    tokens = ["<cls>", "<pad>", "<eos>", "<unk>", *"MKVAC", "<mask>"]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    EsmTokenizer(str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    config = EsmConfig(
        vocab_size=len(tokens), mask_token_id=9, pad_token_id=1, hidden_size=32, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    EsmForMaskedLM(config).save_pretrained(folder)
    return str(folder)


def rows_of(encoded):
    return [encoded.ids[a:b].tolist() for a, b in pairwise(encoded.offsets)]


@pytest.mark.parametrize("max_length", [4, 9, 64])
def test_ids_equal_those_of_a_plain_call_on_both_sides(tokenizer, max_length):
    theirs = tokenizer(SOURCES, text_target=TARGETS, truncation=True, max_length=max_length)
    whole = tokenizer(SOURCES, text_target=TARGETS)
    for texts, name, target in ((SOURCES, "input_ids", False), (TARGETS, "labels", True)):
        ours = Encoder(tokenizer, max_length, target)(texts)
        assert rows_of(ours) == theirs[name]
        assert ours.truncated.tolist() == [len(ids) > max_length for ids in whole[name]]
        assert Encoder(tokenizer, max_length, target).whole(texts) == whole[name]
        assert len(Encoder(tokenizer, max_length, target)([]).ids) == 0


@pytest.mark.parametrize("max_length", [8, 64])
def test_pairs_and_their_type_ids_equal_those_of_a_plain_call(tmp_path, max_length, caplog):
    (tmp_path / "vocab.txt").write_text("\n".join("[PAD] [UNK] [CLS] [SEP] [MASK] it is by the gate city".split()))
    tokenizer = BertTokenizerLegacy(
        str(tmp_path / "vocab.txt"), model_input_names=["input_ids", "token_type_ids", "attention_mask"]
    )
    theirs = tokenizer(SOURCES, SOURCES[::-1], truncation=True, max_length=max_length)
    caplog.clear()
    ours = Encoder(tokenizer, max_length)(SOURCES, SOURCES[::-1])
    assert not caplog.records
    assert rows_of(ours) == theirs["input_ids"]
    assert ours.type_ids.tolist() == np.concatenate(theirs["token_type_ids"]).tolist()


def test_the_hash_is_over_what_the_tokenizer_does(tmp_path):
    one = marian_tokenizer(tmp_path / "one")
    known = Encoder(one, 9).sha256
    one.save_pretrained(tmp_path / "moved")
    assert Encoder(AutoTokenizer.from_pretrained(tmp_path / "moved", use_fast=False), 64).sha256 == known
    one.model_max_length = 7
    assert Encoder(one, 9).sha256 == known
    m2m100 = m2m100_tokenizer(tmp_path / "m2m100")
    english = Encoder(m2m100, 9).sha256
    m2m100.src_lang = "fr"
    assert Encoder(m2m100, 9).sha256 != english


def test_another_sentencepiece_model_is_tokenized_anew(tmp_path):
    model, said = tmp_path / "model", []
    write_model(model, marian_tokenizer(tmp_path / "tokenizer"), "marian")

    def tokenize():
        recipe = Translation(
            model=str(model), train=ROWS, columns={"source": "source", "target": "target"},
            cache_dir=str(tmp_path / "cache"), dir=str(tmp_path / "run"), name="same",
        )  # fmt: skip
        recipe.reporter.say = said.append
        recipe.tokenize()
        return [line for line in said if line.startswith("train:")][-1]

    assert "nothing in the cache yet" in tokenize()
    assert "cache hit" in tokenize()
    (model / "source.spm").write_bytes((model / "target.spm").read_bytes())
    assert "tokenizer changed" in tokenize()


def test_the_run_keeps_its_own_tokenizer(tmp_path):
    tokenizer = m2m100_tokenizer(tmp_path)
    tokenizer.tgt_lang = "de"
    encoder, target = Encoder(tokenizer, 32), Encoder(tokenizer, 32, target=True)
    before = [rows_of(e(["it is"])) for e in (encoder, target)]
    tokenizer.src_lang, tokenizer.tgt_lang = "fr", "nl"
    assert [rows_of(e(["it is"])) for e in (encoder, target)] == before


def test_documents_go_on_in_further_examples():
    encoder = Encoder(ByT5Tokenizer(), 8)
    made = next_token_columns(encoder, ["it is by the river", "b"])
    assert made["row"].to_pylist() == [0, 0, 0, 1]
    assert made["labels"].to_pylist()[0] == [ord(c) + 3 for c in "it is by"]


def test_a_protein_model_classifies_as_transformers_alone_does(esm, tmp_path):
    from transformers import pipeline

    recipe = TextClassification(model=esm, train=PROTEIN, test=PROTEIN, dir=str(tmp_path), max_steps=4)
    recipe.run(progress=False)
    texts = [row["text"] for row in PROTEIN[:4]]
    theirs = pipeline("text-classification", str(recipe.run_directory.model))(texts)
    assert [r["prediction"] for r in recipe.predict(texts)] == [r["label"] for r in theirs]


def test_what_needs_places_of_tokens_is_refused(esm, tmp_path):
    with pytest.raises(ModelError, match=r"EsmTokenizer is written in Python and can't say where .*take a model that"):
        MaskedLanguageModeling(model=esm, train=[{"text": "MKV"}] * 12, dir=str(tmp_path)).tokenize()
    with pytest.raises(ModelError, match="which token belongs to which word"):
        Encoder(ByT5Tokenizer(), 16)([["a", "b"]], words=True)
