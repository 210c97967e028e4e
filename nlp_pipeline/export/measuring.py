"""How fast each form of a model predicts on this machine's CPU, and the table of all of them."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..progress import Reporter

if TYPE_CHECKING:
    from ..recipe import Recipe
    from .rows import CheckRows

BATCH = 32
MOST_ROWS = 256
ROUNDS = 3


@dataclass
class Variant:
    """One form of the model."""

    name: str
    folder: str
    megabytes: float
    score: float | None
    largest: float | None = None
    """Largest absolute difference of any output from the PyTorch model's; None for that model itself."""
    differing: int | None = None
    compared: int = 0
    rows_per_second: float | None = None
    note: str = ""


def speeds(recipe: "Recipe", models: Mapping[str, Any], rows: "CheckRows", rounds: int = ROUNDS) -> dict[str, float]:
    """Rows a second of each model by name, the median of some rounds in which they run in turn.

    Batches of 32 rows sorted by length, at most 256 rows; tokenization isn't in it.
    """
    from ..evaluation.prediction import predict_table

    total = len(rows.rows)
    chosen = np.unique(np.linspace(0, total - 1, min(total, MOST_ROWS)).astype(int))
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(rounds + 1):
        for name, model in models.items():
            began = time.perf_counter()
            predict_table(recipe, model, rows.table, recipe.accelerator, BATCH, only=chosen, collect=_nothing)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
    return {name: len(chosen) / statistics.median(times) for name, times in seconds.items()}


def _nothing(outputs: Any, batch: Any) -> list[np.ndarray]:
    return [np.zeros(0)] * len(batch.rows)


def show(variants: list[Variant], metric: str, rows: str, threads: int, reporter: Reporter) -> None:
    """The table: size, speed, score and difference of each form."""
    from rich.table import Table

    from ..evaluation.report import number

    title = f"checked on {rows}; speed on {threads} thread{'s' if threads > 1 else ''}, {BATCH} rows a batch"
    table = Table(title=title, title_justify="left")
    for column in ("form", "MB", "rows/s", metric, "largest difference", "predictions differ"):
        table.add_column(column, justify="left" if column == "form" else "right", no_wrap=column == "form")
    for variant in variants:
        table.add_row(
            variant.name,
            f"{variant.megabytes:,.1f}",
            "–" if variant.rows_per_second is None else f"{variant.rows_per_second:,.1f}",
            number(variant.score),
            "–" if variant.largest is None else f"{variant.largest:.2g}",
            "–" if variant.differing is None else f"{variant.differing} of {variant.compared:,}",
        )
    reporter.show(table)
