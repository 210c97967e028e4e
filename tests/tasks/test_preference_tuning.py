"""Preference tuning fulfils the contract; the reference model reads the rows once, before training."""

import math

import numpy as np
import pytest
from contract import RecipeContract
from tasks.chat_models import CHATML, STRIPPED, write_tiny_llama

from nlp_pipeline import ConfigError, ModelError, PreferenceTuning, Recipe
from nlp_pipeline.stages.scoring import evaluate_source

ROWS = [
    {
        "id": f"r{i}",
        "prompt": f"is card {i % 4} late?",
        "chosen": f"yes, it is {'very ' * (i % 3)}late",
        "rejected": f"no, not{' at all' * (i % 2)}",
    }
    for i in range(14)
]


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory):
    texts = [" ".join(row.values()) for row in ROWS]
    return write_tiny_llama(tmp_path_factory.mktemp("models") / "llama", texts, CHATML)


def of_reply(model, tokenizer, row, side):
    """log-likelihood of a reply by transformers alone."""
    import torch

    talk = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[side]}]
    ids = tokenizer.apply_chat_template(talk, return_dict=False)
    begin = len(tokenizer.apply_chat_template(talk[:1], add_generation_prompt=True, return_dict=False))
    ids = ids[: len(ids) - ids[::-1].index(tokenizer.convert_tokens_to_ids("<|im_end|>"))]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logits[place - 1, ids[place]]) for place in range(begin, len(ids)))


class TestPreferenceTuning(RecipeContract):
    recipe = PreferenceTuning
    dropout = ("attention_dropout",)
    rows = ROWS
    plain = [(row["prompt"], row["chosen"], row["rejected"]) for row in ROWS[:4]]
    wrong = [
        ({"prompt": "a", "chosen": " ", "rejected": "b"}, "empty"),
        ({"prompt": "a", "chosen": '[{"role": "robot", "content": "x"}]', "rejected": "b"}, "unknown role"),
        ({"prompt": "a", "chosen": '[{"role": "user", "content": "x"}]', "rejected": "b"}, "says nothing"),
    ]

    @pytest.fixture(scope="class")
    @classmethod
    def tiny_model(cls, tiny_llama):
        return tiny_llama

    def alone(self, folder):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
        return [
            of_reply(model, tokenizer, row, "chosen") - of_reply(model, tokenizer, row, "rejected") for row in ROWS[:4]
        ]

    def test_the_reference_model_reads_the_rows_once(self, tiny_model, tmp_path, monkeypatch):
        """Not again when a run goes on, nor in another run of the same rows and model."""
        from nlp_pipeline.stages import reference

        read = []
        values = reference.reference_values
        monkeypatch.setattr(reference, "reference_values", lambda *a: read.append(len(a[1])) or values(*a))
        settings = {"tokenization": {"cache_dir": str(tmp_path / "cache")}}
        first = self.make(tiny_model, tmp_path / "a", **settings)
        first.run(progress=False)
        assert read == [len(ROWS)]  # all splits hold the same rows
        other = self.make(tiny_model, tmp_path / "b", options={"beta": 0.3}, **settings)
        other.run(progress=False)
        assert len(read) == 1
        assert np.array_equal(
            *(np.concatenate(r.tables["train"].sequences("reference", np.arange(14))) for r in (first, other))
        )
        off = {"tokenization": {"cache": False}}
        for _ in range(2):  # kept in the run's folder where there is no cache
            self.make(tiny_model, tmp_path / "c", **off).tokenize()
        assert len(read) == 2

    def test_a_run_goes_on_only_with_the_reference_it_began_with(self, tiny_model, tmp_path):
        import shutil

        from safetensors.numpy import load_file, save_file

        shutil.copytree(tiny_model, tmp_path / "reference")
        settings = {"options": {"reference": str(tmp_path / "reference")}, "tokenization": {"cache": False}}
        self.make(tiny_model, tmp_path / "run", **settings, training={"max_steps": 2}).run(progress=False)
        longer = {**settings, "training": {"max_steps": 3}}
        self.make(tiny_model, tmp_path / "run", **longer).run(progress=False)
        file = tmp_path / "reference" / "model.safetensors"
        save_file({name: 2 * values for name, values in load_file(file).items()}, file, {"format": "pt"})
        with pytest.raises(ConfigError, match=r"options\.reference weights"):
            self.make(tiny_model, tmp_path / "run", **longer).run(progress=False)

    def test_under_lora_the_reference_is_the_model_without_its_adapter(self, tiny_model, tmp_path):
        import torch

        from nlp_pipeline.stages.fitting import _model_to_train

        recipe = self.make(tiny_model, tmp_path / "run", training={"lora": {"r": 4}, "learning_rate": 1e-2})
        recipe.tokenize()
        model, _ = _model_to_train(recipe)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_()
        batch = recipe.batch(recipe.tables["train"], np.arange(14))
        model.eval()
        with torch.no_grad():
            adapted = recipe.forward(model, batch).scores
            with model.disable_adapter():
                bare = recipe.forward(model, batch).scores
        torch.testing.assert_close(bare, batch.targets["reference"], atol=2e-4, rtol=1e-5)
        assert (adapted - bare).abs().max() > 0.1
        results = recipe.run(progress=False)
        assert results["scores"]["preference_accuracy"] > 0.5
        assert Recipe.from_pretrained(recipe.run_directory.path).predict(self.plain) == recipe.predict(self.plain)

    @pytest.mark.parametrize("loss", ["dpo", "ipo", "orpo"])
    def test_every_loss_separates_the_pairs(self, tiny_model, tmp_path, loss):
        options = {"loss": loss, "beta": 0.5}
        training = {"max_steps": 25, "learning_rate": 1e-2}
        recipe = self.make(tiny_model, tmp_path / "run", options=options, training=training, evaluation={"every": 25})
        scores = recipe.run(progress=False)["scores"]
        assert scores["preference_accuracy"] == 1.0
        assert scores["reward_margin"] > 0.1

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_gains_on_the_reference_begin_at_nothing(self, tiny_model, tmp_path, precision):
        """The first loss is ln 2: the model to train is the reference still, in the same arithmetic."""
        recipe = self.make(
            tiny_model, tmp_path / "run", model=self.still(tiny_model), training={"precision": precision}
        )
        recipe.run(progress=False)
        first = next(entry["loss"] for entry in recipe.run_directory.history() if "loss" in entry)
        assert first == pytest.approx(math.log(2), abs=1e-5 if precision == "fp32" else 2e-3)

    def test_a_saved_model_needs_the_name_of_its_reference_to_be_evaluated(self, tiny_model, tmp_path):
        recipe = self.make(tiny_model, tmp_path / "run")
        scores = recipe.run(progress=False)["scores"]
        with pytest.raises(ModelError, match=r"options\.reference"):
            evaluate_source(Recipe.from_pretrained(tmp_path / "run"), ROWS, progress=False)
        named = self.make(tiny_model, tmp_path / "named", options={"reference": tiny_model})
        assert named.run(progress=False)["scores"] == scores
        saved = Recipe.from_pretrained(tmp_path / "named")
        assert evaluate_source(saved, ROWS, progress=False)["scores"] == pytest.approx(scores, rel=1e-5)
        assert {"chosen_reward", "rejected_reward"} <= saved.predict(self.plain)[0].keys()

    def test_whole_conversations_need_no_prompt(self, tiny_model, tmp_path):
        asked = [{"role": "user", "content": ROWS[0]["prompt"]}]
        whole = [{side: [*asked, {"role": "assistant", "content": ROWS[0][side]}] for side in ("chosen", "rejected")}]
        recipe = self.make(tiny_model, tmp_path / "run")
        recipe.run(progress=False)
        found, expected = recipe.predict(whole), recipe.predict(self.plain[:1])
        assert found[0]["prediction"] == pytest.approx(expected[0]["prediction"], abs=1e-5)


def test_no_reference_model_is_read_for_orpo(tiny_llama, tmp_path):
    recipe = PreferenceTuning(model=tiny_llama, train=ROWS, options={"loss": "orpo"}, dir=str(tmp_path / "run"))
    recipe.tokenize()
    assert "reference" not in recipe.tables["train"].columns


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_smoothing": 0.1}, r"options\.label_smoothing"),
        ({"options": {"loss": "ipo", "label_smoothing": 0.1}}, "only the loss `dpo`"),
        ({"options": {"loss": "kto"}}, r"options\.loss"),
    ],
)
def test_wrong_settings_are_named(tiny_llama, settings, message):
    with pytest.raises(ConfigError, match=message):
        PreferenceTuning(model=tiny_llama, train=ROWS, **settings)


def test_a_template_file_is_read_and_a_missing_one_is_named(tiny_llama, tmp_path):
    (tmp_path / "chat.jinja").write_text(STRIPPED)
    given = PreferenceTuning(model=tiny_llama, train=ROWS, options={"chat_template": str(tmp_path / "chat.jinja")})
    given.tokenize()
    assert given.encoder.tokenizer.chat_template == STRIPPED
    with pytest.raises(ConfigError, match="neither a file nor a Jinja template"):
        PreferenceTuning(model=tiny_llama, train=ROWS, options={"chat_template": "none.jinja"}).tokenize()
