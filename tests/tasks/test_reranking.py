"""Reranking fulfils the contract with lists of any length and with scored pairs, and what is its own."""

import numpy as np
import pytest
import torch
from contract import RecipeContract

from nlp_pipeline import ConfigError, Reranking
from nlp_pipeline.modeling.losses import by_example, listwise_sum, pairwise_sum

QUERIES = ["where is my card", "what is late", "who is paid", "when do we pay"]
TEXTS = ["the card is in london", "the parcel is late " * 3, "you are paid", "we pay on the first of the month", "no"]
LISTS = [
    {"id": f"r{i}", "query": QUERIES[i % 4], "positives": [TEXTS[i % 4]] + ["a good card"] * (i % 5 == 4),
     "negatives": [text for text in TEXTS if text != TEXTS[i % 4]][: 1 + i % 4]}
    for i in range(14)
]  # fmt: skip
PAIRS = [{"id": f"r{i}", "query": QUERIES[i % 4], "text": TEXTS[i % 3], "score": 1 + i % 5} for i in range(14)]


def cross_encoder(folder, pairs):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.CrossEncoder(folder, device="cpu").predict(pairs)


# A softmax over the texts takes out what is added to all scores, one over the tokens what is added to all keys.
SHIFTS = ("classifier.bias", *(f"bert.encoder.layer.{i}.attention.self.key.bias" for i in range(2)))


class Lists(RecipeContract):
    @pytest.fixture(scope="class")
    @classmethod
    def tiny_model(cls, lively_bert):
        return lively_bert

    recipe = Reranking
    rows = LISTS
    plain = [(row["query"], row["positives"] + row["negatives"]) for row in LISTS[:6]]
    wrong = [
        ({"query": "x", "positives": ["a"], "negatives": []}, "nothing to rank"),
        ({"query": "x", "positives": ["a"], "negatives": ["a"]}, "same text among positives and negatives"),
    ]

    def alone(self, folder):
        return [
            texts[int(np.argmax(cross_encoder(folder, [(query, text) for text in texts])))]
            for query, texts in self.plain
        ]


class TestListwise(Lists):
    undetermined = SHIFTS

    def test_cross_encoder_gives_the_same_scores(self, tiny_bert, tmp_path):
        recipe = self.make(tiny_bert, tmp_path / "run")
        recipe.run(progress=False)
        for (query, texts), record in zip(self.plain, recipe.predict(self.plain), strict=True):
            theirs = cross_encoder(str(recipe.run_directory.model), [(query, text) for text in texts])
            ours = {ranked["place"]: ranked["score"] for ranked in record["ranking"]}
            np.testing.assert_allclose([ours[i] for i in range(len(texts))], theirs, atol=1e-5)

    def test_scores_have_intervals(self, tiny_bert, tmp_path):
        results = self.make(tiny_bert, tmp_path / "run").run(progress=False)
        low, high = results["intervals"]["mrr@10"]
        assert 0 < low <= results["scores"]["mrr@10"] <= high <= 1


class TestPairwise(Lists):
    settings = {"options": {"loss": "pairwise"}}
    undetermined = SHIFTS


class TestPointwise(Lists):
    settings = {"options": {"loss": "pointwise"}}


class TestScoredPairs(RecipeContract):
    recipe = Reranking
    settings = {"options": {"rows": "pairs", "lowest": 1, "highest": 5}}
    rows = PAIRS
    plain = [(row["query"], row["text"]) for row in PAIRS[:6]]
    wrong = [({"query": "x", "text": "y", "score": 9}, "off the scale of 1 to 5")]

    def alone(self, folder):
        return [float(score) for score in cross_encoder(folder, self.plain)]


def test_losses_that_compare_texts_need_lists(tiny_bert):
    with pytest.raises(ConfigError, match=r"options\.loss.*pointwise") as error:
        Reranking(model=tiny_bert, train=PAIRS, options={"rows": "pairs", "loss": "listwise", "highest": -1})
    assert "options.highest" in str(error.value)


def test_listwise_and_pairwise_losses_are_those_of_each_row_alone():
    generator = torch.Generator().manual_seed(0)
    sizes = np.array([2, 5, 3])
    scores = torch.randn(10, generator=generator)
    relevance = torch.tensor([1.0, 0, 1, 1, 0, 0, 0, 0, 0, 1])
    laid, right = by_example(scores, sizes), by_example(relevance, sizes)
    real, right = right >= 0, right.clamp(min=0)
    listwise = pairwise = 0.0
    for row, relevant in zip(scores.split(sizes.tolist()), relevance.split(sizes.tolist()), strict=True):
        listwise += -row.log_softmax(0)[relevant > 0].mean()
        apart = row[relevant > 0][:, None] - row[relevant == 0][None, :]
        pairwise += torch.nn.functional.softplus(-apart).mean()
    torch.testing.assert_close(listwise_sum(laid, right), listwise)
    torch.testing.assert_close(pairwise_sum(laid, right, real), pairwise)
