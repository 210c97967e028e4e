"""Encoder-decoders fulfil the contract; right texts of one source are together, and words are copied."""

import json

import numpy as np
import pyarrow as pa
import pytest
from contract import RecipeContract
from translation_models import alone

from nlp_pipeline import ConfigError, DataError, Recipe, Summarization, TextToText, Translation
from nlp_pipeline.data.targets import Copied, joined_by_source
from nlp_pipeline.tokenizer_training import train_tokenizer

PLACES = "river city park station harbour".split()
ROWS = [
    {"id": f"r{i}", "source": f"area {PLACES[i % 5]}, card {i % 3}", "target": f"it is by the {PLACES[i % 5]}"}
    for i in range(15)
]
SHORT = {"generation": {"max_new_tokens": 12}, "options": {"max_target_length": 16}}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.1}


def write_tiny(folder, kind="t5", rows=ROWS):
    """The folder of a random encoder-decoder and a tokenizer of the rows."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, BartConfig, T5Config

    tokenizer = train_tokenizer(
        [text for row in rows for text in (row["source"], row["target"])], "bpe", 320, marks="end"
    )
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "t5":
            config = T5Config(vocab_size=len(tokenizer), decoder_start_token_id=tokenizer.pad_token_id, **ids, **T5)
        else:
            layers = {f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in
                      (("layers", 1), ("attention_heads", 2), ("ffn_dim", 64))}  # fmt: skip
            config = BartConfig(
                vocab_size=len(tokenizer), d_model=32, max_position_embeddings=64, **layers, **ids,
                decoder_start_token_id=tokenizer.eos_token_id, forced_eos_token_id=None,
            )  # fmt: skip
        AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tiny_t5(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("models") / "t5")


@pytest.fixture(scope="module")
def tiny_bart(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("models") / "bart", "bart")


class TestTextToText(RecipeContract):
    recipe = TextToText
    settings = SHORT
    dropout = ("dropout_rate",)
    packs = False
    rows = ROWS
    plain = [row["source"] for row in ROWS[:4]]
    wrong = [
        ({"source": " ", "target": "b"}, "empty"),
        ({"source": "a", "target": ""}, "empty"),
    ]

    @pytest.fixture(scope="class")
    @classmethod
    def tiny_model(cls, tiny_t5):
        return tiny_t5

    def alone(self, folder):
        return alone(folder, self.plain)

    def test_texts_are_learned_and_shown(self, tiny_model, tmp_path):
        training = {"max_steps": 120, "learning_rate": 1e-2}
        recipe = self.make(tiny_model, tmp_path / "run", training=training, evaluation={"every": 60})
        results = recipe.run(progress=False)
        assert results["scores"]["bleu"] > 60
        assert results["intervals"]["bleu"][0] <= results["scores"]["bleu"] <= results["intervals"]["bleu"][1]
        first = json.loads((recipe.run_directory.predictions / "test.jsonl").read_text().splitlines()[0])
        assert first["prediction"].startswith("it is by the")
        logged = [entry["samples"] for entry in recipe.run_directory.history() if "samples" in entry]
        assert [sample["row_id"] for sample in logged[0]] == ["r0", "r1", "r2"]
        assert logged[0][0]["right"] == ROWS[0]["target"]
        assert logged[0][0]["asked"] == ROWS[0]["source"]


class TestSummarizationByBart(TestTextToText):
    recipe = Summarization
    settings = {**SHORT, "data": {"columns": {"source": "source", "target": "target"}}}
    settings |= {"generation": {"max_new_tokens": 12, "num_beams": 3}}
    dropout = ("dropout", "attention_dropout")

    @pytest.fixture(scope="class")
    @classmethod
    def tiny_model(cls, tiny_bart):
        return tiny_bart

    def test_texts_are_learned_and_shown(self, tiny_model, tmp_path):
        training = {"max_steps": 60, "learning_rate": 1e-2, "label_smoothing": 0.1}
        recipe = self.make(tiny_model, tmp_path / "run", training=training, evaluation={"every": 60})
        scores = recipe.run(progress=False)["scores"]
        assert scores["rougeL"] > 0.6


def test_right_texts_of_one_source_are_together_in_flat_files_and_in_lists(tiny_t5, tmp_path):
    flat = [
        {"source": "area park", "target": "in the park"},
        {"source": "area city", "target": "in the city"},
        {"source": "area park", "target": "it is a park"},
        {"source": "area park", "target": "in the park"},
    ] * 3  # fmt: skip
    lists = [
        {"source": "area park", "target": ["in the park", "it is a park"]},
        {"source": "area city", "target": ["in the city"]},
    ]
    options = {"options": {"max_target_length": 16}, "max_new_tokens": 8, "max_steps": 2, "precision": "fp32"}
    found = []
    for name, rows in (("flat", flat), ("lists", lists)):
        recipe = TextToText(model=tiny_t5, train=rows, test=rows, dir=str(tmp_path / name), **options)
        results = recipe.run(progress=False)
        assert results["rows"] == 2
        assert len(recipe.tables["train"]) == 3  # an example a right text
        found.append(results["scores"]["loss"])
        from nlp_pipeline.stages.scoring import evaluate_source

        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        again = evaluate_source(Recipe.from_pretrained(tmp_path / name), str(data), progress=False)
        assert again["scores"] == pytest.approx(results["scores"], rel=1e-4)
    assert found[0] == found[1]


def test_rows_are_gathered_before_a_split_is_carved(tiny_t5, tmp_path):
    rows = [{"source": f"area {PLACES[i % 5]}", "target": f"text {i}"} for i in range(40)]
    recipe = TextToText(model=tiny_t5, train=rows, test_fraction=0.4, dir=str(tmp_path / "run"))
    splits = recipe.load()
    assert (len(splits.train), len(splits.test)) == (3, 2)
    assert not set(splits.train["source"]) & set(splits.test["source"])
    assert any("40 rows make 5 rows" in note for note in splits.notes)


def test_joined_by_source_keeps_the_first_row_of_each_and_counts_equal_texts_once():
    table = pa.table({"source": ["b", "a", "b"], "target": [["1"], ["2"], ["3", "1"]], "row_id": ["x", "y", "z"]})
    joined = joined_by_source(table, "source", "target").to_pylist()
    assert joined == [
        {"source": "b", "target": ["1", "3"], "row_id": "x"},
        {"source": "a", "target": ["2"], "row_id": "y"},
    ]


def test_copied_words_are_marked_and_filled():
    copied = Copied(r"(?:name|near)\[([^\]]*)\]")
    source = "name[Blue Spice], near[Blue], food[Thai]"
    assert copied.marked(source) == "name[@0@], near[@1@], food[Thai]"
    target = copied.marked_target(source, "Blue Spice is near Blue; Bluetooth, Thai.")
    assert target == "@0@ is near @1@; Bluetooth, Thai."
    assert copied.filled(source, target) == "Blue Spice is near Blue; Bluetooth, Thai."
    assert copied.filled(source, "a @7@ b") == "a  b"
    assert Copied(None).marked(source) == source
    many = ", ".join(f"name[n{i}]" for i in range(12))
    assert Copied(r"n\d+").filled(many, "@11@ @1@") == "n11 n1"


@pytest.mark.slow
def test_words_that_training_never_showed_are_copied(tmp_path):
    names = "Anna Berta Cilia Dora".split()
    rows = [{"source": f"name[{names[i % 4]}] in {PLACES[i % 5]}", "target": f"{names[i % 4]} is in {PLACES[i % 5]}"}
            for i in range(20)]  # fmt: skip
    recipe = TextToText(
        model=write_tiny(tmp_path / "model", rows=rows), train=rows, dir=str(tmp_path / "run"), max_steps=150,
        learning_rate=1e-2, precision="fp32", max_new_tokens=16, options={"copy_pattern": r"name\[([^\]]*)\]"},
    )  # fmt: skip
    recipe.run(progress=False)
    assert recipe.predict(["name[Zoltan] in park"])[0]["prediction"] == "Zoltan is in park"


def test_sampling_draws_the_same_for_the_same_seed(tiny_t5, tmp_path):
    settings = {"do_sample": True, "temperature": 2.0, "max_new_tokens": 12}
    recipe = TextToText(model=tiny_t5, train=ROWS, dir=str(tmp_path / "run"), max_steps=1, generation=settings)
    recipe.run(progress=False)
    texts = [[r["prediction"] for r in recipe.predict([row["source"] for row in ROWS])] for _ in range(2)]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 3


def test_languages_are_told_by_the_marks_of_the_tokenizer(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    pieces = Tokenizer(models.BPE(unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False)
    pieces.train_from_iterator([f"{row['source']} {row['target']}" for row in ROWS], trainer)
    made = json.loads(pieces.to_str())["model"]
    merges = [tuple(pair) for pair in made["merges"]]
    tokenizer = NllbTokenizer(vocab=made["vocab"], merges=merges, additional_special_tokens=["eng_Latn", "deu_Latn"])
    config = M2M100Config(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    M2M100ForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    options = {"source_language": "eng_Latn", "target_language": "deu_Latn", "max_target_length": 16}
    recipe = Translation(
        model=str(tmp_path / "model"), train=ROWS, test=ROWS, dir=str(tmp_path / "run"), max_steps=60,
        learning_rate=1e-2, precision="fp32", max_new_tokens=12, options=options,
    )  # fmt: skip
    recipe.run(progress=False)
    table, code = recipe.tables["train"], recipe.encoder.tokenizer.convert_tokens_to_ids
    assert table.sequences("input_ids", np.arange(1))[0][0] == code("eng_Latn")
    assert table.sequences("labels", np.arange(1))[0][0] == code("deu_Latn")
    assert table.sequences("labels", np.arange(1))[0][-1] == recipe.encoder.tokenizer.eos_token_id
    predicted = [record["prediction"] for record in recipe.predict([row["source"] for row in ROWS[:3]])]
    assert predicted == [r["prediction"] for r in Recipe.from_pretrained(tmp_path / "run").predict(ROWS[:3])]

    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = recipe.run_directory.model
    theirs, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
    made = model.generate(**theirs(ROWS[0]["source"], return_tensors="pt"))
    assert theirs.decode(made[0], skip_special_tokens=True) == predicted[0]

    with pytest.raises(ConfigError, match="needs both"):
        Translation(model=str(tmp_path / "model"), train=ROWS, dir=str(tmp_path / "other")).tokenize()
    with pytest.raises(ConfigError, match="no language 'xx'"):
        Translation(
            model=str(tmp_path / "model"), train=ROWS, dir=str(tmp_path / "other"),
            options={**options, "target_language": "xx"},
        ).tokenize()  # fmt: skip


def test_no_text_is_longer_than_the_decoder_has_positions(tiny_bart, tmp_path):
    """By a model that never ends one."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(tiny_bart), AutoTokenizer.from_pretrained(tiny_bart)
    model.final_logits_bias[0, [tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id]] = -1e9
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "endless")
    recipe = TextToText(
        model=str(tmp_path / "endless"), train=ROWS, options={"max_target_length": 16}, max_steps=1, max_new_tokens=100,
        dir=str(tmp_path / "run"),
    )  # fmt: skip
    recipe.fit()
    found = recipe.predict(ROWS[:2])
    assert all(record["prediction"] for record in found)


def test_what_cannot_be_meant_is_refused(tiny_t5, tiny_bart, tmp_path):
    longer = {"options": {"max_target_length": 65}, "tokenization": {"max_length": 66}}
    with pytest.raises(ConfigError, match=r"expected at most 64") as error:
        TextToText(model=tiny_bart, train=ROWS, dir=str(tmp_path / "run"), **longer).tokenize()
    assert [problem.partition(":")[0] for problem in error.value.problems] == [
        "tokenization.max_length", "options.max_target_length",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="no regular expression"):
        TextToText(model=tiny_t5, train=ROWS, options={"copy_pattern": "("})
    with pytest.raises(ConfigError, match="source_language: found without target_language"):
        Translation(model=tiny_t5, train=ROWS, options={"source_language": "en"})
    both = {"source_language": "en", "target_language": "de"}
    with pytest.raises(ConfigError, match="no codes of languages"):
        Translation(model=tiny_t5, train=ROWS, options=both, dir=str(tmp_path)).tokenize()
    with pytest.raises(DataError, match="target"):
        TextToText(model=tiny_t5, train=[{"source": "a"}] * 3, dir=str(tmp_path)).load()
    from nlp_pipeline import TextClassification

    with pytest.raises(ConfigError, match="predicts no generated texts"):
        TextClassification(model=tiny_t5, train=[{"text": "a", "label": "b"}], max_new_tokens=3)
