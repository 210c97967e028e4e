"""What every task must fulfil: a task's test class inherits RecipeContract and states its rows and settings."""

import json
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml
from multi_process.launching import TRAIN, launch
from safetensors.numpy import load_file

from nlp_pipeline import ConfigError, DataError, Recipe
from nlp_pipeline.training.inputs import InputMaker
from nlp_pipeline.training.optimization import make_optimizer
from nlp_pipeline.training.step import Stepper

STEPS = 6
SETTINGS = {
    "training": {"max_steps": STEPS, "learning_rate": 3e-3, "precision": "fp32", "log_every": 1},
    "batch": {"size": 8},
    "evaluation": {"every": 3},
}


class Interrupted(Exception):
    """Stands for a kill in the middle of training."""


class RecipeContract:
    """Set `recipe`, `rows` (at least 12), `plain`, `wrong` and perhaps the rest, write `alone`; inherit the tests."""

    recipe: ClassVar[type[Recipe]]
    rows: ClassVar[list[dict[str, Any]]]
    settings: ClassVar[dict[str, Any]] = {}
    plain: ClassVar[list[Any]]
    """Inputs for `predict` without column names."""
    wrong: ClassVar[list[tuple[dict[str, Any], str]]]
    """Faulty rows, each with a pattern of the error that must come before a model is loaded."""
    dropout: ClassVar[tuple[str, ...]] = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    """What the model's config calls its rates of dropout."""
    undetermined: ClassVar[tuple[str, ...]] = ()
    """Parameters that the loss doesn't depend on: their gradient is rounding alone, which Adam makes a step of."""

    packs: ClassVar[bool] = True
    """Whether the model runs without padding."""

    def alone(self, folder: str) -> list[Any]:
        """What transformers without this package (its pipeline, where it has one) predicts for `plain`."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def tiny_model(cls, tiny_bert: str) -> str:
        """The model to fine-tune."""
        return tiny_bert

    def still(self, tiny_model: str) -> dict[str, Any]:
        """The model without dropout."""
        return {"name": tiny_model, "settings": dict.fromkeys(self.dropout, 0.0)}

    def make(self, tiny_model: str, folder: Any, **changes: Any) -> Recipe:
        merged = {name: {**SETTINGS.get(name, {}), **changes.get(name, {})} for name in {*SETTINGS, *changes}}
        model = {"name": tiny_model, "settings": {self.dropout[0]: 0.1}}
        return self.recipe(
            train=self.rows,
            validation=self.rows,
            test=self.rows,
            output={"dir": str(folder)},
            **{"model": model, **self.settings, **merged},
        )

    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
        """A whole run with the settings as they are, for tests that only look at it."""
        recipe = cls().make(tiny_model, tmp_path_factory.mktemp("finished") / "run")
        recipe.run(progress=False)
        return recipe

    def weights(self, recipe: Recipe) -> dict[str, np.ndarray]:
        return load_file(recipe.run_directory.model / "model.safetensors")

    def test_run_leaves_everything_and_predicts_the_same_after_reload(self, finished):
        recipe, run = finished, finished.run_directory
        for path in (run.recipe, run.manifest, run.metrics, run.results, run.model / "README.md"):
            assert path.exists(), path
        assert (run.predictions / "test.jsonl").read_text().count("\n") == len(self.rows)
        assert json.loads(run.results.read_text())["rows"] == len(self.rows)
        again = Recipe.from_pretrained(run.path)
        assert type(again) is self.recipe
        assert again.predict(self.plain) == recipe.predict(self.plain)
        assert Recipe.from_pretrained(run.model).predict(self.plain) == recipe.predict(self.plain)

    def test_training_lowers_the_loss(self, finished):
        history = [*finished.run_directory.history()]
        losses = [entry["validation"]["loss"] for entry in history if "validation" in entry]
        logged = [entry["loss"] for entry in history if "loss" in entry]
        assert len(losses) == 2
        assert losses[-1] < losses[0] or losses[-1] < logged[0]

    def test_preprocess_is_pure_and_deterministic(self, tiny_model, tmp_path):
        recipe = self.make(tiny_model, tmp_path / "run")
        recipe.tokenize()
        import pyarrow as pa

        table = recipe.splits.train.with_format("arrow")[:]
        before = table.to_pylist()
        first = {k: v.to_pylist() for k, v in recipe.preprocess(table, recipe.encoder).items()}
        second = {k: v.to_pylist() for k, v in recipe.preprocess(table, recipe.encoder).items()}
        halves = [recipe.preprocess(part, recipe.encoder) for part in (table.slice(0, 5), table.slice(5))]
        assert first == second
        assert table.to_pylist() == before
        if "row" in first:  # counted within what `preprocess` is given
            halves[1] = {**halves[1], "row": pa.array(np.asarray(halves[1]["row"]) + 5)}
        for name, values in first.items():
            assert [v for half in halves for v in half[name].to_pylist()] == values

    def test_stage_by_stage_equals_run(self, finished, tiny_model, tmp_path):
        staged = self.make(tiny_model, tmp_path / "staged")
        staged.load()
        staged.tokenize()
        staged.fit()
        assert staged.evaluate()["scores"] == json.loads(finished.run_directory.results.read_text())["scores"]
        assert staged.report()["rows"] == len(self.rows)
        assert staged.run_directory.manifest.exists()

    def test_missing_columns_are_named_with_the_ones_there_are(self, tiny_model, tmp_path):
        recipe = self.make(tiny_model, tmp_path / "run")
        recipe._in_memory["train"] = [{"foo": 1, "bar": "x"}] * 12
        with pytest.raises(DataError) as error:
            recipe.load()
        for column in recipe.columns():
            assert not column.required or column.name in str(error.value)
        assert "foo" in str(error.value)
        assert "bar" in str(error.value)

    def test_wrong_rows_are_named_before_a_model_is_loaded(self, tiny_model, tmp_path):
        for row, pattern in self.wrong:
            recipe = self.make(tiny_model, tmp_path / "run")
            recipe._in_memory["test"] = [
                *({"id": f"r{i}", **row} for i, row in enumerate(self.rows)),
                {"id": "odd", **row},
            ]
            with pytest.raises(DataError, match=pattern) as error:
                recipe.load()
            assert "odd" in str(error.value) or f"row {len(self.rows) + 1}" in str(error.value)

    def test_two_steps_on_one_batch_lower_its_loss(self, tiny_model, tmp_path):
        recipe = self.make(tiny_model, tmp_path / "run", model=self.still(tiny_model))
        recipe.tokenize()
        model = self.load(recipe)
        optimizer = make_optimizer(model, recipe.config.training)
        stepper = Stepper(recipe, model, optimizer, recipe.accelerator, recipe.tables["train"], recipe.config.training)
        given = self.first_batch(recipe)
        losses = [float(stepper.step(given)) for _ in range(3)]
        assert losses[2] < losses[0]

    def test_transformers_alone_agrees_with_predict(self, finished):
        ours = [record["prediction"] for record in finished.predict(self.plain)]
        theirs = self.alone(str(finished.run_directory.model))
        assert len(ours) == len(theirs) == len(self.plain)
        for found, wanted in zip(ours, theirs, strict=True):
            assert found == (pytest.approx(wanted, abs=1e-4) if isinstance(wanted, float) else wanted)

    @pytest.mark.slow
    def test_an_exported_graph_predicts_the_same(self, finished):
        pytest.importorskip("onnxruntime")
        from nlp_pipeline.export.checking import same
        from nlp_pipeline.export.exporting import export

        recipe = finished
        trust = recipe.config.recipe is not None
        if recipe.auto_model == "AutoModelForSeq2SeqLM":
            with pytest.raises(ConfigError, match="take --to merged"):
                export(recipe.run_directory.path, ["onnx"], progress=False)
            folder = export(recipe.run_directory.path, ["merged"], progress=False)["variants"][-1]["folder"]
            assert Recipe.from_pretrained(folder).predict(self.plain) == recipe.predict(self.plain)
            return
        made = export(recipe.run_directory.path, ["onnx"], trust_remote_code=trust, progress=False)
        variant = made["variants"][-1]
        assert variant["largest"] < 1e-5
        again = Recipe.from_pretrained(variant["folder"], trust_remote_code=trust)
        if recipe.generates:
            assert variant["differing"] is None
            with pytest.raises(ConfigError, match="it doesn't generate texts; take the run itself"):
                again.predict(self.plain)
            return
        assert variant["differing"] == 0
        for one, other in zip(recipe.predict(self.plain, exact=True), again.predict(self.plain), strict=True):
            assert same(one["prediction"], other["prediction"], 1e-4)

    @pytest.mark.multi_process
    def test_two_processes_equal_one(self, tiny_model, tmp_path):
        data = tmp_path / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        files = dict.fromkeys(("train", "validation", "test"), str(data))
        settings = {**SETTINGS, "task": self.recipe.task, "model": self.still(tiny_model), **self.settings}
        settings |= {"data": {**files, **self.settings.get("data", {})}, "batch": {"size": 5}}
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(settings))
        results, weights = [], []
        for processes in (1, 2):
            run = tmp_path / str(processes)
            answer = launch(TRAIN, processes, recipe, f"output.dir={run}")
            assert answer.returncode == 0, answer.stderr
            weights.append(load_file(run / "model" / "model.safetensors"))
            results.append(json.loads((run / "results.json").read_text())["scores"])
        for name in weights[0].keys() - {*self.undetermined}:
            np.testing.assert_allclose(weights[1][name], weights[0][name], atol=1e-4, err_msg=name)
        assert results[1]["loss"] == pytest.approx(results[0]["loss"], rel=1e-3)

    def test_padding_free_and_compact_training_equal_padded_training(self, tiny_model, tmp_path):
        still = self.still(tiny_model)
        settings = [{"compact_vocabulary": False}, {"compact_vocabulary": self.packs, "verify_parity": self.packs}]
        results, weights, predictions = [], [], []
        for number, training in enumerate(settings):
            batch = {"padding_free": "auto" if number else False, "sampling": "random"}
            training |= {"weight_decay": 0.1, "learning_rate": 1e-3}
            recipe = self.make(tiny_model, tmp_path / str(number), model=still, batch=batch, training=training)
            results.append(recipe.run(progress=False)["scores"])
            assert (recipe.padded_because is None) == (self.packs and bool(number))
            weights.append(self.weights(recipe))
            predictions.append(recipe.predict(self.plain))
        assert weights[0].keys() == weights[1].keys()
        for name in weights[0].keys() - {*self.undetermined}:
            np.testing.assert_allclose(weights[1][name], weights[0][name], atol=2e-4, err_msg=name)
        assert results[1]["loss"] == pytest.approx(results[0]["loss"], rel=1e-3)
        assert [p["row_id"] for p in predictions[0]] == [p["row_id"] for p in predictions[1]]

    @pytest.mark.parametrize("micro", [1, 3])
    def test_any_split_into_micro_batches_trains_alike(self, tiny_model, tmp_path, micro):
        still = self.still(tiny_model)
        whole = self.make(tiny_model, tmp_path / "whole", model=still)
        parts = self.make(tiny_model, tmp_path / "parts", model=still, batch={"micro": micro})
        whole.tokenize()
        parts.tokenize()
        gradients = [self.first_gradient(recipe) for recipe in (whole, parts)]
        largest = max(float(np.abs(gradient).max()) for gradient in gradients[0].values())
        for name in gradients[0].keys() - {*self.undetermined}:
            gradient = gradients[0][name]
            allowed = 1e-4 * float(np.abs(gradient).max()) + 2e-5 * largest  # much of a small one may have cancelled
            assert np.abs(gradient - gradients[1][name]).max() < max(1e-10, allowed), name

    def first_gradient(self, recipe: Recipe) -> dict[str, np.ndarray]:
        """The first step's gradient, unclipped."""
        import torch

        model = self.load(recipe)
        kept: dict[str, np.ndarray] = {}

        class Keep(torch.optim.SGD):
            def step(self, closure=None):
                kept.update({n: p.grad.numpy().copy() for n, p in model.named_parameters() if p.grad is not None})

        optimizer = Keep(model.parameters(), lr=0.0)
        table, training = recipe.tables["train"], recipe.config.training.model_copy(update={"max_grad_norm": None})
        Stepper(recipe, model, optimizer, recipe.accelerator, table, training).step(self.first_batch(recipe))
        return kept

    def load(self, recipe: Recipe) -> Any:
        """The model with a head for the task, the same each time."""
        from transformers import set_seed

        from nlp_pipeline.modeling.loading import load_model

        set_seed(1)
        return load_model(recipe.config.model, recipe.auto_model, recipe.model_settings()).train()

    def first_batch(self, recipe: Recipe) -> Any:
        """The first eight examples as one optimizer step's."""
        make = InputMaker(recipe, recipe.tables["train"], 0, 1, recipe.config.batch.micro, 10**6, True, 10)
        return make((0, np.arange(8)))

    def test_resume_equals_uninterrupted(self, finished, tiny_model, tmp_path, monkeypatch):
        step = Stepper.step

        def stopping(self, given):
            if given.number == 4:
                raise Interrupted
            return step(self, given)

        monkeypatch.setattr(Stepper, "step", stopping)
        with pytest.raises(Interrupted):
            self.make(tiny_model, tmp_path / "cut", checkpoint={"every": 1, "keep": 2}).run(progress=False)
        monkeypatch.undo()
        cut = self.make(tiny_model, tmp_path / "cut", checkpoint={"every": 1, "keep": 2})
        cut.run(progress=False)
        ours, theirs = self.weights(cut), self.weights(finished)
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
        steps = [entry["step"] for entry in cut.run_directory.history() if "loss" in entry]
        assert steps == list(range(1, STEPS + 1))
