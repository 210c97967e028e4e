"""Adapters folded in: compared with the pretrained model under its adapters, before they were."""

import json
import shutil

import pytest
from registry.runs import finished_run
from safetensors.numpy import load_file, save_file

from nlp_pipeline import Recipe
from nlp_pipeline.errors import ExportError
from nlp_pipeline.export.exporting import export
from nlp_pipeline.export.folder import facts_of

TEXTS = ["the card 7 is late", "a card"]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, tiny_bert):
    pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("adapted") / "run"
    return finished_run(tiny_bert, folder, lora={"r": 4}, learning_rate=1e-2)


@pytest.fixture
def run(adapted, tmp_path):
    """A copy of the run that a test may damage."""
    return shutil.copytree(adapted, tmp_path / "run")


def test_adapters_are_folded_in(run):
    variant = export(run, ["merged"], progress=False)["variants"][-1]
    assert variant["note"] == "compared with the pretrained model under its adapters"
    assert 0 < variant["largest"] < 1e-5
    assert variant["differing"] == 0
    folder = run / "export" / "merged"
    assert facts_of(folder)["beside"] == "the pretrained model under its adapters"
    names = load_file(folder / "model.safetensors").keys()
    assert not [name for name in names if "lora" in name or name.startswith("base_model.")]
    found = Recipe.from_pretrained(folder).predict(TEXTS)
    assert found == Recipe.from_pretrained(run).predict(TEXTS)


def test_weights_that_are_not_the_adapters_are_refused(run):
    file = run / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: value + 1.0 if "lora_B" in name else value for name, value in weights.items()}, file)
    with pytest.raises(ExportError, match=r"merged: its outputs differ from the PyTorch model's by"):
        export(run, ["merged"], progress=False)
    assert list((run / "export").iterdir()) == []


def test_without_the_pretrained_model_the_saved_one_is_the_measure(run, tmp_path, capsys):
    text = (run / "recipe.yaml").read_text()
    name = json.loads((run / "model" / "nlp_pipeline.json").read_text())["config"]["model"]["name"]
    (run / "recipe.yaml").write_text(text.replace(name, str(tmp_path / "gone")))
    variant = export(run, ["merged"], progress=False)["variants"][-1]
    assert "compared with the saved model: the model under the adapters isn't there any more" in variant["note"]
    assert variant["largest"] == 0
