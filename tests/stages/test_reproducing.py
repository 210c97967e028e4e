"""A run made again: bit-equal, or what differs; and refused where it can't be the same run."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from nlp_pipeline import Recipe, TextClassification
from nlp_pipeline.cli import main
from nlp_pipeline.errors import ReproductionError
from nlp_pipeline.modeling.comparison import compare_weights
from nlp_pipeline.stages.reproducing import describe, reproduce


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_bert):
    """A run of four steps with dropout, and the folder it was started from."""
    folder = tmp_path_factory.mktemp("work")
    write_rows(folder / "rows.csv", 16)
    recipe = {
        "task": "text-classification",
        "model": tiny_bert,
        "data": {"train": str(folder / "rows.csv"), "validation": str(folder / "rows.csv")},
        "training": {"max_steps": 4, "precision": "fp32", "learning_rate": 1e-3},
        "evaluation": {"best": "loss"},
        "output": {"dir": str(folder / "run")},
    }
    (folder / "x.yaml").write_text(yaml.safe_dump(recipe))
    Recipe.from_yaml(folder / "x.yaml").run(progress=False)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy to spoil; its data file stays where it was."""
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path / "run"


def write_rows(path, count):
    lines = [f'{i},"the card {i} is late","{"ab"[i % 2]}"\n' for i in range(count)]
    path.write_text("id,text,label\n" + "".join(lines))


def no_training(monkeypatch):
    monkeypatch.setattr("nlp_pipeline.training.loop.fit", None)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_run_made_again_is_bit_equal(run, capsys):
    with pytest.raises(SystemExit) as end:
        main(["reproduce", str(run)])
    assert not end.value.code
    assert "bit-equal: all " in capsys.readouterr().out
    outcome = json.loads((run.with_name("run-reproduced") / "reproduction.json").read_text())
    assert outcome["equal"]
    assert outcome["tensors"] > 30
    assert outcome["notes"] == []
    mine, theirs = (
        load_file(folder / "model" / "model.safetensors") for folder in (run, run.with_name("run-reproduced"))
    )
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    again = reproduce(run, progress=False)
    assert again["equal"]
    assert again["notes"] == [f"{run}-reproduced was finished before and only compared now; --fresh trains it anew"]


def test_tensors_that_differ_are_named_in_the_model_s_order(run, capsys):
    file = run / "model" / "model.safetensors"
    weights = load_file(file)
    weights["classifier.bias"][0] += 0.25
    weights["bert.encoder.layer.1.output.dense.weight"][3, 5] += 0.5
    save_file(weights, file, {"format": "pt"})
    edit(run / "results.json", lambda results: results["scores"].update(accuracy=0.125))
    with pytest.raises(SystemExit) as end:
        main(["reproduce", str(run)])
    assert end.value.code == 5
    printed = capsys.readouterr().out
    assert "different: 2 of " in printed
    assert "the first in the model's order is bert.encoder.layer.1.output.dense.weight: " in printed
    assert "by 0.5 at most" in printed
    assert "accuracy: 0.125 then, " in printed
    assert "warning: model/model.safetensors is not as the run wrote it" in printed


def test_edited_data_is_refused_before_training(run, finished, monkeypatch, tmp_path):
    no_training(monkeypatch)
    before = (finished / "rows.csv").read_text()
    try:
        write_rows(finished / "rows.csv", 15)
        edit(run / "manifest.json", lambda manifest: manifest["packages"].update(torch="1.0"))
        with pytest.raises(ReproductionError) as error:
            reproduce(run, progress=False)
    finally:
        (finished / "rows.csv").write_text(before)
    message = str(error.value)
    assert "train: the rows are not those of the run (16 rows then and 15 rows now" in message
    assert "validation: the rows" in message
    assert "torch: 1.0 in the run" in message
    assert error.value.exit_code == 2


def test_another_model_or_tokenizer_is_refused(run, monkeypatch):
    no_training(monkeypatch)
    edit(run / "manifest.json", lambda manifest: manifest["inputs"]["model"].update(sha256="0" * 64))
    edit(run / "manifest.json", lambda manifest: manifest["tokenizer"].update(sha256="1" * 64))
    with pytest.raises(ReproductionError) as error:
        reproduce(run, progress=False)
    assert len(error.value.problems) == 2
    assert "the model's weights: expected" in str(error.value)
    assert "the tokenizer: expected" in str(error.value)


def test_an_edited_recipe_is_noticed(run, monkeypatch):
    no_training(monkeypatch)
    text = (run / "recipe.yaml").read_text()
    assert "seed: 42" in text
    (run / "recipe.yaml").write_text(text.replace("seed: 42", "seed: 43"))
    with pytest.raises(ReproductionError, match=r"recipe\.yaml was edited since the run wrote it"):
        reproduce(run, progress=False)


def test_other_versions_are_a_warning_unless_strict(run, monkeypatch):
    change = {"torch": "1.0", "transformers": "2.0"}
    edit(run / "manifest.json", lambda manifest: manifest["packages"].update(change))
    edit(run / "manifest.json", lambda manifest: manifest["arithmetic"].update(native_kernels="unknown"))
    notes = reproduce(run, progress=False)["notes"]
    assert [note.partition(" in the run")[0] for note in notes] == [
        "torch: 1.0", "transformers: 2.0", "native_kernels: unknown",
    ]  # fmt: skip
    no_training(monkeypatch)
    with pytest.raises(ReproductionError) as error:
        reproduce(run, strict=True, progress=False)
    assert error.value.problems == notes


def test_rows_given_in_memory_can_t_be_read_again(tiny_bert, tmp_path):
    rows = [{"text": f"the card {i}", "label": "ab"[i % 2]} for i in range(8)]
    recipe = TextClassification(model=tiny_bert, train=rows, max_steps=1, precision="fp32", dir=str(tmp_path / "run"))
    recipe.run(progress=False)
    with pytest.raises(ReproductionError, match=r"data\.train: the rows were given in memory"):
        Recipe.reproduce(tmp_path / "run")


def test_what_is_no_finished_run_is_said(run, tmp_path):
    with pytest.raises(
        ReproductionError, match=r"there is no recipe[.]yaml, manifest[.]json, results[.]json, model in"
    ):
        reproduce(tmp_path / "nothing")
    with pytest.raises(ReproductionError, match="is the run itself"):
        reproduce(run, output=run)
    (run / "results.json").write_bytes(b"\xff{")
    (run / "model" / "model.safetensors").write_bytes(b"cut")
    for content in (
        "[1]",
        "{",
        '{"inputs": 3}',
        '{"inputs": {"data": {"train": 1}}, "tokenizer": 1, "model_files": {}}',
    ):
        (run / "manifest.json").write_text(content)
        with pytest.raises(ReproductionError, match="is not what a run writes") as error:
            reproduce(run)
        assert len(error.value.problems) == 3


def test_a_run_that_went_on_under_other_settings_says_so(finished, run, tmp_path):
    longer = Recipe.from_yaml(finished / "x.yaml", f"output.dir={run}", "training.max_steps=5")
    longer.run(progress=False)
    assert len(json.loads((run / "manifest.json").read_text())["earlier"]) == 1
    outcome = reproduce(run, progress=False)
    assert any("went on from checkpoints" in note for note in outcome["notes"])
    assert not outcome["equal"]  # four of the five steps had the schedule of a run of four
    assert describe(outcome)[0].startswith("different: ")


def test_weights_are_compared_bit_by_bit(tmp_path):
    def save(name, **tensors):
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
        return tmp_path / name

    nan, one = torch.tensor([float("nan"), 1.0]), torch.ones(2, 2)
    first = save("first", a=nan, b=one, c=torch.zeros(3), gone=one.clone(), scalar=torch.tensor(2))
    second = save("second", a=nan.clone(), b=one.bfloat16(), c=-torch.zeros(3), scalar=torch.tensor(3))
    count, found = compare_weights(first, second, ["scalar", "c", "b"])
    assert count == 5
    assert [(d.name, d.largest, d.share) for d in found] == [
        ("scalar", 1.0, 1.0), ("c", 0.0, 1.0), ("b", float("inf"), 1.0), ("gone", float("inf"), 1.0),
    ]  # fmt: skip
    assert "torch.float32[2, 2] in the one, torch.bfloat16[2, 2] in the other" in str(found[2])
    assert "absent in the other" in str(found[3])
