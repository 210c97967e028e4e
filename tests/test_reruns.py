"""The same folder again: what goes on, what is read, and what is refused before anything is touched."""

import json
import shutil

import pytest

from nlp_pipeline import ConfigError, DataError, Recipe, TextClassification
from nlp_pipeline.run_directory import newest_of
from nlp_pipeline.training.checkpoint_folder import list_checkpoints
from nlp_pipeline.training.train_state import name_of

ROWS = [{"text": f"the card {i} is late", "label": "ab"[i % 2]} for i in range(16)]


@pytest.fixture
def make(tiny_bert, tmp_path):
    def make(rows=ROWS, **settings):
        settings = {"max_steps": 4, "precision": "fp32", "dir": str(tmp_path / "run"), **settings}
        return TextClassification(model=tiny_bert, train=rows, validation=ROWS, test=ROWS[:8], **settings)

    return make


def files(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"}


def test_a_finished_run_is_read_only_for_the_same_rows(make, tmp_path):
    first = make().run(progress=False)
    before = files(tmp_path / "run")
    assert make().run(progress=False) == first
    others = [{**row, "label": "ab"[i % 3 == 0]} for i, row in enumerate(ROWS)]
    with pytest.raises(ConfigError, match="train rows: this run directory was trained with"):
        make(others).run(progress=False)
    assert files(tmp_path / "run") == before
    assert make(others).run(fresh=True, progress=False)["training"]["step"] == 4


def test_other_test_rows_are_scored_without_training(make, monkeypatch):
    make().run(progress=False)
    again = make()
    again._in_memory["test"] = ROWS[:5]
    monkeypatch.setattr("nlp_pipeline.training.step.Stepper.step", None)
    assert again.run(progress=False)["rows"] == 5


def test_a_refused_rerun_leaves_everything_as_it_was(make, tmp_path):
    make().run(progress=False)
    before = files(tmp_path / "run")
    for change in ({"learning_rate": 1e-4}, {"best": "f1_macro", "metrics": ["accuracy", "f1_macro"]}, {"seed": 7}):
        with pytest.raises(ConfigError, match="fresh"):
            make(**change).run(progress=False)
    assert files(tmp_path / "run") == before
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ConfigError, match="without checkpoints to go on from"):
        make(learning_rate=1e-4).run(progress=False)
    assert (tmp_path / "run" / "results.json").exists()


def test_more_steps_go_on_and_fewer_are_refused(make, tmp_path, capsys):
    make().run(progress=False)
    longer = make(max_steps=6).run()
    assert longer["training"]["step"] == 6
    assert "the run is now 6 steps long, not 4" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"training\.max_steps: .* has trained 6 steps already, more than"):
        make(max_steps=3).run(progress=False)


def test_damaged_checkpoints_don_t_displace_good_ones(make, tmp_path):
    make(checkpoint={"every": 1, "keep": 2}, evaluation={"every": 2}).run(progress=False)
    folder = tmp_path / "run" / "checkpoints"
    (folder / name_of(4) / "model.safetensors").write_bytes(b"damaged")
    again = make(checkpoint={"every": 1, "keep": 2}, evaluation={"every": 2}, keep=2, epochs=9)
    again.run(progress=False)
    names = [path.name for path in list_checkpoints(folder)]
    assert name_of(4) in names
    assert (folder / name_of(4) / "model.safetensors").stat().st_size > 7


def test_the_metric_log_is_cut_back_without_progress_too(make, tmp_path, monkeypatch):
    from nlp_pipeline.training.step import Stepper

    step = Stepper.step

    def stopping(self, given):
        if given.number == 3:
            raise RuntimeError
        return step(self, given)

    settings = {"checkpoint": {"every": 2}, "log_every": 1}
    monkeypatch.setattr(Stepper, "step", stopping)
    with pytest.raises(RuntimeError):
        make(**settings).run(progress=False)
    monkeypatch.undo()
    recipe = make(**settings)
    recipe.run(progress=False)
    assert [e["step"] for e in recipe.run_directory.history() if "loss" in e] == [1, 2, 3, 4]


def test_a_folder_that_only_looks_like_a_fresh_one_is_another_s(tmp_path):
    def write(name, recipe):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text(f"name: {recipe}\noutput: {{dir: null}}\n")

    write("exp", "exp")
    write("exp-2", "exp-2")
    assert newest_of(tmp_path / "exp", "exp", None) == tmp_path / "exp"
    write("exp-3", "exp")
    assert newest_of(tmp_path / "exp", "exp", None) == tmp_path / "exp-3"


def test_unseen_and_empty_labels_stop_a_score_but_not_a_prediction(make, tmp_path):
    make(options={"class_weights": "balanced"}).run(progress=False)
    saved = Recipe.from_pretrained(tmp_path / "run")
    strange = tmp_path / "strange.jsonl"
    rows = [{"text": "the card", "label": "zebra"}, {"text": "late", "label": None}]
    strange.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(saved.predict(strange)) == 2
    from nlp_pipeline.stages.scoring import evaluate_source

    with pytest.raises(DataError, match="label"):
        evaluate_source(saved, str(strange), progress=False)
    with pytest.raises(DataError, match="'zebra'"):
        evaluate_source(saved, rows[:1], progress=False)


def test_class_weights_count_when_a_saved_model_is_scored(make, tmp_path):
    uneven = ROWS[:9] + [row for row in ROWS[9:] if row["label"] == "a"]
    results = make(uneven, options={"class_weights": {"a": 1.0, "b": 5.0}}).run(progress=False)
    from nlp_pipeline.stages.scoring import evaluate_source

    again = evaluate_source(Recipe.from_pretrained(tmp_path / "run"), ROWS[:8], progress=False)
    assert again["scores"] == pytest.approx(results["scores"], abs=1e-6)


def test_ids_of_plain_rows(make):
    recipe = make()
    recipe.run(progress=False)
    assert [r["row_id"] for r in recipe.predict(["a card", "late"])] == ["1", "2"]
    assert [r["row_id"] for r in recipe.predict(["a card", "late"], ids=["x", "y"])] == ["x", "y"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evaluation": {"every": 0}}, "evaluation.every"),
        ({"betas": [0.9, 1.0]}, "training.betas"),
        ({"lora": {"target_modules": ["nothing"]}}, "the linear layers are named"),
        ({"model": {"settings": {"hidden_dropout_prob": "high"}}}, "model.settings.hidden_dropout_prob"),
    ],
)
def test_settings_that_used_to_end_in_a_traceback(make, tiny_bert, settings, message):
    from nlp_pipeline.errors import NlpPipelineError

    if "model" in settings:
        settings["model"]["name"] = tiny_bert
    arguments = {"train": ROWS, "model": tiny_bert, "max_steps": 1, "precision": "fp32", **settings}
    with pytest.raises(NlpPipelineError) as error:
        TextClassification(**arguments, dir=str(make().run_directory.path)).run(progress=False)
    assert message in str(error.value)
    assert error.value.exit_code == 2


def test_early_stopping_without_validation_rows_in_the_folder(tiny_bert, tmp_path):
    import datasets

    parts = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})
    parts.save_to_disk(str(tmp_path / "without"))
    parts["validation"] = parts["train"]
    parts.save_to_disk(str(tmp_path / "with"))

    def run(name):
        recipe = TextClassification(
            model=tiny_bert, train=str(tmp_path / name), max_steps=1, early_stopping={"patience": 1}, dir=str(tmp_path)
        )
        return recipe.load()

    assert run("with").validation is not None
    with pytest.raises(DataError, match="needs validation rows"):
        run("without")
