"""Close calls get a second look in float32; all else is computed once."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nlp_pipeline import TextClassification
from nlp_pipeline.evaluation import prediction
from nlp_pipeline.stages.predicting import loaded_model

ROWS = [{"text": f"the card {i} is late " * (1 + i % 3), "label": "abc"[i % 3]} for i in range(24)]


@pytest.fixture
def recipe(tiny_bert, tmp_path):
    recipe = TextClassification(
        model=tiny_bert, train=ROWS, max_steps=3, precision="bf16", learning_rate=1e-3, dir=str(tmp_path / "run")
    )
    recipe.run(progress=False)
    return recipe


def test_only_close_calls_are_run_again_and_the_labels_are_the_exact_ones(recipe, monkeypatch):
    passes = []
    run = prediction.predict_table

    def counting(*arguments, **named):
        found = run(*arguments, **named)
        passes.append(len(found.values))
        return found

    monkeypatch.setattr(prediction, "predict_table", counting)
    exact = recipe.predict(ROWS, exact=True)
    assert passes == [len(ROWS)]
    monkeypatch.setattr(TextClassification, "unsure", lambda self, values: np.arange(len(values))[::5])
    fast = recipe.predict(ROWS)
    assert passes[1:] == [len(ROWS), len(range(0, len(ROWS), 5))]
    for number in range(0, len(ROWS), 5):
        assert fast[number]["score"] == pytest.approx(exact[number]["score"], abs=1e-6)
    assert [r["score"] for r in fast] == pytest.approx([r["score"] for r in exact], abs=0.03)


class CastsOfWeights(TorchDispatchMode):
    """Counts them."""

    def __init__(self, model):
        super().__init__()
        self.weights, self.count = {p.data_ptr() for p in model.parameters() if p.dim() > 1}, 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if function is torch.ops.aten._to_copy.default:
            self.count += arguments[0].data_ptr() in self.weights
        return function(*arguments, **(named or {}))


def test_weights_are_cast_once_however_many_batches_and_anew_when_they_change(recipe, monkeypatch):
    monkeypatch.setattr(TextClassification, "unsure", lambda self, values: np.arange(0))
    recipe.config = recipe.config.model_copy(update={"batch": recipe.config.batch.model_copy(update={"evaluation": 4})})
    before = recipe.predict(ROWS)
    model = loaded_model(recipe)[0]
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    with CastsOfWeights(model) as casts:
        assert recipe.predict(ROWS) == before
    assert casts.count == len(linear)
    with torch.no_grad():
        linear[0].weight += 1.0
    assert recipe.predict(ROWS) != before


def test_an_evaluation_while_training_casts_them_once(tiny_bert, tmp_path, monkeypatch):
    counts = []
    run = prediction.predict_table

    def counting(recipe, model, *arguments, **named):
        with CastsOfWeights(model) as casts:
            found = run(recipe, model, *arguments, **named)
        counts.append((casts.count, sum(isinstance(module, torch.nn.Linear) for module in model.modules())))
        return found

    monkeypatch.setattr(prediction, "predict_table", counting)
    recipe = TextClassification(
        model=tiny_bert, train=ROWS, validation=ROWS, max_steps=2, precision="bf16", learning_rate=1e-3,
        dir=str(tmp_path / "run"), evaluation={"every": 1}, batch={"evaluation": 4},
    )  # fmt: skip
    recipe.fit()
    assert len(counts) >= 2
    assert all(count == wanted for count, wanted in counts)


def test_what_a_close_call_is(recipe):
    values = [np.array(row, np.float32) for row in ([4.0, 3.95, 0.0], [4.0, 2.0, 0.0], [1.0, 1.0, 1.0], [0.1, 0.0, -9])]
    assert recipe.unsure(values).tolist() == [0, 2, 3]
    assert recipe.unsure([]).tolist() == []


def test_numbers_are_always_computed_in_full(tiny_bert, tmp_path):
    rows = [{"text": row["text"], "score": i / 5} for i, row in enumerate(ROWS)]
    recipe = TextClassification(
        model=tiny_bert, train=rows, max_steps=1, precision="bf16", options={"problem": "regression"},
        dir=str(tmp_path / "run"),
    )  # fmt: skip
    recipe.run(progress=False)
    assert recipe.predict(rows) == recipe.predict(rows, exact=True)


def test_memory_that_runs_out_names_the_setting_to_lower(recipe, monkeypatch):
    from nlp_pipeline.errors import OutOfMemoryError

    model, _ = loaded_model(recipe)
    monkeypatch.setattr(model.__class__, "forward", lambda self, **inputs: torch.empty(2**60))
    with pytest.raises(OutOfMemoryError, match=r"24 rows of \d+ tokens do not fit.*set batch\.evaluation below 24"):
        recipe.predict(ROWS, exact=True)


@pytest.mark.parametrize("window", [len(ROWS) // 3, len(ROWS)])
def test_the_mean_loss_does_not_depend_on_the_order_of_the_batches(recipe, monkeypatch, window):
    """Three batches, in windows of their own or in one.

    Numbers whose plain sum is 0 or 1 by their order, as those of other processes come in another one."""
    from nlp_pipeline.stages.scoring import evaluate_source

    batch = recipe.config.batch.model_copy(update={"evaluation": len(ROWS) // 3, "window": window})
    monkeypatch.setattr(recipe, "config", recipe.config.model_copy(update={"batch": batch}))
    for order in ([1e16, 1.0, -1e16], [1e16, -1e16, 1.0], [1.0, 1e16, -1e16]):
        losses = iter(order)
        monkeypatch.setattr(
            TextClassification,
            "loss",
            lambda self, *which, losses=losses: torch.tensor(next(losses), dtype=torch.float64),
        )
        assert evaluate_source(recipe, ROWS, progress=False)["scores"]["loss"] == 1 / len(ROWS)


def test_threads_that_predict_at_once_get_their_own_answers(recipe):
    from concurrent.futures import ThreadPoolExecutor

    parts = [ROWS[i : i + 3] for i in range(0, len(ROWS), 3)]
    alone = [recipe.predict(part, exact=True) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda part: recipe.predict(part, exact=True), parts * 5))
    assert together == alone * 5


def test_nothing_to_predict_is_no_error(recipe):
    assert recipe.predict([]) == []
