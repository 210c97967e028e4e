"""A run exported to everything: the same predictions, any batch size and length, complete or not there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import call
from registry.runs import ROWS, finished_run

from nlp_pipeline import ConfigError, DataError, Recipe, TextClassification
from nlp_pipeline.errors import ExportError, ModelError
from nlp_pipeline.export import making, onnx_model
from nlp_pipeline.export.exporting import export
from nlp_pipeline.export.folder import EXPORT_FILE, facts_of
from nlp_pipeline.run_directory import file_hash

pytest.importorskip("onnxruntime")

TEXTS = ["the card 7 is late", "a card", "please help me with my card that was broken " * 4]
TARGETS = ["onnx", "onnx-int8", "exported-program", "merged"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_bert):
    return finished_run(tiny_bert, tmp_path_factory.mktemp("exported") / "run", learning_rate=1e-2)


@pytest.fixture(scope="module")
def made(run):
    return export(run, TARGETS, progress=False)


def test_every_form_is_checked_and_in_the_table(made, run):
    assert [v["name"] for v in made["variants"]] == ["PyTorch", "PyTorch, padded", *TARGETS]
    assert made["rows"] == "12 rows of the run's sample, without labels"  # its data was in memory
    for variant in made["variants"]:
        assert variant["megabytes"] > 0
        assert variant["rows_per_second"] > 0
    for variant in made["variants"][2:]:
        assert variant["differing"] == 0
        assert variant["compared"] == 12
        assert Path(variant["folder"]) == run / "export" / variant["name"]
    by_name = {variant["name"]: variant for variant in made["variants"]}
    assert by_name["onnx"]["largest"] < 1e-5
    assert 0 < by_name["onnx-int8"]["largest"] < 0.1
    assert by_name["onnx-int8"]["megabytes"] < by_name["onnx"]["megabytes"]


def test_an_export_says_what_it_is(made, run):
    for target in TARGETS:
        folder = run / "export" / target
        facts = facts_of(folder)
        assert facts["target"] == target
        assert facts["files"].keys() == {p.name for p in folder.iterdir()} - {EXPORT_FILE}
        for name, digest in facts["files"].items():
            assert file_hash(folder / name) == digest
        assert facts["checked"]["smallest_and_largest_batch"] == [[1, 12], [7, 128]]
        assert (folder / "tokenizer.json").is_file()
        assert json.loads((folder / "config.json").read_text())["id2label"] == {"0": "a", "1": "b"}
    facts = facts_of(run / "export" / "onnx")
    assert facts["opset"] == 20
    assert facts["inputs"]["input_ids"] == ["batch", "length"]
    assert facts["outputs"] == {"logits": ["batch", 2]}


@pytest.mark.parametrize("target", ["onnx", "onnx-int8", "merged"])
def test_an_export_predicts_and_is_scored_as_the_run(made, run, target):
    ours, theirs = Recipe.from_pretrained(run), Recipe.from_pretrained(run / "export" / target)
    assert type(theirs) is TextClassification
    expected, found = ours.predict(TEXTS, exact=True), theirs.predict(TEXTS)
    assert [record["prediction"] for record in found] == [record["prediction"] for record in expected]
    for one, other in zip(expected, found, strict=True):
        assert other["score"] == pytest.approx(one["score"], abs=1e-2 if target == "onnx-int8" else 1e-5)


def test_the_commands_take_an_exported_folder(made, run, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    folder = run / "export" / "onnx"
    assert call("predict", folder, rows, "-o", tmp_path / "found.jsonl") == 0
    capsys.readouterr()
    scores = []
    for model in (run, folder):
        assert call("evaluate", model, rows, "--json") == 0
        scores.append(json.loads(capsys.readouterr().out)["scores"])
    assert scores[1]["accuracy"] == scores[0]["accuracy"]
    assert scores[1]["loss"] == pytest.approx(scores[0]["loss"], abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (5, 3), (3, 128), (64, 17)])
def test_any_batch_size_and_length_gives_the_models_logits(made, run, shape):
    import torch
    from transformers import AutoModelForSequenceClassification

    theirs = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    ids = torch.from_numpy(np.random.default_rng(0).integers(5, 100, shape))
    mask = torch.ones_like(ids)
    mask[0, max(1, shape[1] // 2) :] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    ours = onnx_model.OnnxModel(run / "export" / "onnx", theirs.config)
    with torch.no_grad():
        assert torch.allclose(ours(**inputs).logits, theirs(**inputs).logits, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")  # transformers' exporters read what torch renamed
def test_transformers_own_loader_takes_the_folders(made, run):
    import torch
    from transformers import AutoTokenizer, pipeline
    from transformers.exporters import ExportedModel

    tokenizer = AutoTokenizer.from_pretrained(run / "export" / "onnx")
    inputs = tokenizer(TEXTS[:2], padding=True, return_tensors="pt", return_token_type_ids=False)
    classify = pipeline("text-classification", model=str(run / "export" / "merged"), top_k=None)
    expected = [{entry["label"]: entry["score"] for entry in entries} for entries in classify(TEXTS[:2])]
    for target in ("onnx", "exported-program"):
        model = ExportedModel.from_pretrained(run / "export" / target, device="cpu")
        with torch.no_grad():
            found = model(**inputs).logits.softmax(-1)
        for row, wanted in zip(found, expected, strict=True):
            names = model.config.id2label
            assert {names[i]: float(p) for i, p in enumerate(row)} == pytest.approx(wanted, abs=1e-5)


def test_nothing_of_this_machine_or_of_the_rows_is_in_the_files(made, run):
    for target in TARGETS:
        for file in (run / "export" / target).glob("model.*"):
            content = file.read_bytes()
            for word in (b"site-packages", str(Path.home()).encode(), b"modeling_bert.py", b"stack_trace"):
                assert word not in content, (file, word)
    import zipfile

    with zipfile.ZipFile(run / "export" / "exported-program" / "model.pt2") as archive:
        assert not [
            name for name in archive.namelist() if name.endswith(".pt") and archive.getinfo(name).file_size > 1200
        ]


class Tampered(onnx_model.OnnxModel):
    """A graph that isn't quite the model."""

    def answer(self, inputs):
        return {name: tensor + 3e-4 for name, tensor in super().answer(inputs).items()}


class Swapped(onnx_model.OnnxModel):
    """One that takes one label for the other, and isn't far off otherwise."""

    def answer(self, inputs):
        return {name: tensor.flip(-1) for name, tensor in super().answer(inputs).items()}


@pytest.mark.slow
def test_an_export_that_differs_is_refused_with_the_difference_and_not_there(run, made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx_model, "OnnxModel", Tampered)
    assert call("export", run, "--to", "onnx", "-o", tmp_path) == 5
    said = capsys.readouterr().err
    assert "differ from the PyTorch model's by 0.0003 (logits of a batch of" in said
    assert "expected at most 0.0001" in said
    assert list(tmp_path.iterdir()) == []
    assert call("export", run, "--to", "onnx", "-o", tmp_path, "--tolerance", "1e-3") == 0
    monkeypatch.setattr(onnx_model, "OnnxModel", Swapped)
    before = (tmp_path / "onnx" / EXPORT_FILE).read_bytes()
    with pytest.raises(ExportError, match=r"12 of 12 predictions differ"):
        export(run, ["onnx"], tmp_path, tolerance=100, progress=False)
    with pytest.raises(ExportError, match=r"(?s)7 bits in layers and embeddings: 12 of 12 .* 8 bits in layers: 12"):
        export(run, ["onnx-int8"], tmp_path, progress=False)
    assert (tmp_path / "onnx" / EXPORT_FILE).read_bytes() == before  # the older one is as it was
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]


def test_a_model_that_cannot_be_traced_is_one_message(run, made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.export.export", lambda *given, **named: 1 / 0)
    assert call("export", run, "--to", "exported-program", "-o", tmp_path) == 2
    said = capsys.readouterr().err
    assert "transformers' exporter can't export BertForSequenceClassification: ZeroDivisionError" in said
    assert "--to merged" in said
    assert list(tmp_path.iterdir()) == []


def test_a_crash_leaves_the_older_export(run, made, tmp_path, monkeypatch):
    folder = shutil.copytree(run / "export" / "merged", tmp_path / "merged")
    monkeypatch.setattr("nlp_pipeline.export.exporting.folders.write_facts", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(run, ["merged"], tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    assert facts_of(folder)["target"] == "merged"


def test_everything_wrong_is_said_before_a_model_loads(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nlp_pipeline.modeling.loading.load_model", lambda *given: pytest.fail("loaded"))
    words = ["--to", "onx", "--to", "gguf", "--to", "torchscript", "--tolerance", "-1", "--most-rows", "0"]
    assert call("export", run, *words) == 2
    said = capsys.readouterr().err
    for part in (
        "--to: found 'onx'; did you mean onnx?",
        "--to gguf: no maintained package on PyPI offers the conversion",
        "--to merged and give that folder to llama.cpp's own converter",
        "--to torchscript: torch has deprecated it",
        "--tolerance: found -1",
        "--most-rows: found 0",
    ):
        assert part in said
    assert call("export", tmp_path, "--to", "onnx") == 2
    assert "is neither a finished run nor its model folder" in capsys.readouterr().err
    (tmp_path / "out" / "merged").mkdir(parents=True)
    (tmp_path / "out" / "merged" / "mine.txt").write_text("kept")
    assert call("export", run, "--to", "merged", "-o", tmp_path / "out") == 2
    assert "is there and holds no export; it is left alone" in capsys.readouterr().err
    alone = shutil.copytree(run / "model", tmp_path / "alone")
    assert call("export", alone, "--to", "merged") == 2
    assert "say where the export goes: --output FOLDER" in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_extra(run, made, tmp_path, monkeypatch, capsys):
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None if name == "onnxruntime" else find_spec(name))
    for words in (["export", run, "--to", "onnx"], ["predict", run / "export" / "onnx", __file__]):
        assert call(*words) == 2
        assert "`onnxruntime`: pip install 'nlp-pipeline[export]'" in capsys.readouterr().err


def test_a_program_is_not_for_predict_and_an_export_not_for_export(made, run, tmp_path):
    with pytest.raises(ModelError, match=r"an export to exported-program .*expected an export to onnx"):
        Recipe.from_pretrained(run / "export" / "exported-program").predict(TEXTS)
    with pytest.raises(ConfigError, match="is an export itself, to onnx; name the run"):
        export(run / "export" / "onnx", ["merged"], tmp_path, progress=False)


def test_a_damaged_graph_is_said_to_be_one(made, run, tmp_path):
    folder = shutil.copytree(run / "export" / "onnx", tmp_path / "onnx")
    (folder / "model.onnx").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match=r"model\.onnx can't be loaded"):
        Recipe.from_pretrained(folder).predict(TEXTS)


def test_rows_of_ones_own_are_scored_and_a_model_folder_needs_them(run, made, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    found = export(run, ["merged"], tmp_path, rows=str(rows), most_rows=10, progress=False)
    assert found["rows"] == f"10 rows of {rows}"
    assert found["variants"][0]["score"] == found["variants"][-1]["score"] is not None
    with pytest.raises(DataError, match="--rows") as error:
        export(shutil.copytree(run / "model", tmp_path / "alone"), ["merged"], tmp_path / "out", progress=False)
    assert "give a data file" in str(error.value)


def test_the_makers_are_those_of_the_targets():
    from nlp_pipeline.export.targets import TARGETS as known

    assert set(TARGETS) == set(known)
    assert making.make.__doc__
