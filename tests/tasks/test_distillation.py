"""Recipes with a teacher fulfil their task's contract, and what is distillation's own."""

import numpy as np
import pytest
import torch
from contract import RecipeContract
from test_text_classification import TestSingleLabel as Plain
from test_token_classification import TestEntities as PlainTokens

from nlp_pipeline import ConfigError, DataError, Recipe, TextClassification
from nlp_pipeline.modeling.distillation import soft_binary_sum, soft_cross_entropy_sum
from nlp_pipeline.stages import teaching


class Taught(RecipeContract):
    """A student of one layer, whose teacher is trained once."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def teacher(cls, tiny_bert, tmp_path_factory):
        run = tmp_path_factory.mktemp("teacher") / "run"
        recipe = cls.recipe(
            model=tiny_bert, train=cls.rows, max_steps=12, learning_rate=3e-3, precision="fp32",
            output={"dir": str(run)},
        )  # fmt: skip
        recipe.run(progress=False)
        cls.settings = {**cls.settings, "teacher": {"name": str(run), "temperature": 3.0}}


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
        monkeypatch.setattr(teaching, "_write", None)
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
