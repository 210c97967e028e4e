"""Built-in metrics against scikit-learn, scipy, seqeval and values worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import evaluate
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from seqeval.metrics import accuracy_score as seqeval_accuracy
from seqeval.metrics import classification_report
from sklearn import metrics as sk

from nlp_pipeline.errors import ConfigError
from nlp_pipeline.evaluation.metrics import (
    METRICS,
    Outputs,
    check_metric_names,
    compute_metrics,
    greater_is_better,
    load_metric,
    main_key,
)

pytestmark = pytest.mark.filterwarnings("error")

STATISTICS = ("precision", "recall", "f1")
QUICK = settings(max_examples=60, deadline=None)


def single(predictions, references, scores=None, names=()):
    return Outputs(
        "single_label",
        np.asarray(predictions, dtype=np.int64),
        np.asarray(references, dtype=np.int64),
        scores,
        tuple(names),
    )


def multi(predictions, references, scores=None, names=()):
    return Outputs("multi_label", np.asarray(predictions, bool), np.asarray(references, bool), scores, tuple(names))


def numbers(predictions, references):
    return Outputs("regression", np.asarray(predictions, float), np.asarray(references, float))


def one(name, outputs):
    """The main value of one metric."""
    return compute_metrics([name], outputs)[main_key(name)]


def names_for(kind):
    return [name for name, spec in METRICS.items() if kind in spec.kinds]


label_pairs = st.integers(2, 6).flatmap(
    lambda labels: st.lists(
        st.tuples(st.integers(0, labels - 1), st.integers(0, labels - 1)), min_size=1, max_size=40
    ).map(lambda rows: (labels, np.array(rows)))
)


# ---- labels ----


def test_hand_computed_binary_values():
    # predictions: 3 positive of which 2 right; references: 4 positive
    outputs = single([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 1, 0], names=("ham", "spam"))
    found = compute_metrics(["accuracy", "precision", "recall", "f1", "f1_per_label"], outputs)
    assert found == pytest.approx(
        {
            "accuracy": 3 / 6,
            "precision": 2 / 3,
            "recall": 2 / 4,
            "f1": 4 / 7,
            "f1_macro": (2 / 5 + 4 / 7) / 2,
            "f1/ham": 2 / 5,
            "f1/spam": 4 / 7,
        }
    )
    assert all(type(value) is float for value in found.values())


@QUICK
@given(label_pairs)
def test_single_label_agrees_with_scikit_learn(drawn):
    labels, rows = drawn
    predictions, references = rows.T
    outputs = single(predictions, references, names=[f"l{k}" for k in range(labels)])
    assert one("accuracy", outputs) == pytest.approx(sk.accuracy_score(references, predictions))
    present = np.unique(references)
    recall = sk.recall_score(references, predictions, labels=present, average="macro", zero_division=0)
    assert one("balanced_accuracy", outputs) == pytest.approx(recall)
    for statistic in STATISTICS:
        score = getattr(sk, f"{statistic}_score")
        for average in ("macro", "micro", "weighted"):
            expected = score(references, predictions, average=average, zero_division=0)
            assert one(f"{statistic}_{average}", outputs) == pytest.approx(expected)
        per_label = compute_metrics([f"{statistic}_per_label"], outputs)
        assert len(per_label) == labels + 1
        expected = score(references, predictions, labels=range(labels), average=None, zero_division=0)
        for k in range(labels):
            if k in rows:
                assert per_label[f"{statistic}/l{k}"] == pytest.approx(expected[k])
            else:
                assert math.isnan(per_label[f"{statistic}/l{k}"])
        values = [value for key, value in per_label.items() if "/" in key and not math.isnan(value)]
        assert one(f"{statistic}_macro", outputs) == pytest.approx(np.mean(values))
    if len(present) > 1:
        matthews = sk.matthews_corrcoef(references, predictions)
        assert one("matthews_correlation", outputs) == pytest.approx(matthews)


def test_balanced_accuracy_agrees_with_scikit_learn():
    references, predictions = [0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 2, 2]
    expected = sk.balanced_accuracy_score(references, predictions)
    assert one("balanced_accuracy", single(predictions, references)) == pytest.approx(expected)


def test_plain_is_binary_for_two_labels_and_macro_for_more():
    two = single([1, 0, 1, 0], [1, 1, 1, 0], names=("no", "yes"))
    assert one("recall", two) == pytest.approx(2 / 3)
    three = single([1, 0, 1, 0], [1, 1, 1, 0], names=("no", "yes", "maybe"))
    assert one("recall", three) == one("recall_macro", three) == pytest.approx((1 + 2 / 3) / 2)
    exclusive_no_more = multi([[1, 0], [1, 1]], [[1, 0], [0, 1]], names=("a", "b"))
    assert one("precision", exclusive_no_more) == pytest.approx((1 / 2 + 1) / 2)


def test_label_absent_from_the_split_does_not_shrink_the_macro_average():
    outputs = single([0, 1, 0], [0, 1, 1], names=("a", "b", "never"))
    assert one("recall_macro", outputs) == pytest.approx((1 + 1 / 2) / 2)
    columns = multi([[1, 0], [1, 0]], [[1, 0], [1, 0]], names=("a", "never"))
    assert one("f1_macro", columns) == 1.0


def test_predicted_label_outside_the_names_counts_as_a_mistake():
    found = compute_metrics(["f1_per_label"], single([0, 5], [0, 1], names=("a", "b")))
    assert found == pytest.approx({"f1_macro": 1 / 3, "f1/a": 1.0, "f1/b": 0.0, "f1/5": 0.0})


@QUICK
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 5))
def test_multi_label_agrees_with_scikit_learn(seed, rows, labels):
    generator = np.random.default_rng(seed)
    predictions, references = generator.random((2, rows, labels)) < 0.4
    outputs = multi(predictions, references)
    assert one("accuracy", outputs) == pytest.approx((predictions == references).all(axis=1).mean())
    occurring = np.flatnonzero((predictions | references).any(axis=0))
    if occurring.size == 0:
        assert math.isnan(one("f1_macro", outputs))
        return
    if labels == 1:  # scikit-learn reads one column as binary
        assert one("f1_micro", outputs) == pytest.approx(
            sk.f1_score(references[:, 0], predictions[:, 0], zero_division=0)
        )
        return
    for statistic in STATISTICS:
        score = getattr(sk, f"{statistic}_score")
        for average in ("macro", "micro", "weighted"):
            expected = score(references, predictions, labels=occurring, average=average, zero_division=0)
            assert one(f"{statistic}_{average}", outputs) == pytest.approx(expected)


# ---- scores ----


@QUICK
@given(label_pairs, st.integers(0, 2**32 - 1))
def test_scores_agree_with_scikit_learn(drawn, seed):
    labels, rows = drawn
    scores = np.random.default_rng(seed).dirichlet(np.ones(labels), len(rows)).round(2)  # round makes ties
    scores = (scores + 1e-3) / (scores + 1e-3).sum(axis=1, keepdims=True)
    references = rows[:, 1]
    outputs = single(scores.argmax(axis=1), references, scores)
    expected = sk.log_loss(references, scores, labels=range(labels))
    assert one("log_loss", outputs) == pytest.approx(expected)
    columns = [1] if labels == 2 else range(labels)
    areas = [
        sk.roc_auc_score(references == k, scores[:, k]) for k in columns if 0 < (references == k).sum() < len(rows)
    ]
    assert one("roc_auc", outputs) == pytest.approx(np.mean(areas) if areas else math.nan, nan_ok=True)


def test_roc_auc_one_versus_rest_equals_scikit_learns_when_every_label_occurs():
    generator = np.random.default_rng(0)
    references = np.arange(60) % 3
    scores = generator.dirichlet(np.ones(3), 60)
    expected = sk.roc_auc_score(references, scores, multi_class="ovr", average="macro")
    assert one("roc_auc", single(references, references, scores)) == pytest.approx(expected)


def test_multi_label_roc_auc_averages_the_labels_that_have_both_classes():
    references = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0]], bool)
    scores = np.array([[0.9, 0.1, 0.2], [0.1, 0.5, 0.8], [0.1, 0.9, 0.6]])
    # label 0: pairs (0.9 > 0.1), (0.1 = 0.1); label 1: no positive; label 2: (0.2 < 0.6), (0.8 > 0.6)
    assert one("roc_auc", multi(references, references, scores)) == pytest.approx((0.75 + 0.5) / 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_log_loss_of_a_sure_mistake_is_finite_and_scikit_learns(dtype):
    scores = np.array([[1, 0], [0.5, 0.5]], dtype)
    value = one("log_loss", single([0, 0], [1, 1], scores))
    assert value == pytest.approx((-math.log(np.finfo(dtype).eps) + math.log(2)) / 2, rel=1e-6)
    if dtype is not np.float16:
        assert value == pytest.approx(sk.log_loss([1, 1], scores, labels=[0, 1]))


# ---- regression ----

finite = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda value: round(value, 3))


@QUICK
@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=40))
def test_regression_agrees_with_scikit_learn_and_scipy(rows):
    predictions, references = np.array(rows).T
    outputs = numbers(predictions, references)
    assert one("mse", outputs) == pytest.approx(sk.mean_squared_error(references, predictions))
    assert one("rmse", outputs) == pytest.approx(sk.root_mean_squared_error(references, predictions))
    assert one("mae", outputs) == pytest.approx(sk.mean_absolute_error(references, predictions))
    if len(set(references)) > 1:
        assert one("r2", outputs) == pytest.approx(sk.r2_score(references, predictions), rel=1e-6)
    if len(set(references)) > 1 and len(set(predictions)) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns on nearly constant input
            linear = stats.pearsonr(predictions, references).statistic
            ranked = stats.spearmanr(predictions, references).statistic
        assert one("pearson", outputs) == pytest.approx(linear, abs=1e-6)
        assert one("spearman", outputs) == pytest.approx(ranked, abs=1e-9)


def test_hand_computed_regression_values():
    found = compute_metrics(names_for("regression"), numbers([1, 2, 5], [1, 3, 3]))
    assert found["mse"] == pytest.approx(5 / 3)
    assert found["rmse"] == pytest.approx(math.sqrt(5 / 3))
    assert found["mae"] == pytest.approx(1.0)
    assert found["r2"] == pytest.approx(1 - 5 / (8 / 3))
    assert found["spearman"] == pytest.approx(math.sqrt(3) / 2)


def test_huge_values_overflow_without_a_warning():
    found = compute_metrics(names_for("regression"), numbers([1e300, -1e308], [1e308, 1e308 / 2]))
    assert found["mse"] == math.inf
    assert found["pearson"] == pytest.approx(1.0)


# ---- tags ----

SENTENCES = (
    [["O", "B-PER", "I-PER", "O"], ["B-LOC", "O"], ["I-ORG", "I-ORG"]],
    [["O", "B-PER", "O", "O"], ["B-LOC", "O"], ["B-ORG", "I-ORG"]],
)


def tagged(predictions, references):
    return Outputs("tags", predictions, references)


def test_hand_computed_entities_in_default_mode():
    found = compute_metrics(["seqeval"], tagged(*SENTENCES))
    # I-ORG I-ORG is an entity without its B-; PER has the right type and the wrong end
    assert found["precision"] == found["recall"] == found["f1"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(6 / 8)
    assert (found["f1/PER"], found["f1/LOC"], found["f1/ORG"]) == (0, 1, 1)
    assert (found["support"], found["support/ORG"]) == (3, 1)
    assert main_key("seqeval") == "f1"


tags = st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B", "E-A", "S-B", "A-x", "I-", "B", "I", "N", "."])


@QUICK
@given(st.lists(st.lists(st.tuples(tags, tags), max_size=8), min_size=1, max_size=5))
def test_entities_agree_with_seqeval(sentences):
    references = [[reference for reference, _ in sentence] for sentence in sentences]
    predictions = [[prediction for _, prediction in sentence] for sentence in sentences]
    found = compute_metrics(["seqeval"], tagged(predictions, references))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns of tags outside the scheme and of empty reports
        try:
            report = classification_report(references, predictions, output_dict=True, zero_division=0)
        except (ValueError, ZeroDivisionError):
            report = None
        accuracy = seqeval_accuracy(references, predictions) if any(sentences) else math.nan
    assert found["accuracy"] == pytest.approx(accuracy, nan_ok=True)
    types = {key.partition("/")[2] for key in found if key.startswith("f1/")}
    if not types:
        assert math.isnan(found["f1"])
        return
    assert types == report.keys() - {"micro avg", "macro avg", "weighted avg"}
    for name, prefix in [("micro avg", ""), *((name, f"/{name}") for name in types)]:
        for statistic, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert found[statistic + prefix] == pytest.approx(report[name][key])
        assert found["support" + prefix] == report[name]["support"]


def test_seqeval_itself_runs_without_warnings_on_this_numpy():
    report = classification_report(SENTENCES[1], SENTENCES[0], output_dict=True, zero_division=0)
    assert report["micro avg"]["f1-score"] == pytest.approx(2 / 3)


# ---- undefined values ----


@pytest.mark.parametrize(
    "outputs",
    [
        single([], [], np.empty((0, 3)), "abc"),
        single([], [], np.empty((0, 2))),
        multi(np.empty((0, 3)), np.empty((0, 3)), np.empty((0, 3)), "abc"),
        numbers([], []),
        tagged([], []),
        tagged([[]], [[]]),
    ],
    ids=["single_label", "no_names", "multi_label", "regression", "tags", "empty_sentence"],
)
def test_empty_input_is_nan_in_every_metric(outputs):
    names = names_for(outputs.kind)
    found = compute_metrics(names, outputs)
    assert found.keys() >= {main_key(name) for name in names}
    undefined = {key for key, value in found.items() if math.isnan(value)}
    assert undefined == found.keys() - {"support"}


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("roc_auc", single([1, 1], [1, 1], np.array([[0.2, 0.8], [0.4, 0.6]]))),
        ("roc_auc", single([0, 1], [0, 1], np.array([[np.nan, np.nan], [0.4, 0.6]]))),
        ("roc_auc", multi([[1], [1]], [[1], [1]], np.array([[0.2], [0.4]]))),
        ("log_loss", single([0], [0], np.array([[np.nan, 0.5]]))),
        ("matthews_correlation", single([1, 0], [1, 1])),
        ("f1", single([0, 0], [0, 0], names=("no", "yes"))),
        ("f1_macro", multi([[0, 0]], [[0, 0]])),
        ("seqeval", tagged([["O"]], [["O"]])),
        *((name, numbers([1, 2], [0.1, 0.1])) for name in ("pearson", "spearman", "r2")),
        *((name, numbers([0.1] * 3, [1, 2, 3])) for name in ("pearson", "spearman")),
        *((name, numbers([1], [1])) for name in ("pearson", "spearman", "r2")),
        *((name, numbers([np.nan, 1], [1, 2])) for name in names_for("regression")),
        *((name, numbers([np.inf, 1], [1, 2])) for name in names_for("regression")),
    ],
)
def test_undefined_values_are_nan(name, outputs):
    assert math.isnan(one(name, outputs))


def test_zero_denominator_of_a_label_that_occurs_is_zero():
    outputs = single([0, 0, 0], [0, 1, 1], names=("no", "yes"))
    assert one("precision", outputs) == one("f1", outputs) == 0.0
    assert one("matthews_correlation", outputs) == 0.0


# ---- the evaluate.Metric interface ----


@pytest.mark.parametrize("name", METRICS)
def test_every_builtin_is_an_evaluate_metric(name):
    metric = load_metric(name)
    assert isinstance(metric, evaluate.Metric)
    assert metric.name == name
    assert METRICS[name].description in metric.description
    assert name in repr(metric)


def test_compute_with_lists_and_in_batches_agree():
    predictions, references = [0, 1, 2, 1], [0, 1, 1, 1]
    metric = load_metric("f1_macro")
    whole = metric.compute(predictions=predictions, references=references)
    metric.add_batch(predictions=predictions[:3], references=np.array(references[:3]))
    metric.add(prediction=1, reference=1)
    assert len(metric) == 4
    assert metric.compute() == whole == {"f1_macro": pytest.approx((1 + 0.8 + 0) / 3)}
    assert len(metric) == 0
    with pytest.raises(ValueError, match="has no rows"):
        metric.compute()


def test_batches_are_copied():
    buffer = np.array([1, 0])
    metric = load_metric("accuracy")
    metric.add_batch(predictions=buffer, references=[1, 0])
    buffer[:] = 0
    assert metric.compute() == {"accuracy": 1.0}


def test_each_kind_of_input_by_itself():
    assert load_metric("accuracy").compute(predictions=[[0, 1], [1, 1]], references=[[0, 1], [1, 0]]) == {
        "accuracy": 0.5
    }
    assert load_metric("mae").compute(predictions=[0.5, 1], references=[0, 1]) == {"mae": 0.25}
    area = load_metric("roc_auc").compute(prediction_scores=[0.2, 0.9, 0.4], references=[0, 1, 1])
    assert area == {"roc_auc": 1.0}
    named = load_metric("f1_per_label").compute(predictions=[0, 1], references=[0, 1], label_names=["a", "b"])
    assert named == {"f1_macro": 1.0, "f1/a": 1.0, "f1/b": 1.0}
    tagger = load_metric("seqeval")
    for predicted, expected in zip(*SENTENCES, strict=True):
        tagger.add(prediction=predicted, reference=expected)
    assert tagger.compute() == compute_metrics(["seqeval"], tagged(*SENTENCES))


def test_torch_tensors_are_taken():
    import torch

    metric = load_metric("accuracy")
    metric.add_batch(predictions=torch.tensor([1, 0]), references=torch.tensor([1, 1]))
    assert metric.compute() == {"accuracy": 0.5}


def test_combine_takes_builtins():
    both = evaluate.combine([load_metric("accuracy"), load_metric("f1_micro")])
    assert both.compute(predictions=[1, 0], references=[1, 1]) == {"accuracy": 0.5, "f1_micro": 0.5}


def test_bad_input_is_refused_with_the_reason():
    metric = load_metric("accuracy")
    with pytest.raises(ValueError, match="one length"):
        metric.add_batch(predictions=[1], references=[1, 0])
    with pytest.raises(ValueError, match="takes predictions, references"):
        metric.compute(predictions=[1])
    with pytest.raises(ValueError, match="whole numbers"):
        metric.compute(predictions=[0.5], references=[1])
    with pytest.raises(ValueError, match="1 predictions, 2 references"):
        single([1], [1, 0])
    with pytest.raises(ValueError, match="sentence 1 has 2 predicted tags and 1 reference tags"):
        tagged([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(ValueError, match="unknown kind"):
        Outputs("labels", np.zeros(1), np.zeros(1))  # type: ignore[arg-type]


def test_nothing_is_written_and_numpys_generator_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    before = np.random.get_state()[1].copy()
    compute_metrics(["accuracy", "f1"], single([0, 1], [0, 1]))
    assert list(tmp_path.iterdir()) == []
    assert (np.random.get_state()[1] == before).all()


def test_threads_do_not_disturb_each_other():
    results: dict[int, set[float]] = {}

    def work(right: int) -> None:
        outputs = single([1] * right + [0] * (20 - right), [1] * 20)
        results[right] = {compute_metrics(["accuracy"], outputs)["accuracy"] for _ in range(20)}

    threads = [threading.Thread(target=work, args=(right,)) for right in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {right: {right / 20} for right in range(8)}


# ---- names ----


def test_check_metric_names_reports_every_problem():
    assert check_metric_names(["accuracy", "f1_macro", "roc_auc"], "single_label") == []
    unknown, wrong = check_metric_names(["f1-marco", "accuracy"], "regression")
    assert "'f1-marco'" in unknown
    assert "did you mean 'f1_macro'?" in unknown
    assert "does not fit regression" in wrong
    assert wrong.endswith("pearson, spearman, mse, rmse, mae, r2")


def test_check_metric_names_lets_paths_and_hub_repositories_through(tmp_path):
    script = tmp_path / "mine.py"
    script.touch()
    assert check_metric_names([str(script), "evaluate-metric/rouge", str(tmp_path)], "tags") == []
    (problem,) = check_metric_names([str(tmp_path / "absent.py")], "tags")
    assert "does not exist" in problem


def test_direction_and_main_key():
    lower = {name for name in METRICS if not greater_is_better(name)}
    likelihoods = {"perplexity", "pseudo_perplexity", "bits_per_byte", "rejected_log_probability"}
    assert lower == {"log_loss", "mse", "rmse", "mae"} | likelihoods
    assert greater_is_better("f1/PER")
    assert main_key("f1_per_label") == "f1_macro"
    assert main_key("metrics/mine.py") == "mine"
    assert main_key("evaluate-metric/rouge") == "rouge"
    with pytest.raises(ConfigError, match="state the direction"):
        greater_is_better("evaluate-metric/wer")


def test_compute_metrics_lists_every_misfit_at_once():
    with pytest.raises(ConfigError) as caught:
        compute_metrics(["mse", "roc_auc", "accuracy"], single([1], [1]))
    assert "'mse' does not fit" in str(caught.value)
    assert "'roc_auc' needs scores" in str(caught.value)


# ---- modules from elsewhere ----

SCRIPT = """
import datasets
import evaluate

class Mine(evaluate.Metric):
    def _info(self):
        value = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="",
            features=datasets.Features({{{columns}}}),
        )

    def _compute(self, predictions, references):
        right = sum(p == r for p, r in zip(predictions, references))
        return {{"mine": right, "accuracy": -1, "by": {{"row": [1, 2.5]}}, "note": "text"}}
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A metric script, and a cache for `evaluate` inside the test's folder."""
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.startswith("evaluate_modules")]:
        monkeypatch.delitem(sys.modules, name)

    def write(columns: str = '"predictions": value, "references": value') -> str:
        path: Path = tmp_path / "mine.py"
        path.write_text(SCRIPT.format(columns=columns))
        return str(path)

    return write


def test_local_script_is_loaded_computed_and_flattened(script, monkeypatch):
    def no_network(*_args, **_kwargs):
        raise AssertionError("a local script must not ask the network")

    monkeypatch.setattr("socket.socket.connect", no_network)
    found = compute_metrics(["accuracy", script()], single([1, 0, 2], [1, 0, 0]))
    assert found == {
        "accuracy": pytest.approx(2 / 3),
        "mine": 2.0,
        "mine/accuracy": -1.0,  # the key was taken
        "by/row/0": 1.0,
        "by/row/1": 2.5,
    }


def test_local_script_on_empty_outputs_is_nan(script):
    assert math.isnan(one(script(), single([], [])))


def test_script_that_asks_for_unknown_columns_is_refused(script):
    path = script('"predictions": value, "sources": value')
    with pytest.raises(ConfigError, match="asks for predictions, sources"):
        compute_metrics([path], single([1], [1]))


def test_broken_script_names_its_error(tmp_path, script):
    path = tmp_path / "broken.py"
    path.write_text("import evaluate\nraise RuntimeError('boom')\n")
    with pytest.raises(ConfigError, match=r"does not load \(RuntimeError: boom\)"):
        load_metric(str(path))


@pytest.mark.parametrize("error", [ConnectionError("offline"), FileNotFoundError("no such module")])
def test_unknown_name_or_no_network_is_a_config_error(monkeypatch, error):
    def load(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(evaluate, "load", load)
    with pytest.raises(ConfigError) as caught:
        load_metric("acuracy")
    message = str(caught.value)
    assert "did you mean 'accuracy'?" in message
    assert "roc_auc" in message
    assert str(error) in message


# ---- import cost ----


def test_importing_the_package_and_checking_names_loads_nothing_heavy():
    code = """
        import sys
        from nlp_pipeline.evaluation import metrics
        metrics.check_metric_names(["f1", "nope"], "tags")
        metrics.main_key("f1"), metrics.greater_is_better("f1")
        heavy = {"torch", "evaluate", "sklearn", "datasets", "transformers", "scipy", "numpy", "seqeval"}
        print(sorted(heavy & sys.modules.keys()))
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
