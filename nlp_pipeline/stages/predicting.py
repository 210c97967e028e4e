"""The saved model on new rows, a window of them at a time."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from ..errors import ConfigError
from ..secrets import literal
from ..startup import release_collector
from .fitting import run_packed
from .tokenizing import make_encoder

if TYPE_CHECKING:
    import datasets
    import numpy as np

    from ..data.fields import Batch
    from ..data.streaming import FileRows, RecordRows, TableRows
    from ..evaluation.prediction import RowOutputs
    from ..progress import Bar
    from ..recipe import Recipe


def loaded_model(recipe: "Recipe") -> tuple[Any, Any]:
    """The fine-tuned model as it lies on disk, in full precision, and its encoder. Loaded once."""
    if recipe._model_folder is None:
        raise ConfigError("there is no trained model yet: call run() or fit() first, or load one with from_pretrained")
    if recipe._loaded is None:
        from ..export.onnx_model import exported_model

        exported = exported_model(recipe._model_folder, recipe.config.model)
        model = plain_model(recipe, recipe._model_folder) if exported is None else exported
        if not hasattr(recipe, "encoder"):
            recipe.restore(model.config)
            make_encoder(recipe)
        if exported is None:
            run_packed(recipe, model)
        release_collector()
        recipe._loaded = (model.to(recipe.accelerator.device), recipe.encoder)
    return recipe._loaded


def plain_model(recipe: "Recipe", folder: Path) -> Any:
    """The transformers model of a folder, in float32."""
    from ..modeling.loading import load_model

    saved = recipe.config.model.model_copy(
        update={
            "name": literal(folder.resolve()),
            "sha256": None,
            "revision": None,
            "tokenizer": None,
            "architecture": None,
            "layers": None,
            "quantization": None,
        }
    )
    return load_model(saved, recipe.auto_model, {})


def predict_windows(
    recipe: "Recipe", rows: Any, progress: bool, ids: Sequence[Any] | None, exact: bool
) -> Iterator[list[dict[str, Any]]]:
    """Predictions for new rows in their order, a window at a time. Labels that they may have are not even read."""
    from ..progress import Reporter

    if isinstance(rows, (list, tuple)) and not rows:
        return
    loaded_model(recipe)
    source = open_source(recipe, rows, ids)
    total = len(source) if hasattr(source, "__len__") else None
    reporter = Reporter(active=progress and recipe.is_main_process and total is not None)
    with reporter.bar("Predicting", total or 0) as bar:
        for window in source:
            found = predict_window(recipe, window, bar, exact, recipe.preprocess_inputs)
            yield recipe.postprocess(found.values, window)


def open_source(recipe: "Recipe", rows: Any, ids: Sequence[Any] | None = None) -> "FileRows | TableRows | RecordRows":
    """Rows to predict, as windows: from a stream of lines, a file, or objects."""
    from ..data.streaming import RecordRows, open_rows
    from ..standard_input import row_windows

    columns = recipe.input_columns()
    size = recipe.config.batch.window
    if isinstance(rows, io.TextIOBase):
        arriving = from_main((row_windows(cast(TextIO, rows), size) if recipe.is_main_process else ()), recipe)
        parts = ((numbers, named_columns(recipe, values)) for numbers, values in arriving)
        return RecordRows(parts, recipe.config.data, columns, "standard input")
    return open_rows(as_source(recipe, rows, ids), recipe.config.data, columns, size)


def from_main(windows: Iterable[Any], recipe: "Recipe") -> Iterator[Any]:
    """What only the main process can read, on every process."""
    from ..evaluation.prediction import shared_from_main

    if recipe.accelerator.num_processes == 1:
        yield from windows
        return
    waiting = iter(windows)
    while (window := shared_from_main(next(waiting, None), recipe.accelerator)) is not None:
        yield window


def predict_window(
    recipe: "Recipe",
    rows: "datasets.Dataset",
    bar: "Bar | None",
    exact: bool = True,
    preprocess: Any = None,
    collect: "Callable[[Any, Batch], list[np.ndarray]] | None" = None,
) -> "RowOutputs":
    """What the saved model says of rows, which `preprocess` (by default the task's) makes tokens of.

    Without `exact` a device with bfloat16 computes in it first, and in float32 once more what was a close call.

    Args:
        collect: in place of the task's own, of a task that knows no close calls.
    """
    import numpy as np

    from ..data.tokenization import tokenize_window
    from ..evaluation.prediction import predict_table

    model, encoder = loaded_model(recipe)
    accelerator, size = recipe.accelerator, recipe.config.batch.evaluation
    made = preprocess or recipe.preprocess
    table = recipe.complete(tokenize_window(rows, lambda part: made(part, encoder)))
    exact = exact or getattr(model, "exact", False)
    if exact or accelerator.mixed_precision != "bf16" or recipe.unsure([]) is None:
        return predict_table(recipe, model, table, accelerator, size, bar, collect=collect)
    with accelerator.autocast():
        found = predict_table(recipe, model, table, accelerator, size, bar)
    again = recipe.unsure(found.values)
    assert again is not None
    if len(again):
        second = predict_table(recipe, model, table, accelerator, size, only=np.asarray(again))
        for row, value in zip(again, second.values, strict=True):
            found.values[row] = value
    return found


def as_source(recipe: "Recipe", rows: Any, ids: Sequence[Any] | None = None) -> Any:
    """Plain texts, pairs or token lists as rows with the task's column names; all else as it is.

    Args:
        ids: what the rows are called in the output, where they don't say themselves.
    """
    if isinstance(rows, Path):
        return str(rows)
    if not isinstance(rows, (list, tuple)) or not rows:
        return rows
    if not isinstance(rows[0], Mapping):
        rows = named_columns(recipe, rows)
        ids = ids or range(1, len(rows) + 1)
    key = recipe.config.data.id_column or "id"
    return [{key: str(i), **row} for i, row in zip(ids, rows, strict=True)] if ids else rows


def named_columns(recipe: "Recipe", rows: Sequence[Any]) -> list[Any]:
    """Plain texts, pairs or token lists under the task's column names; records as they are."""
    names = [column.name for column in recipe.columns()]
    as_tuples = (row if isinstance(row, (tuple, Mapping)) else (row,) for row in rows)
    return [row if isinstance(row, Mapping) else dict(zip(names, row, strict=False)) for row in as_tuples]
