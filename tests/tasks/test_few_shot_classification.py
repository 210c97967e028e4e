"""Few-shot classification fulfils the contract; its body is a SentenceTransformer, its head a matrix and a vector."""

import numpy as np
import pytest
from contract import RecipeContract
from safetensors.numpy import load_file

from nlp_pipeline import DataError, FewShotClassification, ModelError, Recipe
from nlp_pipeline.modeling.logistic_head import LogisticHead

TEXTS = ["where is my card", "the parcel is late", "who is paid", "i want a refund"]
ROWS = [{"id": f"r{i}", "text": f"{TEXTS[i % 4]} {'please ' * (i % 3)}{i}", "label": f"l{i % 4}"} for i in range(16)]


class TestFewShotClassification(RecipeContract):
    recipe = FewShotClassification
    undetermined = tuple(f"encoder.layer.{i}.attention.self.key.bias" for i in range(2))
    rows = ROWS
    plain = TEXTS
    wrong = [({"text": "x", "label": ""}, "label"), ({"text": "x", "label": "unheard"}, "not among the training")]

    def alone(self, folder):
        sentence_transformers = pytest.importorskip("sentence_transformers")
        model = sentence_transformers.SentenceTransformer(folder, device="cpu")
        head = load_file(f"{folder}/logistic_head.safetensors")
        logits = model.encode(self.plain) @ head["weight"].T + head["bias"]
        return [model[0].auto_model.config.id2label[int(i)] for i in logits.argmax(1)]

    def test_the_head_is_that_of_the_saved_weights(self, tiny_model, tmp_path):
        """Which are the best ones, not those of the last evaluation."""
        recipe = self.make(tiny_model, tmp_path / "run", evaluation={"every": 2}, training={"max_steps": 8})
        recipe.run(progress=False)
        saved = Recipe.from_pretrained(tmp_path / "run")
        kept = LogisticHead.load(recipe.run_directory.model)
        saved.splits, saved.tables = recipe.splits, recipe.tables
        saved.predict(TEXTS)
        saved.fit_rest(saved._loaded[0])
        np.testing.assert_allclose(saved.head.weight, kept.weight, atol=1e-5)

    def test_a_lost_head_is_named(self, tiny_model, tmp_path):
        self.make(tiny_model, tmp_path / "run").run(progress=False)
        (tmp_path / "run" / "model" / "logistic_head.safetensors").unlink()
        with pytest.raises(ModelError, match="logistic_head"):
            Recipe.from_pretrained(tmp_path / "run").predict(TEXTS)


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 1, 0], [2, 0, 2, 0, 0, 2], [0, 1, 2, 0, 1, 2]])
def test_the_head_has_the_probabilities_of_scikit_learn(labels):
    from sklearn.linear_model import LogisticRegression

    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    logits = LogisticHead.fit(vectors, np.array(labels), 4, 0.5)(vectors)
    found = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = LogisticRegression(C=0.5, max_iter=1000).fit(vectors, labels)
    np.testing.assert_allclose(found[:, wanted.classes_], wanted.predict_proba(vectors), atol=1e-5)
    assert found[:, 3].max() == 0.0


def test_one_label_is_nothing_to_tell_apart(tiny_bert):
    rows = [{"text": text, "label": "x"} for text in TEXTS]
    with pytest.raises(DataError, match="at least 2"):
        FewShotClassification(model=tiny_bert, train=rows).load()
