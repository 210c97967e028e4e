"""Masked language modelling fulfils the contract; what is hidden, and what every word's turn gives."""

import math

import numpy as np
import pytest
from contract import RecipeContract
from hypothesis import given
from hypothesis import strategies as st

from nlp_pipeline import MaskedLanguageModeling, Recipe
from nlp_pipeline.data.fields import IGNORED, draws
from nlp_pipeline.data.masking import mask_words

TEXTS = [f"the card {i % 5} is late{', and the money is gone' * (i % 4)}." for i in range(14)]


class TestMaskedLanguageModeling(RecipeContract):
    recipe = MaskedLanguageModeling
    settings = {"tokenization": {"max_length": 24}, "options": {"folds": 3, "share": 0.3}}
    rows = [{"id": f"r{i}", "text": text} for i, text in enumerate(TEXTS)]
    plain = ["the card is [MASK].", "where is the money", "the [MASK] was good"]
    wrong = [({"text": " "}, "empty")]

    def alone(self, folder):
        from transformers import pipeline

        fill = pipeline("fill-mask", model=folder)
        return [t.replace("[MASK]", fill(t)[0]["token_str"]) if "[MASK]" in t else t for t in self.plain]

    def test_words_are_hidden_whole_and_anew_in_each_epoch(self, tiny_bert, tmp_path):
        recipe = self.make(tiny_bert, tmp_path / "run")
        recipe.tokenize()
        table, mask = recipe.tables["train"], recipe.encoder.tokenizer.mask_token_id
        every = np.arange(len(table))
        epochs = [recipe.batch(table, every, epoch) for epoch in (0, 0, 1)]
        labels = [batch.targets["labels"].numpy() for batch in epochs]
        assert (labels[0] == labels[1]).all()
        assert (epochs[0].inputs["input_ids"] == epochs[1].inputs["input_ids"]).all()
        assert (labels[0] != labels[2]).any()
        words, plain = epochs[0].targets["words"].numpy(), recipe.batch(table, every)
        assert (plain.inputs["input_ids"] != mask).all()
        for row in every:
            hidden = np.unique(words[row][labels[0][row] != IGNORED])
            assert len(hidden) >= 1
            assert ((labels[0][row] != IGNORED) == np.isin(words[row], hidden)).all()
        part = recipe.batch(table, every[[5, 2]], 0)  # the same draws in any batch
        for i, row in enumerate((5, 2)):
            length = part.lengths[i]
            assert (part.targets["labels"][i, :length].numpy() == labels[0][row, :length]).all()

    def test_pseudo_perplexity_is_that_of_hiding_one_word_at_a_time(self, tiny_bert, tmp_path):
        import torch
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        recipe = self.make(tiny_bert, tmp_path / "run", options={"folds": 100, "whole_words": False})
        recipe.run(progress=False)
        folder = recipe.run_directory.model
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
        text = TEXTS[1]
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        losses = []
        for place in range(1, ids.shape[1] - 1):
            hidden = ids.clone()
            hidden[0, place] = tokenizer.mask_token_id
            with torch.no_grad():
                losses.append(float(torch.nn.functional.cross_entropy(model(hidden).logits[0, place], ids[0, place])))
        found = Recipe.from_pretrained(folder).predict([text])[0]
        assert found["tokens"] == len(losses) > 10
        assert found["pseudo_perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)

    def test_evaluation_draws_nothing(self, tiny_bert, tmp_path):
        results = [
            self.make(tiny_bert, tmp_path / str(size), batch={"window": size}).run(progress=False) for size in (3, 100)
        ]
        assert results[0]["scores"] == pytest.approx(results[1]["scores"], abs=1e-3)
        assert results[0]["scores"]["pseudo_perplexity"] == pytest.approx(
            math.exp(results[0]["scores"]["loss"]), rel=1e-4
        )


@given(st.lists(st.integers(-2, 8), min_size=1, max_size=20), st.floats(0.05, 0.95), st.integers(0, 50))
def test_labels_are_the_hidden_ids_and_all_else_stays(words, share, seed):
    words = np.array(words)
    ids = np.arange(len(words)) + 100
    found, labels = mask_words(ids, words, draws(0, 0, seed), share, 1, np.array([7]))
    where = labels != IGNORED
    assert (labels[where] == ids[where]).all()
    assert (found[~where] == ids[~where]).all()
    assert (words[where] >= 0).all()
    assert set(found[where].tolist()) <= {1, 7, *ids[where].tolist()}
    hidden, all_words = np.unique(words[where]), np.unique(words[words >= 0])
    assert len(hidden) == (max(1, round(share * len(all_words))) if len(all_words) else 0)
    assert (where == np.isin(words, hidden)).all()


def test_eight_in_ten_are_masked_and_one_replaced():
    words = np.arange(20_000)
    found, labels = mask_words(words + 100, words, draws(1, 2, 3), 0.5, 1, np.array([7]))
    where = labels != IGNORED
    assert where.sum() == 10_000
    assert (found[where] == 1).mean() == pytest.approx(0.8, abs=0.02)
    assert (found[where] == 7).mean() == pytest.approx(0.1, abs=0.02)
