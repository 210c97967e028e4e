"""What the model that training starts from, or another untrained one, says of rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ..config.schema import ModelConfig
from .kept import kept_columns

if TYPE_CHECKING:
    import numpy as np

    from ..data.token_table import TokenTable
    from ..recipe import Recipe


def reference_values(recipe: "Recipe", table: "TokenTable", config: ModelConfig, exact: bool) -> "Sequence[np.ndarray]":
    """What `collect` gives of every example, by a model as it is before training, on every process.

    A model from scratch is drawn as training draws it.

    Args:
        exact: in float32, else in the arithmetic of training.
    """
    from transformers import set_seed

    from ..evaluation.prediction import predict_table
    from ..modeling.loading import load_model
    from ..startup import collect_all
    from .fitting import run_packed

    set_seed(recipe.config.training.seed)
    model = load_model(config, recipe.auto_model, recipe.model_settings(), recipe.pad_token_id)
    run_packed(recipe, model)
    model.to(recipe.accelerator.device)
    size = recipe.config.batch.evaluation
    precision = nullcontext() if exact else recipe.accelerator.autocast()
    with recipe.reporter.bar("Reference model", len(table)) as bar, precision:
        found = predict_table(recipe, model, table, recipe.accelerator, size, bar)
    del model
    collect_all()  # before the model to train is loaded
    return found.values


def with_reference(
    recipe: "Recipe",
    table: "TokenTable",
    config: ModelConfig,
    compute: Any,
    exact: bool,
    about: Mapping[str, Any] | None = None,
) -> "TokenTable":
    """The table with more columns: those of `compute(values)`, found on disk where model and rows are the same.

    Args:
        table: rows that aren't in the cache are read anew each time.
        config: the model that says it.
        compute: makes columns (Arrow arrays by name) of `reference_values`, which `exact` goes to.
        about: the settings that `compute` goes by.
    """
    import pyarrow as pa

    from ..modeling.loading import model_identity

    if table.key is None:
        return table.with_columns(compute(reference_values(recipe, table, config, exact)))
    parts = {
        "rows": table.key,
        "model": model_identity(config),
        "precision": "no" if exact else str(recipe.accelerator.mixed_precision),
        "seed": recipe.config.training.seed if config.architecture is not None else None,
        **(about or {}),
    }

    def made() -> "Iterator[pa.Table]":
        yield pa.table(dict(compute(reference_values(recipe, table, config, exact))))

    return table.with_columns(kept_columns(recipe, "reference", parts, made))
