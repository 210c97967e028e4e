"""Recipes with a teacher fulfil their task's contract, and what is distillation's own."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from contract import RecipeContract
from test_sentence_embedding import LABELLED, PAIRS, SCORED, Embeddings
from test_sentence_embedding import TestPairs as PlainPairs
from test_text_classification import TestSingleLabel as Plain
from test_token_classification import TestEntities as PlainTokens

from nlp_pipeline import ConfigError, DataError, Recipe, SentenceEmbedding, TextClassification
from nlp_pipeline.modeling.distillation import mean_vector_distance, soft_binary_sum, soft_cross_entropy_sum
from nlp_pipeline.stages import teaching


class Taught(RecipeContract):
    """A student of one layer, whose teacher is trained once."""

    taught: ClassVar[dict[str, Any]] = {"temperature": 3.0}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def teacher(cls, tiny_bert, tmp_path_factory):
        run = tmp_path_factory.mktemp("teacher") / "run"
        recipe = cls.recipe(
            model=tiny_bert, train=cls.rows, max_steps=12, learning_rate=3e-3, precision="fp32",
            output={"dir": str(run)},
        )  # fmt: skip
        recipe.run(progress=False)
        cls.settings = {**cls.settings, "teacher": {"name": str(run), **cls.taught}}


class TestTextStudent(Taught):
    recipe, rows, plain, wrong, alone = Plain.recipe, Plain.rows, Plain.plain, Plain.wrong, Plain.alone

    def still(self, tiny_model):
        return {**super().still(tiny_model), "layers": [1]}

    def test_answers_are_the_teachers_in_the_order_of_the_students_labels(self, tiny_bert, tmp_path):
        recipe = self.make(tiny_bert, tmp_path / "run", tokenization={"cache": False})
        table = recipe.tokenize()["train"]
        teacher = Recipe.from_pretrained(self.settings["teacher"]["name"])
        logits = np.stack(table.sequences("soft_labels", np.arange(len(table))))
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        for row, record in zip(chances, teacher.predict([row["text"] for row in self.rows]), strict=True):
            assert recipe.labels.names[row.argmax()] == record["prediction"]
            assert row.max() == pytest.approx(record["score"], abs=1e-5)

    def test_the_teacher_is_asked_once(self, tiny_bert, tmp_path, monkeypatch):
        self.make(tiny_bert, tmp_path / "one", model={"name": tiny_bert}).tokenize()
        monkeypatch.setattr(teaching, "_answers", None)
        self.make(tiny_bert, tmp_path / "two", training={"seed": 5}).tokenize()

    def test_a_teacher_of_other_labels_is_refused_with_all_of_them(self, tiny_bert, tmp_path):
        rows = [{**row, "label": {"card": "loan"}.get(row["label"], row["label"])} for row in self.rows]
        recipe = TextClassification(model=tiny_bert, train=rows, teacher=self.settings["teacher"]["name"])
        with pytest.raises(DataError, match="the teacher lacks: loan") as error:
            recipe.load()
        assert "this recipe lacks: card" in str(error.value)

    def test_a_student_keeps_the_layers_that_were_chosen(self, tiny_bert, tmp_path):
        from safetensors.numpy import load_file

        model = self.load(self.make(tiny_bert, tmp_path / "run", model=self.still(tiny_bert)))
        before = load_file(f"{tiny_bert}/model.safetensors")["encoder.layer.1.output.dense.weight"]
        assert model.config.num_hidden_layers == len(model.bert.encoder.layer) == 1
        np.testing.assert_array_equal(model.bert.encoder.layer[0].output.dense.weight.detach().numpy(), before)

    def test_the_saved_student_needs_no_teacher(self, tiny_bert, tmp_path):
        recipe = self.make(tiny_bert, tmp_path / "run", model=self.still(tiny_bert))
        recipe.run(progress=False)
        assert Recipe.from_pretrained(recipe.run_directory.model).config.teacher is None


class TestTokenStudent(Taught):
    recipe, rows, plain, wrong, alone = (
        PlainTokens.recipe, PlainTokens.rows, PlainTokens.plain, PlainTokens.wrong, PlainTokens.alone
    )  # fmt: skip

    def still(self, tiny_model):
        return {**super().still(tiny_model), "layers": [0]}


class TestPairsStudent(Taught, Embeddings):
    recipe, rows, plain, wrong = PlainPairs.recipe, PlainPairs.rows, PlainPairs.plain, PlainPairs.wrong
    taught = {"weight": 0.7}

    def test_answers_are_the_teachers_vectors_also_of_mined_texts(self, tiny_bert, tmp_path):
        options = {"hard_negatives": 2, "margin": 0.0}
        recipe = self.make(tiny_bert, tmp_path / "run", options=options, tokenization={"cache": False})
        table = recipe.tokenize()["train"]
        assert table.sizes.sum() > sum(2 + len(row["negatives"]) for row in self.rows)
        found = recipe.batch(table, np.arange(len(table))).targets["soft_labels"]
        teacher = Recipe.from_pretrained(self.settings["teacher"]["name"])
        spelled = [
            recipe.encoder.tokenizer.decode(ids, skip_special_tokens=True)
            for ids in table.sequences("input_ids", np.arange(len(table)))
        ]
        wanted = [record["prediction"] for record in teacher.predict(spelled)]
        np.testing.assert_allclose(found, wanted, atol=1e-5)

    def test_a_teacher_reads_no_more_of_a_text_than_on_its_own(self, tiny_bert, tmp_path):
        folder = Path(shutil.copytree(self.settings["teacher"]["name"], tmp_path / "teacher"))
        (folder / "model" / "sentence_bert_config.json").write_text('{"max_seq_length": 4}')
        settings = {"teacher": {"name": str(folder), **self.taught}, "tokenization": {"cache": False}}
        recipe = self.make(tiny_bert, tmp_path / "run", **settings)
        table = recipe.tokenize()["train"]
        ids = table.sequences("input_ids", np.arange(len(table)))
        found = recipe.batch(table, np.arange(len(table))).targets["soft_labels"]
        longer = np.array([len(sequence) > 4 for sequence in ids])
        assert longer.any()
        cut = [recipe.encoder.tokenizer.decode(sequence[1:-1][:2]) for sequence in ids]
        wanted = [record["prediction"] for record in Recipe.from_pretrained(folder).predict(cut)]
        np.testing.assert_allclose(found, wanted, atol=1e-5)

    def test_a_student_comes_near_its_teachers_vectors(self, tiny_bert, tmp_path):
        """By the teacher alone: nothing else pulls at it."""
        teacher = Recipe.from_pretrained(self.settings["teacher"]["name"])
        training = {"max_steps": 60, "learning_rate": 3e-3}
        given = {"name": self.settings["teacher"]["name"], "weight": 1.0}
        recipe = self.make(
            tiny_bert, tmp_path / "run", model=self.still(tiny_bert) | {"layers": [1]}, teacher=given, training=training,
            evaluation={"every": 60},
        )  # fmt: skip
        recipe.run(progress=False)
        texts = [row["positive"] for row in self.rows]
        ours, theirs = (
            torch.tensor([record["prediction"] for record in model.predict(texts)]) for model in (recipe, teacher)
        )
        logged = [entry["loss"] for entry in recipe.run_directory.history() if "loss" in entry]
        assert logged[-1] < 0.1 * logged[0]
        assert float(mean_vector_distance(ours, theirs)) == pytest.approx(logged[-1], abs=0.02)


class TestStates(Taught):
    """Hidden states beside soft labels."""

    recipe, rows, plain, wrong, alone = Plain.recipe, Plain.rows, Plain.plain, Plain.wrong, Plain.alone
    taught = {"temperature": 3.0, "hidden_states": 2.0}

    def still(self, tiny_model):
        return {**super().still(tiny_model), "layers": [1]}


@pytest.mark.parametrize("rows", ["scored", "labelled"])
def test_a_teacher_of_another_width_teaches_what_is_like_what(tiny_bert, tmp_path, rows):
    """With every kind of row; the loss of a batch is that of its parts' vectors together."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(tiny_bert, hidden_size=48)
    AutoModel.from_config(config).save_pretrained(tmp_path / "teacher")
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "teacher")
    loss = {"scored": "cosine", "labelled": "auto"}[rows]
    recipe = SentenceEmbedding(
        model=tiny_bert, train={"scored": SCORED, "labelled": LABELLED}[rows], max_steps=30, learning_rate=3e-3,
        options={"rows": rows, "loss": loss, "highest": 6}, precision="fp32", dir=str(tmp_path / "run"),
        teacher={"name": str(tmp_path / "teacher"), "weight": 1.0}, batch={"size": 14, "micro": 5}, log_every=1,
    )  # fmt: skip
    recipe.run(progress=False)
    logged = [entry["loss"] for entry in recipe.run_directory.history() if "loss" in entry]
    assert logged[-1] < 0.5 * logged[0]


def test_teachers_of_vectors_that_cannot_be_read_are_refused(tiny_bert, tmp_path):
    import shutil

    folder = tmp_path / "teacher"
    shutil.copytree(tiny_bert, folder)
    (folder / "modules.json").write_text('[{"type": "a.Transformer"}, {"type": "a.Pooling"}, {"type": "a.Dense"}]')
    settings = {"model": tiny_bert, "train": PAIRS}
    with pytest.raises(ConfigError, match=r"teacher: .* makes vectors by Dense") as error:
        SentenceEmbedding(**settings, teacher={"name": str(folder), "temperature": 3})
    assert "teacher.temperature" in str(error.value)
    (folder / "modules.json").write_text('[{"type": "a.Transformer"}, {"type": "a.Pooling"}]')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "max"}')
    with pytest.raises(ConfigError, match="makes vectors by pooling max"):
        SentenceEmbedding(**settings, teacher=str(folder))
    (folder / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    assert SentenceEmbedding(**settings, teacher=str(folder)).soft_targets().about == "cls"


def test_states_of_another_width_or_under_compilation_are_refused(tiny_bert, tmp_path):
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    labels = {"id2label": dict(enumerate("ab")), "label2id": {"a": 0, "b": 1}}
    config = AutoConfig.from_pretrained(tiny_bert, hidden_size=48, **labels)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(12)]
    teacher = {"name": str(tmp_path), "hidden_states": 1.0}
    with pytest.raises(DataError, match=r"teacher\.hidden_states: .*48 features, the model's 32"):
        TextClassification(model=tiny_bert, train=rows, teacher=teacher).load()
    with pytest.raises(ConfigError, match=r"training\.compile"):
        TextClassification(model=tiny_bert, train=rows, teacher=teacher, training={"compile": True})


def test_vectors_are_compared_by_direction_and_of_another_width_by_each_others_cosines():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 6, generator=generator) for _ in range(2))
    assert float(mean_vector_distance(3 * teacher, teacher)) == pytest.approx(0, abs=1e-6)
    cosine = torch.cosine_similarity(student, teacher)
    torch.testing.assert_close(mean_vector_distance(student, teacher), (2 - 2 * cosine).mean())
    turned = teacher @ torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    assert float(mean_vector_distance(turned, torch.cat([teacher, 0 * teacher], 1))) == pytest.approx(0, abs=1e-6)
    wide, pairs = torch.randn(5, 8, generator=generator), [(i, j) for i in range(5) for j in range(5) if i != j]
    apart = [
        torch.cosine_similarity(student[i], student[j], 0) - torch.cosine_similarity(wide[i], wide[j], 0)
        for i, j in pairs
    ]
    torch.testing.assert_close(mean_vector_distance(student, wide), torch.stack(apart).square().mean())
    assert float(mean_vector_distance(student[:1], wide[:1])) == 0.0


def test_a_teacher_that_is_no_model_is_named_before_anything_is_read(tiny_bert, tmp_path):
    with pytest.raises(ConfigError, match="teacher: there is no folder"):
        TextClassification(model=tiny_bert, train=Plain.rows, teacher=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"teacher: .* has no model"):
        TextClassification(model=tiny_bert, train=Plain.rows, teacher=str(tmp_path))


def test_soft_losses_are_zero_where_both_agree_and_their_gradient_is_the_difference_of_chances():
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(4, 3, generator=generator) for _ in range(2))
    for loss in (soft_cross_entropy_sum, soft_binary_sum):
        assert float(loss(teacher, teacher, 2.0)) == pytest.approx(0, abs=1e-6)
        assert float(loss(student, teacher, 2.0)) > 0
    student.requires_grad_()
    soft_cross_entropy_sum(student, teacher, 2.0).backward()
    expected = 2.0 * ((student / 2).softmax(-1) - (teacher / 2).softmax(-1))
    torch.testing.assert_close(student.grad, expected.detach())
