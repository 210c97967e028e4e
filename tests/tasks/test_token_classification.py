"""Token classification fulfils the contract; tags, sub-words and repairs."""

import numpy as np
import pytest
from contract import RecipeContract
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline import DataError, TokenClassification
from nlp_pipeline.data.tags import entities, first_of_word, repair, tag_problems

SENTENCES = [
    (["the", "card", "from", "Leeds", "came"], ["O", "O", "O", "B-place", "O"]),
    (["send", "money", "to", "New", "York"], ["O", "O", "O", "B-place", "I-place"]),
    (["pay", "the", "big", "card"], ["O", "O", "B-product", "I-product"]),
]


def tags_alone(self, folder):
    """The tag at each word's first sub-word."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForTokenClassification.from_pretrained(folder)
    found = []
    for words in self.plain:
        inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            best = model.eval()(**inputs).logits[0].argmax(-1).tolist()
        first = dict(reversed(list(zip(inputs.word_ids(), best, strict=True))))
        found.append([model.config.id2label[first[i]] for i in range(len(words))])
    return found


class TestEntities(RecipeContract):
    recipe = TokenClassification
    rows = [{"tokens": words, "ner_tags": tags} for words, tags in SENTENCES * 5]
    plain = [SENTENCES[0][0], SENTENCES[1][0]]
    wrong = [({"tokens": ["a", "b"], "ner_tags": ["O"]}, "differ in length")]
    wrong += [({"tokens": ["a", "b"], "ner_tags": ["O", "X-y"]}, "'X-y'")]
    alone = tags_alone

    def test_predictions_are_one_tag_a_word_even_past_the_maximum_length(self, tiny_bert, tmp_path):
        recipe = self.make(tiny_bert, tmp_path / "run", tokenization={"max_length": 8})
        recipe.run(progress=False)
        words = ["card"] * 40
        record = recipe.predict([words])[0]
        assert len(record["prediction"]) == 40
        assert set(record["prediction"][8:]) == {"O"}

    def test_only_first_subwords_are_labelled_unless_asked(self, tiny_bert, tmp_path):
        counts = {}
        for every in (False, True):
            recipe = self.make(tiny_bert, tmp_path / "run", options={"label_all_subwords": every})
            recipe.tokenize()
            table = recipe.tables["train"]
            rows = np.arange(len(table))
            labels = table.sequences("labels", rows)
            words = table.sequences("word_ids", rows)
            counts[every] = sum(int((row != -100).sum()) for row in labels)
            tokens = sum(int((row >= 0).sum()) for row in words)
        assert counts[False] == sum(len(row["tokens"]) for row in self.rows)
        assert counts[True] == tokens

    def test_unknown_tags_of_the_test_rows_count_as_missed(self, tiny_bert, tmp_path):
        recipe = self.make(tiny_bert, tmp_path / "run")
        recipe._in_memory["test"] = [{"tokens": ["a", "b"], "ner_tags": ["B-thing", "O"]}]
        assert recipe.run(progress=False)["scores"]["f1"] in (0.0, None)


class TestPlainTags(RecipeContract):
    recipe = TokenClassification
    settings = {"options": {"scheme": "plain", "tag_names": ["DET", "NOUN", "OTHER"]}}
    rows = [{"tokens": words, "pos_tags": [min(2, i) for i in range(len(words))]} for words, _ in SENTENCES * 5]
    plain = [SENTENCES[0][0]]
    wrong = [({"tokens": ["a"], "pos_tags": [7]}, "tag_names")]
    alone = tags_alone


def test_strange_tags_and_unequal_lengths_are_problems_with_rows(tiny_bert):
    rows = [{"tokens": ["a", "b"], "tags": ["O", "X-loc"]}] * 3
    with pytest.raises(DataError, match=r"'X-loc' \(rows 1, 2, 3\) is neither O, B-… nor I-…"):
        TokenClassification(model=tiny_bert, train=rows).load()
    rows = [{"tokens": ["a", "b"], "tags": ["O"]}] * 3
    with pytest.raises(DataError, match="1"):
        TokenClassification(model=tiny_bert, train=rows).load()


def test_class_ids_without_names_are_a_problem(tiny_bert):
    rows = [{"tokens": ["a", "b"], "tags": [0, 1]}] * 3
    with pytest.raises(DataError, match=r"options\.tag_names"):
        TokenClassification(model=tiny_bert, train=rows).load()


def test_iob1_is_recognised_and_loose_tags_are_reported():
    _, note = tag_problems([["I-per", "I-per", "O", "I-loc"], ["O", "I-per"]], ["1", "2"], "train")
    assert "IOB1" in note
    _, note = tag_problems([["B-per", "O", "I-loc"]], ["7"], "train")
    assert "rows 7" in note
    assert tag_problems([["B-per", "I-per", "O"]], ["1"], "train") == ([], None)


tag = st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"])


@given(st.lists(tag))
def test_repair_is_valid_idempotent_and_keeps_the_entities(tags):
    from seqeval.metrics.sequence_labeling import get_entities

    fixed = repair(tags)
    assert repair(fixed) == fixed
    assert entities(fixed) == entities(tags)
    assert [(k, s, e - 1) for k, s, e in entities(tags)] == get_entities(tags)


@given(st.lists(st.lists(st.integers(1, 4), max_size=6), min_size=1, max_size=5))
def test_first_of_word_marks_each_word_once(rows):
    words, offsets = [], [0]
    for row in rows:
        words += [-1, *(w for w, pieces in enumerate(row) for _ in range(pieces)), -1]
        offsets.append(len(words))
    first = first_of_word(np.array(words), np.array(offsets))
    assert [w for w, f in zip(words, first, strict=True) if f] == [w for row in rows for w in range(len(row))]
