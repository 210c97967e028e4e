"""How far a student's states are from its teacher's: the same packed and padded, and of any split of a batch."""

import numpy as np
import pytest
import torch
from test_exact_gradients import STILL, OneOfSeveral
from transformers import AutoConfig, AutoModel

from nlp_pipeline import ModelError, SentenceEmbedding, TextClassification, TokenClassification
from nlp_pipeline.modeling.hidden_states import HiddenStates
from nlp_pipeline.modeling.loading import load_model
from nlp_pipeline.modeling.padding_free import PaddingFree
from nlp_pipeline.modeling.parameters import keep_layers
from nlp_pipeline.training.inputs import InputMaker
from nlp_pipeline.training.step import Stepper

WORDS = "where is my late card please now".split()
TEXTS = [" ".join(WORDS[i % 3 : i % 3 + 1 + i % 5]) for i in range(10)]
RECIPES = {
    "texts": (TextClassification, [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(TEXTS)]),
    "tokens": (TokenClassification, [{"tokens": text.split(), "tags": ["O"] * len(text.split())} for text in TEXTS]),
    "pairs": (SentenceEmbedding, [{"anchor": text, "positive": f"the {text} {i}"} for i, text in enumerate(TEXTS)]),
}


def prepared(tiny_bert, kind, folder):
    cls, rows = RECIPES[kind]
    if kind == "tokens":
        rows = [{**row, "tags": ["B-x", *row["tags"][1:]]} for row in rows]
    recipe = cls(model={"name": tiny_bert, "settings": STILL}, train=rows, precision="fp32", dir=str(folder))
    recipe.tokenize()
    torch.manual_seed(0)
    student = load_model(recipe.config.model, recipe.auto_model, recipe.model_settings()).train()
    teacher = load_model(recipe.config.model, recipe.auto_model, recipe.model_settings())
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    keep_layers(student, [0])
    return recipe, student, teacher


def gradient(recipe, student, teacher, micro=None, processes=1, weight=1e6):
    """{name: gradient} and the loss; the states are nearly all of it."""
    student.zero_grad(set_to_none=True)
    loss, beside, table = 0.0, HiddenStates(teacher, student, weight), recipe.tables["train"]
    for rank in range(processes):
        given = InputMaker(recipe, table, rank, processes, micro, 10**6, True, 10)((0, np.arange(10)))
        accelerator = OneOfSeveral(rank, processes)
        stepper = Stepper(recipe, student, None, accelerator, table, recipe.config.training, teacher=beside)
        loss += float(stepper.gradient(given))
    return {n: p.grad / processes for n, p in student.named_parameters() if p.grad is not None}, loss


@pytest.mark.parametrize("kind", RECIPES)
def test_packed_and_padded_and_any_split_are_alike(tiny_bert, tmp_path, kind):
    recipe, student, teacher = prepared(tiny_bert, kind, tmp_path / "run")
    wanted, loss = gradient(recipe, student, teacher)
    found = [gradient(recipe, student, teacher, micro=3)]
    if kind != "pairs":  # a loss over the whole batch gathers from the other processes
        found.append(gradient(recipe, student, teacher, micro=2, processes=3))
    for packed in ([student], [teacher], [student, teacher]):
        runners = [PaddingFree(model) for model in packed]
        found.append(gradient(recipe, student, teacher, micro=4))
        for runner in runners:
            runner.remove()
    scale = max(float(part.abs().max()) for part in wanted.values())
    assert scale > 1
    for other, its_loss in found:
        assert its_loss == pytest.approx(loss, rel=1e-5)
        assert other.keys() == wanted.keys()
        for name in wanted:
            torch.testing.assert_close(other[name], wanted[name], atol=1e-5 * scale, rtol=1e-3, msg=name)


def test_the_distance_is_the_mean_over_real_tokens_and_the_last_layers_meet(tiny_bert, tmp_path):
    recipe, student, teacher = prepared(tiny_bert, "texts", tmp_path / "run")
    _, loss = gradient(recipe, student, teacher, weight=1.0)
    _, without = gradient(recipe, student, teacher, weight=0.0)
    batch = recipe.batch(recipe.tables["train"], np.arange(10))
    with torch.no_grad():
        ours, theirs = (model(**batch.inputs, output_hidden_states=True).hidden_states for model in (student, teacher))
    apart = 1 - torch.cosine_similarity(ours[1], theirs[2], dim=-1)
    wanted = float(apart[batch.inputs["attention_mask"].bool()].mean())
    assert wanted > 0.01
    assert loss - without == pytest.approx(wanted, rel=1e-4)


def test_layers_are_paired_by_their_share_of_the_depth(tiny_bert):
    def pairs(ours, theirs):
        config = AutoConfig.from_pretrained(tiny_bert)
        student, teacher = (
            AutoModel.from_config(AutoConfig.from_pretrained(tiny_bert, num_hidden_layers=layers))
            for layers in (ours, theirs)
        )
        found = HiddenStates(teacher, student, 1.0)
        every = list(teacher.encoder.layer)
        assert config.num_hidden_layers == 2
        return [every.index(found.theirs[place]) for place in found.pairs]

    assert pairs(3, 6) == [1, 3, 5]
    assert pairs(2, 3) == [1, 2]
    assert pairs(4, 2) == [0, 0, 1, 1]
    assert pairs(2, 2) == [0, 1]


def test_recomputed_activations_give_the_same(tiny_bert, tmp_path):
    from nlp_pipeline.training.loop import recompute_activations

    recipe, student, teacher = prepared(tiny_bert, "texts", tmp_path / "run")
    wanted, _ = gradient(recipe, student, teacher)
    recompute_activations(student)
    found, _ = gradient(recipe, student, teacher)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], msg=name)


def test_a_model_without_one_stack_of_layers_is_refused():
    from transformers import AlbertConfig, AlbertModel

    settings = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 20}
    model = AlbertModel(AlbertConfig(embedding_size=8, num_hidden_layers=3, **settings))
    with pytest.raises(ModelError, match=r"teacher\.hidden_states: AlbertModel is not one stack"):
        HiddenStates(model, model, 1.0)
