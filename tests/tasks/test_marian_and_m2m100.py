"""Marian and M2M100, whose tokenizers only run in Python, fulfil the contract and are told their languages."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from contract import RecipeContract
from multi_process.launching import TRAIN, launch
from translation_models import ROWS, alone, m2m100_tokenizer, marian_tokenizer, write_model

from nlp_pipeline import ConfigError, Summarization, TextToText, Translation

# Of MarianTokenizer where the tests call it themselves; it never calls what it recommends.
pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
COLUMNS = {"source": "source", "target": "target"}
BOTH_WAYS = {"source_language": "en", "target_language": "de"}


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    """Of two languages, each with a vocabulary and embeddings of its own."""
    folder = tmp_path_factory.mktemp("marian")
    return write_model(folder / "model", marian_tokenizer(folder / "tokenizer", separate=True), "marian")


@pytest.fixture(scope="module")
def opus(tmp_path_factory):
    """From English into several languages, one vocabulary for all."""
    folder = tmp_path_factory.mktemp("opus")
    return write_model(folder / "model", marian_tokenizer(folder / "tokenizer", ("deu", "nld")), "marian")


@pytest.fixture(scope="module")
def m2m100(tmp_path_factory):
    folder = tmp_path_factory.mktemp("m2m100")
    return write_model(folder / "model", m2m100_tokenizer(folder / "tokenizer"), "m2m100")


class TestTranslationByMarian(RecipeContract):
    recipe = Translation
    settings = {"generation": {"max_new_tokens": 24}, "options": {"max_target_length": 32}}
    settings |= {"data": {"columns": COLUMNS}}
    dropout = ("dropout",)
    packs = False
    rows = ROWS
    plain = [row["source"] for row in ROWS[:4]]
    wrong = [
        ({"source": " ", "target": "b"}, "empty"),
        ({"source": "a", "target": ""}, "empty"),
    ]

    @pytest.fixture(scope="class")
    @classmethod
    def tiny_model(cls, marian):
        return marian

    def alone(self, folder):
        return alone(folder, self.plain)

    def test_the_loss_is_that_of_a_plain_call(self, finished):
        import torch
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        folder = finished.run_directory.model
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
        total = tokens = 0.0
        for row in ROWS:
            given = tokenizer(row["source"], text_target=row["target"], return_tensors="pt", truncation=True)
            with torch.no_grad():
                total += float(model(**given).loss) * given["labels"].numel()
            tokens += given["labels"].numel()
        found = json.loads(finished.run_directory.results.read_text())["scores"]["loss"]
        assert found == pytest.approx(total / tokens, rel=1e-5)


class TestTranslationByM2M100(TestTranslationByMarian):
    settings = {**TestTranslationByMarian.settings, "options": {"max_target_length": 32, **BOTH_WAYS}}
    dropout = ("dropout", "attention_dropout", "encoder_layerdrop", "decoder_layerdrop")

    @pytest.fixture(scope="class")
    @classmethod
    def tiny_model(cls, m2m100):
        return m2m100


@pytest.mark.multi_process
def test_no_layer_is_left_out_by_several_processes(m2m100, tmp_path):
    rows, recipe = tmp_path / "rows.jsonl", tmp_path / "recipe.yaml"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    settings = {"encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5}
    content = {"task": "translation", "model": {"name": m2m100, "settings": settings}, "options": BOTH_WAYS}
    content |= {"data": {"train": str(rows), "columns": COLUMNS}, "training": {"max_steps": 6}, "batch": {"size": 4}}
    recipe.write_text(yaml.safe_dump(content))
    answer = launch(TRAIN, 2, recipe, f"output.dir={tmp_path / 'run'}")
    assert answer.returncode == 0, answer.stderr
    assert "layerdrop: off" in answer.stdout
    saved = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert saved["encoder_layerdrop"] == 0.5


def make(task, model, folder, options, steps=1, **settings):
    return task(
        model=model, train=ROWS, test=ROWS, dir=str(folder), columns=COLUMNS,
        max_steps=steps, learning_rate=1e-2, precision="fp32", max_new_tokens=32,
        options={"max_target_length": 32, **options}, **settings,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["marian", "opus", "m2m100"])
def test_translations_are_learned(name, request, tmp_path):
    options = {"marian": {}, "opus": {"target_language": "deu"}, "m2m100": BOTH_WAYS}[name]
    still = dict.fromkeys(TestTranslationByM2M100.dropout, 0.0)
    model = {"name": request.getfixturevalue(name), "settings": still}
    recipe = make(Translation, model, tmp_path, options, steps=200)
    assert recipe.run(progress=False)["scores"]["bleu"] > 70


def test_m2m100_is_told_both_languages(m2m100, tmp_path):
    recipe = make(Translation, m2m100, tmp_path / "run", BOTH_WAYS)
    recipe.run(progress=False)
    table, tokenizer = recipe.tables["train"], recipe.encoder.tokenizer
    assert table.sequences("input_ids", np.arange(1))[0][0] == tokenizer.get_lang_id("en")
    labels = table.sequences("labels", np.arange(1))[0]
    assert (labels[0], labels[-1]) == (tokenizer.get_lang_id("de"), tokenizer.eos_token_id)
    generation = json.loads((recipe.run_directory.model / "generation_config.json").read_text())
    assert generation["forced_bos_token_id"] == tokenizer.get_lang_id("de")


def test_an_opus_model_reads_the_language_before_each_source(opus, tmp_path):
    recipe = make(Translation, opus, tmp_path / "run", {"target_language": "nld"})
    recipe.run(progress=False)
    tokenizer = recipe.encoder.tokenizer
    mark = tokenizer.convert_tokens_to_ids(">>nld<<")
    assert mark != tokenizer.unk_token_id
    ids = recipe.tables["train"].sequences("input_ids", np.arange(len(ROWS)))
    assert [row[0] for row in ids] == [mark] * len(ROWS)
    assert all(mark not in row for row in recipe.tables["train"].sequences("labels", np.arange(len(ROWS))))
    sources = [row["source"] for row in ROWS[:3]]
    ours = [record["prediction"] for record in recipe.predict(sources)]
    assert ours == alone(recipe.run_directory.model, [f">>nld<< {text}" for text in sources])
    assert "'>>nld<< ' + " in (recipe.run_directory.model / "README.md").read_text()


def test_sources_that_bring_their_own_marks_are_left_as_they_are(opus, tmp_path):
    rows = [{**row, "source": f">>{('deu', 'nld')[i % 2]}<< {row['source']}"} for i, row in enumerate(ROWS)]
    recipe, said = Translation(model=opus, train=rows, dir=str(tmp_path), columns=COLUMNS), []
    recipe.reporter.say = said.append
    recipe.tokenize()
    assert any("translates into several (deu, nld)" in line for line in said)
    firsts = {row[0] for row in recipe.tables["train"].sequences("input_ids", np.arange(len(ROWS)))}
    assert firsts == {recipe.encoder.tokenizer.convert_tokens_to_ids(f">>{code}<<") for code in ("deu", "nld")}


@pytest.mark.parametrize("task", [Summarization, TextToText])
def test_other_tasks_may_name_languages_or_not(task, m2m100, tmp_path):
    told = make(task, m2m100, tmp_path, {"source_language": "de", "target_language": "de"})
    told.tokenize()
    untold = make(task, m2m100, tmp_path, {})
    untold.tokenize()
    for recipe, code in ((told, "de"), (untold, "en")):
        for name in ("input_ids", "labels"):
            first = recipe.tables["train"].sequences(name, np.arange(1))[0][0]
            assert first == recipe.encoder.tokenizer.get_lang_id(code), (code, name)


@pytest.mark.parametrize(
    ("name", "options", "pattern"),
    [
        ("marian", {"target_language": "deu"}, "no codes of languages; leave them out"),
        ("opus", {"target_language": "xxx"}, "no language 'xxx'; it has deu, nld"),
        ("opus", {"target_language": "ned"}, "no language 'ned'; did you mean nld?"),
        ("opus", {"source_language": "eng", "target_language": "deu"}, "source_language: found 'eng'.*leave it out"),
        ("m2m100", {}, "needs both"),
        ("m2m100", {"target_language": "de"}, "needs both"),
        ("m2m100", {"source_language": "en", "target_language": "deu"}, "no language 'deu'; did you mean de?"),
    ],
)
def test_languages_that_cannot_be_meant(name, options, pattern, request, tmp_path):
    with pytest.raises(ConfigError, match=pattern):
        make(Translation, request.getfixturevalue(name), tmp_path, options).tokenize()


def test_texts_in_an_unknown_script_are_found_by_the_audit(m2m100, tmp_path):
    rows = [*ROWS, {"id": "odd", "source": "我的包裹在哪里请告诉我", "target": "wo"}]
    recipe = Translation(model=m2m100, train=rows, dir=str(tmp_path), columns=COLUMNS, options=BOTH_WAYS)
    (found,) = [f for f in recipe.audit().findings if f.check == "unknown_characters"]
    assert (found.severity, found.rows) == ("warning", ("odd",))


@pytest.mark.slow
def test_a_missing_sentencepiece_is_told_before_a_model_is_loaded(opus, tmp_path):
    rows, recipe = tmp_path / "rows.jsonl", tmp_path / "recipe.yaml"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    recipe.write_text(
        f"task: translation\nmodel: {opus}\noptions: {{target_language: deu}}\noutput: {{dir: {tmp_path / 'run'}}}\n"
        f"data: {{train: {rows}, columns: {{source: source, target: target}}}}\n"
    )
    code = "import sys; sys.modules['sentencepiece'] = None; from nlp_pipeline.cli import main; main()"
    answer = subprocess.run(
        [sys.executable, "-c", code, "train", str(recipe)], capture_output=True, text=True, env=dict(os.environ)
    )
    assert answer.returncode == 2, answer.stderr
    assert "needs the package `sentencepiece`: pip install 'nlp-pipeline[translation]'" in answer.stderr
    assert "Traceback" not in answer.stderr
