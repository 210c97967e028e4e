"""Load a metric by name, and compute a list of metrics over one split's outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_pipeline.evaluation.metrics.outputs import Outputs
from nlp_pipeline.evaluation.metrics.specs import METRICS, check_metric_names, main_key, unknown_name

if TYPE_CHECKING:
    import evaluate


def load_metric(name: str) -> evaluate.EvaluationModule:
    """A fresh `evaluate.Metric`: built in, a script's path, or a repository of the Hub.

    A built-in needs no network and no disk, and its instances are independent, so threads may each load one.
    Anything else goes through `evaluate.load`, which runs the module's code, may ask the Hub, keeps a copy
    of the script in the Hugging Face cache, and seeds numpy's global generator while it computes.

    Raises:
        ConfigError: the name is unknown, the Hub cannot be reached, or the script does not load.
    """
    if name in METRICS:
        from nlp_pipeline.evaluation.metrics.module import BuiltinMetric

        return BuiltinMetric(METRICS[name])

    import evaluate

    from nlp_pipeline.errors import ConfigError

    try:
        return evaluate.load(name, keep_in_memory=True)
    except Exception as error:  # a module is foreign code: whatever it raises is a problem of the recipe
        reason = f"{type(error).__name__}: {error}"
        if Path(name).exists():
            raise ConfigError(f"metric script {name!r} does not load ({reason})") from error
        raise ConfigError(
            f"{unknown_name(name)} `evaluate` cannot load it, or not without network ({reason})"
        ) from error


def compute_metrics(names: Iterable[str], outputs: Outputs) -> dict[str, float]:
    """Compute each named metric and lay the results out flat, {"accuracy": 0.9, "f1/spam": 0.8, …}.

    Undefined values are nan: empty input, one class only for roc_auc, constant input to a correlation.
    Results of modules from elsewhere are flattened with "/" between levels, and what is no number is left
    out; a key that is already taken gets the module's name before it.

    Raises:
        ConfigError: a name does not fit these outputs; all problems at once.
    """
    names = list(dict.fromkeys(names))
    problems = check_metric_names([name for name in names if name in METRICS], outputs.kind)
    if outputs.scores is None:
        needy = [name for name in names if name in METRICS and METRICS[name].needs_scores]
        if outputs.reference_scores is not None:
            needy = [name for name in needy if not METRICS[name].reference_score_does]
        problems += [f"metric {name!r} needs scores (probabilities), and the outputs have none" for name in needy]
    if problems:
        from nlp_pipeline.errors import ConfigError

        raise ConfigError(problems)
    results: dict[str, float] = {}
    for name in names:
        if name in METRICS:
            results.update(_builtin(name, outputs))
        else:
            for key, value in _foreign(name, outputs).items():
                results[f"{Path(name).stem}/{key}" if key in results else key] = value
    return results


@cache
def wants_scores(name: str) -> bool:
    """Whether a metric reads the scores of every label, for every row."""
    if name in METRICS:
        return METRICS[name].needs_scores and not METRICS[name].reference_score_does
    from nlp_pipeline.evaluation.metrics.module import SCORES, module_inputs

    return SCORES in module_inputs(load_metric(name))


def _builtin(name: str, outputs: Outputs) -> dict[str, float]:
    columns: dict[str, Any] = {"predictions": outputs.predictions, "references": outputs.references}
    # `evaluate` has no column for the references' scores alone, nor anything that metrics have in common.
    if (METRICS[name].needs_scores and outputs.scores is None) or outputs.kind == "retrieval":
        return METRICS[name].values(outputs)
    if METRICS[name].needs_scores:
        columns = {"prediction_scores": outputs.scores, "references": outputs.references}
    result: dict[str, float] = load_metric(name).compute(**columns, label_names=outputs.label_names)
    return result


def _foreign(name: str, outputs: Outputs) -> dict[str, float]:
    """Compute a module that is not ours from the columns it asks for."""
    from nlp_pipeline.evaluation.metrics.module import as_columns, module_inputs

    if len(outputs) == 0:  # most modules fail on it
        return {main_key(name): float("nan")}
    module = load_metric(name)
    columns, wanted = as_columns(outputs), module_inputs(module)
    if not wanted <= columns.keys():
        from nlp_pipeline.errors import ConfigError

        raise ConfigError(
            f"metric {name!r} asks for {', '.join(sorted(wanted))}; the outputs have {', '.join(columns)}"
        )
    return dict(_flatten(module.compute(**{column: columns[column] for column in wanted})))


def _flatten(value: Any, key: str = "") -> Iterable[tuple[str, float]]:
    """("a/b", number) for every number within nested dicts, lists and arrays."""
    if isinstance(value, Real):
        yield key, float(value)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flatten(part, f"{key}/{name}" if key else str(name))
    elif hasattr(value, "tolist"):
        yield from _flatten(value.tolist(), key)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _flatten(part, f"{key}/{index}")
