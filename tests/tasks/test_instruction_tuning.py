"""Instruction tuning fulfils the contract; only what the assistant says counts, and replies are its own."""

import json
import math

import numpy as np
import pytest
from contract import RecipeContract
from tasks.chat_models import CHATML, FORGETFUL, write_tiny_llama

from nlp_pipeline import DataError, InstructionTuning, Recipe
from nlp_pipeline.data.chat import PLAIN
from nlp_pipeline.data.fields import IGNORED

ROWS = [
    {"id": f"r{i}", "prompt": f"is card {i % 4} late?", "completion": f"yes, it is {'very ' * (i % 3)}late"}
    for i in range(14)
]
TALKS = [
    {
        "id": f"t{i}",
        "messages": [
            {"role": "user", "content": "where is it?"},
            {"role": "assistant", "content": "here"},
            {"role": "user", "content": f"and card {i}?"},
            {"role": "assistant", "content": "there, too"},
        ],
    }
    for i in range(14)
]
SHORT = {"generation": {"max_new_tokens": 12}}


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory):
    texts = [f"{row['prompt']} {row['completion']}" for row in ROWS]
    return write_tiny_llama(tmp_path_factory.mktemp("models") / "llama", texts, CHATML)


class TestInstructionTuning(RecipeContract):
    recipe = InstructionTuning
    settings = SHORT
    dropout = ("attention_dropout",)
    rows = ROWS
    plain = [row["prompt"] for row in ROWS[:4]]
    wrong = [
        ({"prompt": " ", "completion": "b"}, "empty"),
        ({"prompt": '[{"role": "robot", "content": "x"}]', "completion": "b"}, "unknown role"),
        ({"prompt": "a", "completion": ""}, "empty"),
        ({"prompt": "a", "completion": '[{"role": "user", "content": "x"}]'}, "says nothing"),
    ]

    @pytest.fixture(scope="class")
    @classmethod
    def tiny_model(cls, tiny_llama):
        return tiny_llama

    def alone(self, folder):
        """transformers' pipeline on chats, with the template, the ends and the special tokens of the saved folder."""
        from transformers import pipeline

        reply = pipeline("text-generation", model=folder)
        asked = [[{"role": "user", "content": text}] for text in self.plain]
        found = [reply(talk, max_new_tokens=12, do_sample=False)[0]["generated_text"] for talk in asked]
        return [talk[-1]["content"] for talk in found]

    def test_replies_are_learned_and_end_by_themselves(self, tiny_model, tmp_path):
        training = {"max_steps": 60, "learning_rate": 1e-2}
        recipe = self.make(tiny_model, tmp_path / "run", training=training, evaluation={"every": 60})
        scores = recipe.run(progress=False)["scores"]
        assert scores["perplexity"] < 3
        assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]), rel=1e-4)
        first = json.loads((recipe.run_directory.predictions / "test.jsonl").read_text().splitlines()[0])
        assert first["prediction"].startswith("yes, it is")
        assert "<|im_end|>" not in first["prediction"]
        assert first["perplexity"] < 5
        assert next(r["prediction"] for r in recipe.predict(self.plain)) == first["prediction"]
        logged = [entry["samples"] for entry in recipe.run_directory.history() if "samples" in entry]
        assert len(logged) == 1
        assert [sample["row_id"] for sample in logged[0]] == ["r0", "r1", "r2"]
        assert logged[0][0]["right"] == ROWS[0]["completion"]

    def test_metrics_of_replies(self, tiny_model, tmp_path):
        options = {"scores": "generated", "answer_after": "is"}
        training = {"max_steps": 60, "learning_rate": 1e-2}
        recipe = self.make(tiny_model, tmp_path / "run", options=options, training=training, evaluation={"every": 60})
        scores = recipe.run(progress=False)["scores"]
        assert 0.2 < scores["f1"] <= 1.0
        assert recipe.answer("it is  late ") == "late"
        assert recipe.answer("nothing") == ""

    def test_perplexity_is_of_completions_alone(self, tiny_model, tmp_path):
        recipe = self.make(tiny_model, tmp_path / "run")
        recipe.tokenize()
        table, tokenizer = recipe.tables["train"], recipe.encoder.tokenizer
        for row, labels in enumerate(table.sequences("labels", np.arange(len(ROWS)))):
            said = labels[labels != IGNORED]
            assert tokenizer.decode(said) == ROWS[row]["completion"] + "<|im_end|>"

    def test_every_turn_of_whole_conversations_counts_and_the_last_is_predicted(self, tiny_model, tmp_path):
        recipe = self.recipe(
            model=tiny_model, train=TALKS, test=TALKS, max_steps=40, learning_rate=1e-2, precision="fp32",
            dir=str(tmp_path / "run"), **SHORT,
        )  # fmt: skip
        scores = recipe.run(progress=False)["scores"]
        labels = recipe.tables["train"].sequences("labels", np.arange(2))[1]
        assert recipe.encoder.tokenizer.decode(labels[labels != IGNORED]) == "here<|im_end|>there, too<|im_end|>"
        size = len("herethere, too")
        tokens = (labels != IGNORED).sum()
        assert scores["bits_per_byte"] == pytest.approx(math.log2(scores["perplexity"]) * tokens / size, rel=1e-4)
        asked = [{"messages": row["messages"][:-1]} for row in TALKS[:5]]
        found = [record["prediction"] for record in recipe.predict(TALKS[:5])]
        assert found == [record["prediction"] for record in recipe.predict(asked)]
        assert all(isinstance(text, str) for text in found)

    def test_conversations_that_a_template_cannot_split_are_named_before_training(self, tiny_model, tmp_path):
        rows = [*TALKS[:12], {"id": "short", "messages": TALKS[0]["messages"][:2]}]
        recipe = self.recipe(
            model=tiny_model, train=rows, options={"chat_template": FORGETFUL}, dir=str(tmp_path / "run")
        )
        with pytest.raises(DataError, match=r"rows t0, t1.* and 2 more: the template writes earlier turns otherwise"):
            recipe.tokenize()

    def test_lora(self, tiny_model, tmp_path):
        recipe = self.make(tiny_model, tmp_path / "run", training={"lora": {"r": 4}, "learning_rate": 1e-2})
        recipe.run(progress=False)
        assert (recipe.run_directory.path / "adapter" / "adapter_model.safetensors").exists()
        assert Recipe.from_pretrained(tmp_path / "run").predict(self.plain) == recipe.predict(self.plain)


def test_a_tokenizer_without_a_template_gets_a_plain_one_and_says_so(tmp_path, capsys):
    model = write_tiny_llama(tmp_path / "llama", ["is it late? yes"], None)
    recipe = InstructionTuning(model=model, train=ROWS, max_steps=2, dir=str(tmp_path / "run"), **SHORT)
    recipe.run()
    assert "chat template: the tokenizer has none" in capsys.readouterr().out
    from transformers import AutoTokenizer

    saved = AutoTokenizer.from_pretrained(recipe.run_directory.model)
    assert saved.chat_template == PLAIN
    assert Recipe.from_pretrained(tmp_path / "run").predict(["a"]) == recipe.predict(["a"])


def test_batches_of_prompts_of_any_length_get_the_replies_of_each_alone(tiny_llama):
    import torch
    from transformers import AutoModelForCausalLM

    from nlp_pipeline.config.schema import GenerationSettings
    from nlp_pipeline.modeling.generating import generate_replies, generation_config
    from nlp_pipeline.modeling.padding_free import PaddingFree

    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    PaddingFree(model)
    prompts = [np.arange(5, 5 + n) for n in (1, 9, 4, 150)]
    config = generation_config(model, GenerationSettings(max_new_tokens=10), eos_token_id=[3], pad_token_id=0)
    with torch.inference_mode():
        together = generate_replies(model, prompts, config, (0,))
        alone = [generate_replies(model, [prompt], config, (0,))[0] for prompt in prompts]
    assert [a.tolist() for a in together] == [a.tolist() for a in alone]
    assert all(len(reply) == 10 or reply[-1] == 3 for reply in together)
