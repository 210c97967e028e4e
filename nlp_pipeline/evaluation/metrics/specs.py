"""The table of built-in metrics, and checks of names against it. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_pipeline.evaluation.metrics.outputs import KINDS, Kind

if TYPE_CHECKING:
    from nlp_pipeline.evaluation.metrics.counts import Tally
    from nlp_pipeline.evaluation.metrics.outputs import Outputs

STATISTICS = ("precision", "recall", "f1")
AVERAGES = ("macro", "micro", "weighted")
COUNTING = (
    "classification", "tagging", "answers", "likelihood", "ranking", "preferences", "translations", "summaries",
)  # fmt: skip
"""Modules whose metrics are functions of counts."""


@dataclass(frozen=True)
class MetricSpec:
    """One built-in metric: what it fits, which way is better, and where its function is.

    Attributes:
        name: what a recipe writes.
        kinds: the kinds of prediction it fits.
        main_key: the key of `compute_metrics`' result that stands for this metric, as in "best checkpoint".
        function: "module:function" inside this package, imported on first use.
        options: keyword arguments which that function takes from the table.
        greater_is_better: whether a larger value is a better model.
        needs_scores: whether it reads `Outputs.scores` instead of `Outputs.predictions`.
        reference_score_does: whether `Outputs.reference_scores` serves it as well as all the scores.
        description: one line for reports and for `evaluate`'s module card.
    """

    name: str
    kinds: frozenset[Kind]
    main_key: str
    function: str
    description: str
    options: Mapping[str, str] = field(default_factory=dict)
    greater_is_better: bool = True
    needs_scores: bool = False
    reference_score_does: bool = False

    def resolve(self) -> Callable[..., dict[str, float]]:
        """Import the pure function: `function(outputs, **options)` gives a flat dict of floats."""
        found: Callable[..., dict[str, float]] = _import_function(self.function)
        return found

    def values(self, outputs: Outputs) -> dict[str, float]:
        """Compute the metric without the `evaluate` adapter."""
        return self.resolve()(outputs, **self.options)

    @property
    def counts_rows(self) -> str | None:
        """The function that counts row by row, if the metric is a function of counts.

        It gives a `counts.Tally` of the outputs; the metric's own function takes a sum of its rows as `counted`.
        """
        module = self.function.partition(":")[0]
        return f"{module}:tally" if module in COUNTING else None

    def tally(self, outputs: Outputs) -> Tally:
        """The counts of each row; only for a metric that counts rows."""
        assert self.counts_rows is not None, f"{self.name} is no function of counts"
        found: Tally = _import_function(self.counts_rows)(outputs)
        return found


def _import_function(place: str) -> Any:
    module, _, function = place.partition(":")
    return getattr(import_module(f"{__package__}.{module}"), function)


def _spec(name: str, kinds: str, function: str, description: str, **settings: Any) -> MetricSpec:
    """One row of the table: `kinds` is a space-separated list."""
    wanted = frozenset(kind for kind in KINDS if kind in kinds.split())
    return MetricSpec(name, wanted, settings.pop("main_key", name), function, description, **settings)


def _average_specs() -> Iterable[MetricSpec]:
    """precision, recall and f1: plain, averaged in three ways, and for each label."""
    function, kinds = "classification:precision_recall_f1", "single_label multi_label"
    for statistic in STATISTICS:
        options = {"statistic": statistic}
        yield _spec(
            statistic,
            kinds,
            function,
            f"{statistic} of the second label of two, or the macro average of more labels",
            options={**options, "average": "plain"},
        )
        for average in AVERAGES:
            text = f"{average} average of {statistic} over the labels that occur"
            yield _spec(f"{statistic}_{average}", kinds, function, text, options={**options, "average": average})
        yield _spec(
            f"{statistic}_per_label",
            kinds,
            function,
            f"{statistic} of each label, and their macro average",
            main_key=f"{statistic}_macro",
            options={**options, "average": "per_label"},
        )


def _ranking_specs() -> Iterable[MetricSpec]:
    """Measures of ranked candidates, or of all the texts of a split."""
    texts = {
        "mrr@10": "mean of 1 / the place of the first relevant candidate, 0 beyond place 10",
        "ndcg@10": "discounted gain of the first 10 candidates by that of the best order",
        "map": "mean over rows of the mean precision down to each relevant candidate",
        "recall@1": "mean share of what is relevant that stands first",
        "recall@10": "mean share of what is relevant that stands among the first 10",
    }
    for name, text in texts.items():
        yield _spec(name, "ranking retrieval", "ranking:ranking", text, options={"name": name})
    name, text = "nearest_neighbour_accuracy", "share of texts whose most alike other text is one that belongs to them"
    yield _spec(name, "retrieval", "ranking:ranking", text, options={"name": name})


def _preference_specs() -> Iterable[MetricSpec]:
    """What is told of pairs of replies."""
    for name, better, description in (
        ("preference_accuracy", True, "share of the pairs in which the chosen reply has the larger reward"),
        ("reward_margin", True, "mean reward of the chosen reply, less that of the rejected one"),
        ("chosen_log_probability", True, "mean log-likelihood of a chosen reply, in nats"),
        ("rejected_log_probability", False, "mean log-likelihood of a rejected reply, in nats"),
    ):
        options = {"name": name}
        yield _spec(name, "preference", "preferences:mean_of", description, options=options, greater_is_better=better)


def _table() -> dict[str, MetricSpec]:
    labels, numbers = "single_label multi_label", "regression"
    specs = [
        _spec("accuracy", labels, "classification:accuracy", "share of rows that are right in every label"),
        _spec(
            "balanced_accuracy",
            "single_label",
            "classification:balanced_accuracy",
            "mean recall of the reference labels",
        ),
        *_average_specs(),
        _spec(
            "matthews_correlation",
            "single_label",
            "classification:matthews_correlation",
            "correlation of predicted and reference labels, -1 to 1",
        ),
        _spec(
            "log_loss",
            "single_label",
            "scores:log_loss",
            "mean negative log probability of the reference label, in nats",
            greater_is_better=False,
            needs_scores=True,
            reference_score_does=True,
        ),
        _spec(
            "roc_auc",
            labels,
            "scores:roc_auc",
            "chance that a positive row outscores a negative one; macro one-versus-rest",
            needs_scores=True,
        ),
        _spec("pearson", numbers, "regression:pearson", "linear correlation, -1 to 1"),
        _spec("spearman", numbers, "regression:spearman", "rank correlation, -1 to 1"),
        _spec(
            "mse",
            numbers,
            "regression:mse",
            "mean squared error, in squared target units",
            greater_is_better=False,
        ),
        _spec(
            "rmse",
            numbers,
            "regression:rmse",
            "root mean squared error, in target units",
            greater_is_better=False,
        ),
        _spec("mae", numbers, "regression:mae", "mean absolute error, in target units", greater_is_better=False),
        _spec("r2", numbers, "regression:r2", "share of the references' variance that is explained"),
        _spec("seqeval", "tags", "tagging:seqeval", "entity-level precision, recall and f1", main_key="f1"),
        _spec(
            "perplexity",
            "likelihood",
            "likelihood:perplexity",
            "exp of the mean negative log-likelihood of a token",
            greater_is_better=False,
        ),
        _spec(
            "pseudo_perplexity",
            "likelihood",
            "likelihood:perplexity",
            "perplexity of a token that is hidden, given all the others of its text",
            options={"name": "pseudo_perplexity"},
            greater_is_better=False,
        ),
        _spec(
            "bits_per_byte",
            "likelihood",
            "likelihood:bits_per_byte",
            "negative log2-likelihood of a text by its bytes",
            greater_is_better=False,
        ),
        *_preference_specs(),
        _spec(
            "squad", "text", "answers:squad", "exact match and F1 of the words, as SQuAD's own script", main_key="f1"
        ),
        _spec("bleu", "text", "translations:bleu", "sacreBLEU of all texts together, 0 to 100"),
        _spec("chrf", "text", "translations:chrf", "character n-gram F-score of all texts together, 0 to 100"),
        _spec("rouge", "text", "summaries:rouge", "ROUGE-1, -2, -L and -Lsum, 0 to 1", main_key="rougeL"),
        *_ranking_specs(),
    ]
    return {spec.name: spec for spec in specs}


METRICS: dict[str, MetricSpec] = _table()


def is_module_path(name: str) -> bool:
    """Whether `name` reads as a script, a folder or a Hub repository ("owner/name")."""
    return name.endswith(".py") or "/" in name


def unknown_name(name: str) -> str:
    """The problem text for a name that is no built-in: nearest match first, then the whole list."""
    close = get_close_matches(name.lower().replace("-", "_").replace(" ", "_"), METRICS, n=1)
    nearest = f"; did you mean {close[0]!r}?" if close else "."
    return (
        f"unknown metric {name!r}{nearest} Built-in metrics: {', '.join(METRICS)}. "
        f"For others give the path of a .py metric script, or a Hub repository, as 'evaluate-metric/rouge'."
    )


def check_metric_names(names: Iterable[str], kind: Kind) -> list[str]:
    """Problems with the metrics a recipe names for predictions of `kind`; an empty list means none.

    Loads nothing and asks no network: a Hub repository ("owner/name") is let through unseen, a ".py" path
    must exist.
    """
    problems = []
    for name in names:
        spec = METRICS.get(name)
        if spec is not None:
            if kind not in spec.kinds:
                fitting = ", ".join(other.name for other in METRICS.values() if kind in other.kinds)
                problems.append(f"metric {name!r} does not fit {kind} predictions; these do: {fitting}")
        elif not is_module_path(name):
            problems.append(unknown_name(name))
        elif name.endswith(".py") and not os.path.isfile(name):
            problems.append(f"metric script {name!r} does not exist (looked in {Path.cwd()})")
    return problems


def main_key(name: str) -> str:
    """The result key that stands for metric `name`: its own for a built-in ("f1" for seqeval).

    Modules from elsewhere follow the `evaluate` convention: the key is the last part of their name.
    """
    spec = METRICS.get(name)
    return spec.main_key if spec is not None else Path(name).stem


def greater_is_better(name: str) -> bool:
    """Whether a larger value of metric `name` means a better model.

    Also takes the result keys of the per-label metrics and of seqeval ("f1/PER"). A module from elsewhere
    does not say, and a guess could keep the worst checkpoint, so that raises ConfigError.
    """
    spec = METRICS.get(name) or METRICS.get(name.partition("/")[0])
    if spec is None:
        from nlp_pipeline.errors import ConfigError

        raise ConfigError(
            f"metric {name!r} is not built in, so whether greater is better is unknown; "
            f"choose the best checkpoint by a built-in metric or state the direction in the recipe"
        )
    return spec.greater_is_better
