"""Heads are kept by name, byte-level tokenizers get their spaces, models without a padding id get one."""

import pytest
import torch
import transformers

from nlp_pipeline import TextClassification, TokenClassification
from nlp_pipeline.config.schema import ModelConfig
from nlp_pipeline.data.labels import Labels
from nlp_pipeline.modeling.loading import load_model, load_tokenizer


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    """Folders of a tiny RoBERTa and a tiny GPT-2 with a byte-level tokenizer of few merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    rust = Tokenizer(models.BPE())
    rust.pre_tokenizer, rust.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], initial_alphabet=alphabet
    )
    rust.train_from_iterator(["the card is late and the card is gone"] * 4, trainer)
    import json

    model = json.loads(rust.to_str())["model"]
    vocabulary, merges = model["vocab"], [tuple(merge) for merge in model["merges"]]
    sizes = {"vocab_size": len(vocabulary), "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    roberta = transformers.RobertaConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
        **sizes,
    )
    gpt2 = transformers.GPT2Config(
        n_embd=32, n_layer=1, n_head=2, n_positions=64, **{**sizes, "pad_token_id": None, "bos_token_id": 2}
    )
    folders = {}
    for name, tokenizer, config in (
        ("roberta", transformers.RobertaTokenizer(vocab=vocabulary, merges=merges), roberta),
        ("gpt2", transformers.GPT2Tokenizer(vocab=vocabulary, merges=merges, eos_token="</s>", bos_token="</s>"), gpt2),
    ):
        folders[name] = str(tmp_path_factory.mktemp("byte-level") / name)
        tokenizer.save_pretrained(folders[name])
        transformers.AutoModel.from_config(config).save_pretrained(folders[name])
    return folders


@pytest.mark.parametrize("name", ["roberta", "gpt2"])
def test_words_are_tokenized_as_in_running_text(byte_level, name, tmp_path):
    rows = [{"tokens": ["the", "card", "is", "late"], "tags": ["O", "B-x", "O", "O"]}] * 8
    recipe = TokenClassification(
        model=byte_level[name], train=rows, max_steps=1, precision="fp32", max_length=32, dir=str(tmp_path / "run")
    )
    recipe.tokenize()
    encoded = recipe.encoder([["the", "card"]], words=True)
    assert recipe.encoder.tokenizer.convert_ids_to_tokens([i for i in encoded.ids if i > 4]) == ["Ġthe", "Ġcard"]
    recipe.run(progress=False)
    assert load_tokenizer(ModelConfig(name=str(recipe.run_directory.model))).add_prefix_space


def test_a_model_without_a_padding_id_trains_and_predicts_in_batches(byte_level, tmp_path):
    rows = [{"text": "the card " * (1 + i % 3), "label": "ab"[i % 2]} for i in range(8)]
    recipe = TextClassification(
        model=byte_level["gpt2"], train=rows, test=rows, max_steps=2, precision="fp32", max_length=32,
        dir=str(tmp_path / "run"),
    )  # fmt: skip
    recipe.run(progress=False)
    together, alone = recipe.predict(["the card", "late late late"]), recipe.predict(["the card"])
    assert together[0]["score"] == pytest.approx(alone[0]["score"], abs=1e-5)
    classify = transformers.pipeline("text-classification", model=str(recipe.run_directory.model), device="cpu")
    assert classify("the card")[0]["score"] == pytest.approx(alone[0]["score"], abs=1e-5)


def saved(folder, tiny_bert, names):
    settings = Labels(names).model_settings() if names else {"num_labels": 2}
    config = transformers.AutoConfig.from_pretrained(tiny_bert, **settings)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_bert, config=config)
    model.classifier.bias.data.fill_(7.0)
    model.save_pretrained(folder)
    return ModelConfig(name=str(folder))


@pytest.mark.parametrize(
    ("checkpoint", "wanted", "kept"),
    [
        (("a", "b"), ("a", "b"), True),
        (("a", "b"), ("c", "d"), False),
        (None, ("c", "d"), False),  # nameless: nobody knows what its outputs mean
        (None, ("LABEL_0", "LABEL_1"), True),
    ],
)
def test_a_head_is_kept_by_the_names_of_its_labels(tiny_bert, tmp_path, checkpoint, wanted, kept):
    source = saved(tmp_path, tiny_bert, checkpoint)
    model = load_model(source, "AutoModelForSequenceClassification", Labels(wanted).model_settings())
    assert torch.equal(model.classifier.bias, torch.full((2,), 7.0)) == kept


def test_labels_that_look_like_placeholders_survive(tiny_bert, tmp_path):
    rows = [{"text": f"the card {i}", "label": f"LABEL_{i % 2}"} for i in range(8)]
    recipe = TextClassification(model=tiny_bert, train=rows, max_steps=1, precision="fp32", dir=str(tmp_path / "run"))
    recipe.run(progress=False)
    again = TextClassification.from_pretrained(tmp_path / "run")
    assert again.predict(["the card"]) == recipe.predict(["the card"])
