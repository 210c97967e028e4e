"""Texts that a tokenizer can't read stop a run; those it reads in other pieces than one expects don't."""

import pytest
from tokenizers import ByteLevelBPETokenizer
from transformers import BertConfig, BertTokenizer, GPT2Config, PreTrainedTokenizerFast

from nlp_pipeline import DataError, TextClassification

WORDS = "the card order parcel refund late lost broken new old my your when where how why".split()
ENGLISH = [f"{a} {b} {c} today" for a in WORDS[:4] for b in WORDS[5:9] for c in WORDS[10:14]]
CHINESE = [f"我的包裹在{a}哪里{b}请告诉我" for a in "上下左右" for b in "一二三四"]


@pytest.fixture(scope="module")
def whole_words(tmp_path_factory):
    """A model whose vocabulary has whole words and no single letter."""
    folder = tmp_path_factory.mktemp("words")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "today", *WORDS]
    BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, do_lower_case=True).save_pretrained(folder)
    BertConfig(vocab_size=len(tokens), hidden_size=16, num_attention_heads=2).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def bytes_only(tmp_path_factory):
    """A byte-level model that has seen English only."""
    folder = tmp_path_factory.mktemp("bytes")
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(ENGLISH, vocab_size=320, special_tokens=["<|endoftext|>"], show_progress=False)
    PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    ).save_pretrained(folder)
    GPT2Config(vocab_size=320, n_embd=16, n_head=2, n_layer=1).save_pretrained(folder)
    return str(folder)


def audit(model, texts):
    rows = [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(texts)]
    found = TextClassification(model=model, train=rows, max_length=64).audit()
    return [finding for finding in found.findings if finding.check == "unknown_characters"]


def test_known_words_are_read_though_none_of_their_letters_is(whole_words):
    assert audit(whole_words, ENGLISH) == []


def test_a_model_for_another_language_stops_the_run(whole_words):
    with pytest.raises(DataError, match="choose a model for this language"):
        audit(whole_words, CHINESE)


def test_a_few_unreadable_rows_are_named(whole_words):
    (found,) = audit(whole_words, [*ENGLISH, *CHINESE[:2]])
    assert (found.severity, found.rows) == ("warning", ("65", "66"))


def test_bytes_lose_nothing(bytes_only):
    assert audit(bytes_only, ENGLISH) == []
    (found,) = audit(bytes_only, CHINESE)
    assert found.severity == "warning"
    assert "byte by byte" in found.message


def test_a_tokenizer_of_bytes_alone_is_made_for_spelling():
    from transformers import ByT5Tokenizer

    from nlp_pipeline.audit.characters import unknown_codes
    from nlp_pipeline.data.tokenization import Encoder

    assert unknown_codes(map(ord, "яé中"), Encoder(ByT5Tokenizer(), 32)) == ([], [])
