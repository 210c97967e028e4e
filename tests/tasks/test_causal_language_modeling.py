"""Causal language modelling fulfils the contract; documents stay apart, and nothing of them is lost."""

import math

import numpy as np
import pytest
from contract import RecipeContract

from nlp_pipeline import CausalLanguageModeling, ModelError
from nlp_pipeline.evaluation.metrics import Outputs, compute_metrics
from nlp_pipeline.tokenizer_training import train_tokenizer

TEXTS = [f"the card {i % 5} is late{', and the money is gone' * (i % 4)}." for i in range(14)]
LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 128,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, "bpe", 290).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tiny_llama(tokenizer, tmp_path_factory):
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    settings = {name: value for name, value in LLAMA.items() if name != "model_type"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=len(loaded), bos_token_id=2, eos_token_id=3, pad_token_id=0, **settings)
        LlamaForCausalLM(config).save_pretrained(folder)
    loaded.save_pretrained(folder)
    return str(folder)


class TestCausalLanguageModeling(RecipeContract):
    recipe = CausalLanguageModeling
    settings = {"tokenization": {"max_length": 16}}
    dropout = ("attention_dropout",)
    rows = [{"id": f"r{i}", "text": text} for i, text in enumerate(TEXTS)]
    plain = TEXTS[:4]
    wrong = [({"text": " "}, "empty")]

    @pytest.fixture(scope="class")
    @classmethod
    def tiny_model(cls, tiny_llama):
        return tiny_llama

    def alone(self, folder):
        """Perplexities, a document in pieces that know nothing of each other."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
        found = []
        for text in self.plain:
            ids = [tokenizer.bos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]
            losses = []
            for start in range(0, len(ids) - 1, 16):
                read = torch.tensor([ids[start : start + 17]])
                with torch.no_grad():
                    logits = model(input_ids=read[:, :-1]).logits
                losses += torch.nn.functional.cross_entropy(logits[0], read[0, 1:], reduction="none").tolist()
            assert len(losses) == len(ids) - 1
            found.append(math.exp(np.mean(losses)))
        return found

    def test_every_token_is_predicted_once_over_the_pieces_of_a_document(self, tiny_model, tmp_path):
        recipe = self.make(tiny_model, tmp_path / "run")
        recipe.tokenize()
        table, tokenizer = recipe.tables["train"], recipe.encoder.tokenizer
        assert len(table) > len(TEXTS)
        for row, text in enumerate(TEXTS):
            examples = table.examples_of(np.array([row]))
            read, follow = (
                np.concatenate(table.sequences(name, examples)).tolist() for name in ("input_ids", "labels")
            )
            assert [*read, follow[-1]] == [2, *tokenizer(text)["input_ids"], 3]
            assert follow[:-1] == read[1:]

    def test_scores_are_of_all_tokens_and_bytes(self, tiny_model, tmp_path):
        recipe = self.make(tiny_model, tmp_path / "run", batch={"window": 5})
        scores = recipe.run(progress=False)["scores"]
        assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]), rel=1e-4)
        records = recipe.predict(TEXTS)
        nats = sum(math.log(record["prediction"]) * record["tokens"] for record in records)
        assert scores["bits_per_byte"] == pytest.approx(nats / math.log(2) / sum(map(len, TEXTS)), rel=1e-4)

    def test_a_new_architecture_trains_from_scratch(self, tokenizer, tmp_path):
        model = {"name": tokenizer, "architecture": LLAMA}
        recipe = self.recipe(
            model=model, train=self.rows, max_steps=30, learning_rate=1e-2, precision="fp32", dir=str(tmp_path / "run"),
            batch={"tokens": 200}, tokenization={"max_length": 16},
        )  # fmt: skip
        scores = recipe.run(progress=False)["scores"]
        assert scores["perplexity"] < 60  # of 290 tokens
        from transformers import AutoModelForCausalLM

        alone = AutoModelForCausalLM.from_pretrained(recipe.run_directory.model)
        assert alone.config.vocab_size == len(recipe.encoder.tokenizer)
        assert alone.config.eos_token_id == 3
        again = self.recipe.from_pretrained(tmp_path / "run")
        assert again.predict(self.plain) == recipe.predict(self.plain)

    @pytest.mark.parametrize(
        ("architecture", "message"),
        [
            ({"hidden_size": 8}, "`model_type` among them"),
            ({"model_type": "lama"}, "transformers has no 'lama'"),
            ({"model_type": "llama", "hiden_size": 8}, "'hiden_size' is no setting"),
            ("none.json", "expected a config.json"),
        ],
    )
    def test_a_wrong_architecture_is_named(self, tokenizer, architecture, message):
        recipe = self.recipe(model={"name": tokenizer, "architecture": architecture}, train=self.rows)
        with pytest.raises(ModelError, match=message):
            recipe.tokenize()


def test_plain_text_files_hold_texts_between_blank_lines(tiny_llama, tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n  \nthree\r\n\n", newline="")
    recipe = CausalLanguageModeling(model=tiny_llama, train=str(tmp_path / "a.txt"))
    recipe.load()
    assert recipe.splits.train["text"][:] == ["one\ntwo", "three"]


def test_perplexity_and_bits_per_byte():
    outputs = Outputs("likelihood", np.array([math.log(8.0), math.log(2.0)]), np.array([[3.0, 8.0], [1.0, 0.0]]))
    scores = compute_metrics(["perplexity", "bits_per_byte"], outputs)
    assert scores == {"perplexity": pytest.approx(2.0), "bits_per_byte": pytest.approx(0.5)}
