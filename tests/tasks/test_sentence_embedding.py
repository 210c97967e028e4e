"""Sentence embeddings fulfil the contract with every kind of row, and sentence-transformers gives the same vectors."""

from types import SimpleNamespace

import numpy as np
import pytest
from contract import RecipeContract

from nlp_pipeline import ConfigError, DataError, SentenceEmbedding
from nlp_pipeline.data.text_groups import keys_of
from nlp_pipeline.evaluation.embeddings import starting_values

FIRST = ["where is my card", "what is late", "who is paid", "when do we pay", "i want a refund", "close the account"]
SECOND = ["the card is in london", "the parcel is late", "you are paid", "on the first of the month", "no money", "bye"]
PAIRS = [
    {
        "id": f"r{i}",
        "anchor": f"{FIRST[i % 6]} {'now ' * (i % 3)}{i}",
        "positive": f"{SECOND[i % 6]} {i}",
        "negatives": [SECOND[(i + 1 + j) % 6] for j in range(i % 3)],
    }
    for i in range(14)
]
SCORED = [
    {"id": f"r{i}", "sentence1": f"{FIRST[i % 6]} {i}", "sentence2": SECOND[i % 4], "score": 1 + (7 * i % 9) / 2}
    for i in range(14)
]
LABELLED = [
    {"id": f"r{i}", "text": f"{FIRST[i % 4]} {'please ' * (i % 3)}{i}", "label": f"l{i % 4}"} for i in range(14)
]


def sentence_transformer(folder):
    return pytest.importorskip("sentence_transformers").SentenceTransformer(str(folder), device="cpu")


class Embeddings(RecipeContract):
    recipe = SentenceEmbedding
    # A softmax over the tokens takes out what is added to all keys.
    undetermined = tuple(f"encoder.layer.{i}.attention.self.key.bias" for i in range(2))

    def alone(self, folder):
        model = sentence_transformer(folder)
        return [
            float(model.similarity(*model.encode(list(texts))[:, None])) if isinstance(texts, tuple) else
            model.encode(texts)
            for texts in self.plain
        ]  # fmt: skip

    def test_transformers_alone_agrees_with_predict(self, finished):
        ours = [record["prediction"] for record in finished.predict(self.plain)]
        theirs = self.alone(str(finished.run_directory.model))
        for found, wanted in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5)


class TestPairs(Embeddings):
    rows = PAIRS
    plain = [*FIRST, *zip(FIRST, SECOND, strict=True)]
    wrong = [({"anchor": "x", "positive": " "}, "positive")]


class TestScored(Embeddings):
    settings = {"options": {"rows": "scored"}}
    rows = SCORED
    plain = [*zip(FIRST, SECOND, strict=True), "one text"]
    wrong = [({"sentence1": "x", "sentence2": "y", "score": "much"}, "score")]


class TestCosine(Embeddings):
    @pytest.fixture(scope="class")
    @classmethod
    def tiny_model(cls, lively_bert):
        return lively_bert

    settings = {"options": {"rows": "scored", "loss": "cosine", "lowest": 1, "highest": 5, "pooling": "cls"}}
    rows = SCORED
    plain = list(zip(FIRST, SECOND, strict=True))
    wrong = [({"sentence1": "x", "sentence2": "y", "score": 9}, "off the scale of 1 to 5")]


class TestLabelled(Embeddings):
    settings = {"options": {"rows": "labelled", "normalize": False}}
    rows = LABELLED
    plain = FIRST
    wrong = [({"text": "x", "label": ""}, "label")]


class TestTriplet(Embeddings):
    settings = {"options": {"rows": "labelled", "loss": "batch_triplet"}}
    rows = LABELLED
    plain = FIRST
    wrong = [({"text": "", "label": "l1"}, "text")]


def test_settings_that_do_not_fit_the_rows_are_named(tiny_bert):
    options = {"rows": "pairs", "loss": "cosent", "lowest": 1}
    with pytest.raises(ConfigError, match=r"options\.loss.*in_batch_negatives") as error:
        SentenceEmbedding(model=tiny_bert, train=PAIRS, options=options, label_smoothing=0.1)
    assert "options.highest" in str(error.value)
    assert "label_smoothing" in str(error.value)


def test_labels_without_anything_to_learn_are_refused(tiny_bert):
    rows = [{"text": row["text"], "label": row["text"]} for row in LABELLED]
    with pytest.raises(DataError, match="two texts of one label"):
        SentenceEmbedding(model=tiny_bert, train=rows, options={"rows": "labelled"}).load()


def test_the_untouched_model_is_the_baseline(tiny_bert, tmp_path):
    """Its scores are those of a run that learns next to nothing."""
    settings = {"model": tiny_bert, "train": SCORED, "test": SCORED, "options": {"rows": "scored"}, "max_steps": 1}
    results = SentenceEmbedding(**settings, learning_rate=1e-12, dir=str(tmp_path / "run")).run(progress=False)
    assert results["baseline"]["name"] == "the model before training"
    assert results["baseline"]["scores"]["spearman"] == pytest.approx(results["scores"]["spearman"], abs=1e-4)


def test_parts_without_use_stay_as_they_were(tiny_bert, tmp_path):
    from safetensors.numpy import load_file

    run = tmp_path / "run"
    SentenceEmbedding(model=tiny_bert, train=PAIRS, dir=str(run), max_steps=2, learning_rate=1e-2).run(progress=False)
    before, after = load_file(f"{tiny_bert}/model.safetensors"), load_file(run / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert same == {"pooler.dense.weight", "pooler.dense.bias"}


def test_mined_negatives_are_the_likest_of_those_below_the_margin(tiny_bert, tmp_path):
    """By the starting model's cosines; texts that are right for an equal anchor are none, each text is one once."""
    rows = [{"anchor": FIRST[i % 6], "positive": f"{SECOND[i % 5]} {i // 3}", "negative": "no"} for i in range(14)]
    options = {"hard_negatives": 3, "margin": 0.01}
    make = {"model": tiny_bert, "train": rows, "tokenization": {"cache_dir": str(tmp_path / "cache")}}
    plain = SentenceEmbedding(**make, dir=str(tmp_path / "a"))
    mined = SentenceEmbedding(**make, options=options, dir=str(tmp_path / "b"))
    before, after = plain.tokenize()["train"], mined.tokenize()["train"]
    vectors = starting_values(plain)(plain.splits.train)
    texts = {row["positive"]: vector[1] for row, vector in zip(rows, vectors, strict=True)}
    texts["no"] = vectors[0][2]
    added = 0
    for i, row in enumerate(rows):
        right = {other["positive"] for other in rows if other["anchor"] == row["anchor"]}
        likeness = {text: float(vectors[i][0] @ vector) for text, vector in texts.items()}
        allowed = [t for t in texts if t not in right and likeness[t] < likeness[row["positive"]] - options["margin"]]
        wanted = sorted(allowed, key=lambda text: -likeness[text])[:3]
        found = after.sequences("keys", np.array([i]))[0]
        assert found.tolist() == keys_of([row["anchor"], row["positive"], "no", *wanted]).tolist()
        sequences = after.sequences("input_ids", np.array([i]))
        assert [s.tolist() for s in sequences[:3]] == [s.tolist() for s in before.sequences("input_ids", np.array([i]))]
        spelled = [mined.encoder.tokenizer.decode(s, skip_special_tokens=True) for s in sequences[3:]]
        assert spelled == wanted
        assert after.lengths[i] == sum(map(len, sequences))
        added += len(wanted)
    assert added > 14
    assert mined.run(progress=False)["rows"] == 14


def test_other_settings_of_mining_are_not_found_in_the_cache(tiny_bert, tmp_path):
    make = {"model": tiny_bert, "train": PAIRS, "tokenization": {"cache_dir": str(tmp_path / "cache")}}
    counts = []
    for options in ({"hard_negatives": 1, "margin": 0}, {"hard_negatives": 2, "margin": 0}):
        table = SentenceEmbedding(**make, options=options, dir=str(tmp_path / "run")).tokenize()["train"]
        counts.append(int(table.sizes.sum()))
    assert counts[1] > counts[0]


def test_the_first_numbers_of_a_vector_learn_too(tiny_bert, tmp_path):
    """The loss is the mean of those of whole and of cut vectors; too large a size is named."""
    import torch

    vectors = {"representations": torch.randn(14, 32, generator=torch.Generator().manual_seed(0))}
    losses = {}
    for dimensions in ((), (4, 8), (32,)):
        options = {"rows": "labelled", "dimensions": list(dimensions)}
        recipe = SentenceEmbedding(model=tiny_bert, train=LABELLED, options=options, dir=str(tmp_path / "run"))
        table = recipe.tokenize()["train"]
        targets = recipe.batch(table, np.arange(14)).targets
        if dimensions == (32,):
            with pytest.raises(ConfigError, match=r"options\.dimensions.*below 32"):
                recipe.loss(SimpleNamespace(**vectors), targets)
            continue
        losses[dimensions] = recipe.loss(SimpleNamespace(**vectors), targets)
        for size in (4, 8) if not dimensions else ():
            losses[size] = recipe.loss(SimpleNamespace(representations=vectors["representations"][:, :size]), targets)
    torch.testing.assert_close(losses[(4, 8)], (losses[()] + losses[4] + losses[8]) / 3)
