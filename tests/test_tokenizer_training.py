"""Trained tokenizers spell what they were trained on, and come back from disk the same."""

import json

import pytest
from commands import call
from transformers import AutoTokenizer

from nlp_pipeline import ConfigError
from nlp_pipeline.tokenizer_training import train_tokenizer

TEXTS = ["the card is late", "The parcel is late, and the money is gone", "where is the card?", "naïve façade"] * 20


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
@pytest.mark.parametrize("marks", ["none", "both", "end"])
def test_tokenizers_come_back_from_disk_and_spell_the_texts(tmp_path, algorithm, marks):
    tokenizer = train_tokenizer(TEXTS, algorithm, 300 if algorithm == "bpe" else 60, marks=marks)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert len(again) <= 300
    begin, end = ("[CLS]", "[SEP]") if algorithm == "wordpiece" else ("<s>", "</s>")
    for text in TEXTS[:4]:
        ids = again(text)["input_ids"]
        assert ids == tokenizer(text)["input_ids"]
        tokens = again.convert_ids_to_tokens(ids)
        assert (tokens[0] == begin) == (marks == "both")
        assert (tokens[-1] == end) == (marks != "none")
        assert again.unk_token_id not in ids
        if algorithm != "wordpiece":  # which doesn't know where the blanks were
            assert again.decode(ids, skip_special_tokens=True) == text
    assert again.pad_token_id == 0
    assert again.mask_token is not None


def test_bytes_spell_what_was_never_seen():
    tokenizer = train_tokenizer(["a"], "bpe", 300)
    assert tokenizer.decode(tokenizer("ΩЖ漢")["input_ids"]) == "ΩЖ漢"
    assert train_tokenizer(["A b"], "bpe", 300, lowercase=True)("A")["input_ids"] == tokenizer("a")["input_ids"]


def test_the_command_reads_any_source_and_writes_over_nothing(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("the card\nis late\n\nthe money is gone\n")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"note": text}) + "\n" for text in TEXTS))
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    folder = tmp_path / "tokenizer"
    assert call("train-tokenizer", tmp_path / "a.txt", tmp_path / "c.jsonl", "-o", folder, "--vocabulary", 300) == 0
    assert "from 82 texts" in capsys.readouterr().out
    assert len(AutoTokenizer.from_pretrained(folder)) <= 300
    assert call("train-tokenizer", tmp_path / "a.txt", "-o", folder) == 2
    assert "not empty" in capsys.readouterr().err
    assert call("train-tokenizer", tmp_path / "b.jsonl", "-o", tmp_path / "x") == 2
    assert 'no column "text"' in capsys.readouterr().err
    assert (
        call(
            "train-tokenizer",
            tmp_path / "b.jsonl",
            "-o",
            tmp_path / "x",
            "--column",
            "note",
            "--algorithm",
            "pbe",
            "--marks",
            "all",
        )
        == 2
    )
    said = capsys.readouterr().err
    assert "--algorithm" in said
    assert "--marks" in said


def test_a_vocabulary_without_room_is_refused():
    with pytest.raises(ConfigError, match="vocabulary"):
        train_tokenizer(TEXTS, "unigram", 4)
