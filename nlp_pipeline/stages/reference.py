"""What the model that training starts from says of the rows: computed once, before training, and kept on disk."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import ModelConfig
from ..run_directory import text_hash

if TYPE_CHECKING:
    import numpy as np

    from ..data.token_table import TokenTable
    from ..recipe import Recipe

FILE = "columns.arrow"


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


def kept_columns(
    recipe: "Recipe",
    table: "TokenTable",
    config: ModelConfig,
    compute: Any,
    exact: bool,
    about: Mapping[str, Any] | None = None,
) -> "TokenTable":
    """The table with more columns: those of `compute(values)`, found on disk where model and rows are the same.

    Args:
        config: the model that says it.
        compute: makes columns (Arrow arrays by name) of `reference_values`, which `exact` goes to.
        about: the settings that `compute` goes by.
    """
    import pyarrow as pa

    from ..evaluation.prediction import shared_from_main

    file = _place(recipe, table, config, exact, about or {})
    if shared_from_main(file is not None and file.exists(), recipe.accelerator):
        assert file is not None
        recipe.reporter.say(f"reference: cache hit, {len(table):,} rows")
        with pa.memory_map(str(file)) as source:
            found = pa.ipc.open_file(source).read_all()
        return table.with_columns({name: found.column(name) for name in found.column_names})
    columns = compute(reference_values(recipe, table, config, exact))
    if file is not None:
        if recipe.accelerator.is_main_process:
            _write(file, columns)
        recipe.accelerator.wait_for_everyone()
    recipe.reporter.say(f"reference: {len(table):,} rows by {config.name}, kept for later starts")
    return table.with_columns(columns)


def _place(
    recipe: "Recipe", table: "TokenTable", config: ModelConfig, exact: bool, about: Mapping[str, Any]
) -> Path | None:
    """The file for these rows and this model; in the run's folder where tokenized rows aren't kept."""
    import json

    from ..data.tokenization import cache_root
    from ..modeling.loading import model_identity

    if table.key is None:
        return None
    settings = recipe.config.tokenization
    root = cache_root(settings.cache_dir) if settings.cache else recipe.run_directory.path
    parts = {
        "rows": table.key,
        "model": model_identity(config),
        "precision": "no" if exact else str(recipe.accelerator.mixed_precision),
        "seed": recipe.config.training.seed if config.architecture is not None else None,
        **about,
    }
    return root / "reference" / text_hash(json.dumps(parts, sort_keys=True))[:32] / FILE


def _write(file: Path, columns: "Mapping[str, Any]") -> None:
    """Aside, then in one go: what lies under its final name is whole."""
    import pyarrow as pa

    file.parent.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=file.parent.parent))
    try:
        table = pa.table(dict(columns))
        with open(aside / FILE, "wb") as sink:
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            sink.flush()
            os.fsync(sink.fileno())
        aside.rename(file.parent)
    except OSError:
        if not file.exists():  # else another run wrote the same meanwhile
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
