"""Text classification in all its forms fulfils the contract, and what is its own."""

import numpy as np
import pytest
from contract import RecipeContract

from nlp_pipeline import ConfigError, DataError, TextClassification
from nlp_pipeline.data.labels import Labels, label_weights

WORDS = ["the card is late", "my money is gone", "where is the card", "send the money back", "the card came", "pay me"]
TEXTS = [f"{WORDS[i % 6]} {'again ' * (i % 4)}" for i in range(14)]


def labels_alone(self, folder):
    from transformers import pipeline

    inputs = [{"text": row[0], "text_pair": row[1]} if isinstance(row, tuple) else row for row in self.plain]
    return [answer["label"] for answer in pipeline("text-classification", model=folder)(inputs)]


class TestSingleLabel(RecipeContract):
    recipe = TextClassification
    rows = [{"id": f"r{i}", "text": text, "label": ["card", "money"]["money" in text or "pay" in text]}
            for i, text in enumerate(TEXTS)]  # fmt: skip
    plain = TEXTS[:5]
    wrong = [({"text": "x", "label": "loan"}, "'loan'"), ({"text": " ", "label": "card"}, "empty")]
    alone = labels_alone

    def test_pipeline_agrees_with_predict(self, tiny_bert, tmp_path):
        from transformers import pipeline

        recipe = self.make(tiny_bert, tmp_path / "run")
        recipe.run(progress=False)
        classify = pipeline("text-classification", model=str(recipe.run_directory.model))
        theirs = classify(TEXTS, truncation=True)
        ours = recipe.predict(TEXTS)
        assert [answer["label"] for answer in theirs] == [record["prediction"] for record in ours]
        np.testing.assert_allclose([a["score"] for a in theirs], [r["score"] for r in ours], atol=1e-5)

    def test_predictions_carry_the_row_ids_of_the_input(self, tiny_bert, tmp_path):
        import json

        recipe = self.make(tiny_bert, tmp_path / "run")
        recipe.run(progress=False)
        lines = (recipe.run_directory.predictions / "test.jsonl").read_text().splitlines()
        assert [json.loads(line)["row_id"] for line in lines] == [row["id"] for row in self.rows]

    def test_unseen_test_labels_are_an_error_with_their_rows(self, tiny_bert, tmp_path):
        recipe = self.make(tiny_bert, tmp_path / "run")
        recipe._in_memory["test"] = [{"id": "odd", "text": "x", "label": "loan"}, *self.rows]
        with pytest.raises(DataError, match=r"test: the label 'loan' \(rows odd\)"):
            recipe.load()

    def test_finished_run_is_not_trained_again(self, tiny_bert, tmp_path):
        first = self.make(tiny_bert, tmp_path / "run").run(progress=False)
        again = self.make(tiny_bert, tmp_path / "run")
        assert again.run(progress=False) == first
        assert not again.tables
        fresh = self.make(tiny_bert, tmp_path / "run")
        fresh.run(progress=False, fresh=True)
        assert fresh.run_directory.path == tmp_path / "run-2"

    def test_other_settings_on_the_same_folder_are_refused_with_the_difference(self, tiny_bert, tmp_path):
        self.make(tiny_bert, tmp_path / "run").run(progress=False)
        changed = self.make(tiny_bert, tmp_path / "run", batch={"size": 4})
        with pytest.raises(ConfigError, match=r"batch\.size: this run directory was trained with 8, now it is 4"):
            changed.run(progress=False)

    def test_more_steps_go_on_from_the_last_checkpoint(self, tiny_bert, tmp_path):
        self.make(tiny_bert, tmp_path / "run").run(progress=False)
        longer = self.make(tiny_bert, tmp_path / "run", training={"max_steps": 8})
        assert longer.run(progress=False)["training"]["step"] == 8

    def test_lora_trains_few_parameters_and_leaves_a_plain_model(self, tiny_bert, tmp_path):
        from transformers import pipeline

        recipe = self.make(tiny_bert, tmp_path / "run", training={"lora": {"r": 2}})
        recipe.run(progress=False)
        assert (recipe.run_directory.path / "adapter" / "adapter_model.safetensors").exists()
        classify = pipeline("text-classification", model=str(recipe.run_directory.model))
        ours = recipe.predict(TEXTS)
        assert [a["label"] for a in classify(TEXTS)] == [record["prediction"] for record in ours]

    def test_early_stopping_ends_the_run(self, tiny_bert, tmp_path):
        training = {"learning_rate": 1e-9, "max_steps": 40, "early_stopping": {"patience": 2}}
        recipe = self.make(tiny_bert, tmp_path / "run", training=training, evaluation={"every": 1})
        assert recipe.run(progress=False)["training"]["step"] == 3

    def test_a_checkpoint_head_with_other_labels_is_drawn_anew(self, tiny_bert, tmp_path):
        self.make(tiny_bert, tmp_path / "first").run(progress=False)
        model = str(tmp_path / "first" / "model")
        from nlp_pipeline.config.schema import ModelConfig
        from nlp_pipeline.modeling.loading import load_model

        def head(names):
            settings = Labels(names).model_settings()
            return load_model(ModelConfig(name=model), "AutoModelForSequenceClassification", settings).classifier.weight

        kept = head(("card", "money"))
        assert (head(("card", "money")) == kept).all()
        assert not (head(("money", "loan")) == kept).any()

    def test_gradient_checkpointing_changes_no_weight(self, tiny_bert, tmp_path):
        plain = self.make(tiny_bert, tmp_path / "plain")
        saving = self.make(tiny_bert, tmp_path / "saving", training={"gradient_checkpointing": True})
        plain.run(progress=False)
        saving.run(progress=False)
        ours, theirs = self.weights(saving), self.weights(plain)
        assert all(np.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)

    def test_layers_can_be_frozen_and_decayed(self, tiny_bert, tmp_path):
        training = {"freeze": ["embeddings", "layers:1"], "layer_decay": 0.5, "label_smoothing": 0.1}
        recipe = self.make(tiny_bert, tmp_path / "run", training=training)
        recipe.run(progress=False)
        from safetensors.numpy import load_file

        before = load_file(f"{tiny_bert}/model.safetensors")
        after = self.weights(recipe)
        for name, tensor in before.items():
            kept = np.array_equal(after[f"bert.{name}"], tensor)
            assert kept == ("embeddings" in name or "layer.0." in name), name

    def test_every_step_is_logged_once(self, tiny_bert, tmp_path):
        recipe = self.make(tiny_bert, tmp_path / "run", training={"log_every": 4})
        recipe.run(progress=False)
        history = recipe.run_directory.history()
        assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3, 4, 5, 6]
        assert [entry["step"] for entry in history if "validation" in entry] == [3, 6]


class TestMultiLabel(RecipeContract):
    recipe = TextClassification
    settings = {"options": {"problem": "multi_label"}}
    rows = [{"text": text, "labels": [n for n in ("card", "money", "the") if n in text]} for text in TEXTS]
    plain = TEXTS[:5]
    wrong = [({"text": "x", "labels": ["loan"]}, "'loan'")]

    def alone(self, folder):
        from transformers import pipeline

        answers = pipeline("text-classification", model=folder, top_k=None)(self.plain)
        return [[a["label"] for a in sorted(row, key=lambda a: a["label"]) if a["score"] >= 0.5] for row in answers]

    def test_a_rare_label_may_fall_outside_the_training_rows_of_a_carve(self, tiny_bert):
        rows = [*self.rows, *({"text": f"odd {i}", "labels": [f"rare{i}"]} for i in range(10))]
        recipe = TextClassification(model=tiny_bert, train=rows, test_fraction=0.4, options={"problem": "multi_label"})
        recipe.load()
        assert len(recipe.labels) == 13


class TestRegression(RecipeContract):
    recipe = TextClassification
    settings = {"options": {"problem": "regression"}}
    rows = [{"text": text, "score": len(text) / 20} for text in TEXTS]
    plain = TEXTS[:5]
    wrong = [({"text": "x", "score": "much"}, "no number")]

    def alone(self, folder):
        from transformers import pipeline

        return [answer["score"] for answer in pipeline("text-classification", model=folder)(self.plain)]


class TestPairWithClassWeights(RecipeContract):
    recipe = TextClassification
    settings = {"options": {"class_weights": "balanced"}}
    rows = [{"sentence1": text, "sentence2": TEXTS[i - 1], "label": i % 3 and 1} for i, text in enumerate(TEXTS)]
    plain = [(TEXTS[0], TEXTS[3]), (TEXTS[1], TEXTS[2])]
    wrong = [({"sentence1": "x", "sentence2": "y", "label": 7}, "'7'")]
    alone = labels_alone

    def test_integer_labels_keep_their_numeric_order(self, tiny_bert, tmp_path):
        recipe = self.make(tiny_bert, tmp_path / "run")
        recipe.load()
        assert recipe.labels.names == ("0", "1")


def test_entailment_makes_a_zero_shot_classifier(tiny_bert, tmp_path):
    from transformers import pipeline

    names = ("entailment", "neutral", "contradiction")
    rows = [{"premise": text, "hypothesis": TEXTS[i - 1], "label": names[i % 3]} for i, text in enumerate(TEXTS)]
    recipe = TextClassification(model=tiny_bert, train=rows, output={"dir": str(tmp_path / "run")}, max_steps=2)
    recipe.run(progress=False)
    classify = pipeline("zero-shot-classification", model=str(recipe.run_directory.model))
    labels, template = ["card", "money"], "this is about {}"
    assert classify.entailment_id == recipe.labels.ids["entailment"]
    found = classify(TEXTS[0], candidate_labels=labels, hypothesis_template=template, multi_label=True)
    chances = dict(zip(found["labels"], found["scores"], strict=True))
    logits = _pair_logits(recipe, [(TEXTS[0], template.format(label)) for label in labels])
    for label, row in zip(labels, logits, strict=True):
        pair = np.exp(row[[recipe.labels.ids["contradiction"], recipe.labels.ids["entailment"]]])
        assert chances[label] == pytest.approx(pair[1] / pair.sum(), abs=1e-5)


def _pair_logits(recipe, pairs):
    """float32[pairs, labels] from the saved model alone."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = str(recipe.run_directory.model)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        logits = model.eval()(
            **tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
        ).logits
    return logits.numpy()


def test_class_weights_follow_the_counts():
    labels = Labels(("a", "b"))
    weights, problems = label_weights("balanced", labels, [["a"]] * 3 + [["b"]], "single_label")
    np.testing.assert_allclose(weights, [4 / 6, 2])
    assert not problems
    _, problems = label_weights({"c": 1.0, "a": -1.0}, labels, [], "single_label")
    assert len(problems) == 2


def test_labels_sort_numbers_as_numbers():
    assert Labels.from_values(["10", "9", "-1"]).names == ("-1", "9", "10")
    assert Labels.from_values(["b", "a", "O"], first="O").names == ("O", "a", "b")
