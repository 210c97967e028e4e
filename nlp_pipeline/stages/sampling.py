"""A few rows with the saved model's predictions: by them a copy of the model is checked elsewhere."""

import json
from typing import TYPE_CHECKING, Any

from ..run_directory import lines_file

if TYPE_CHECKING:
    import datasets

    from ..recipe import Recipe

SAMPLE_ROWS = 32
LONGEST_ROW = 1 << 16
"""Characters of a row as JSON; longer ones are left out unless there are no others."""


def write_sample(recipe: "Recipe", rows: "datasets.Dataset") -> None:
    """Write `sample.jsonl`: rows without their labels, spread over a split, and what the model says of them.

    They are predicted by themselves, as they will be elsewhere; every process has to call this.
    """
    sample = sample_rows(recipe, rows)
    records = recipe.predict(sample, exact=True)
    if recipe.accelerator.is_main_process:
        with lines_file(recipe.run_directory.sample) as write:
            write({"row": row, "expected": record} for row, record in zip(sample, records, strict=True))


def sample_rows(recipe: "Recipe", rows: "datasets.Dataset", count: int = SAMPLE_ROWS) -> list[dict[str, Any]]:
    """At most `count` rows at even distances, in the task's own columns."""
    total = len(rows)
    places = sorted({i * total // count for i in range(count)})
    names = [c.name for c in recipe.columns() if not c.is_label and c.name in rows.column_names]
    found = [{name: value for name, value in rows[place].items() if name in names} for place in places]
    if key := recipe.config.data.id_column:
        found = [{key: rows[place]["row_id"]} | row for place, row in zip(places, found, strict=True)]
    short = [row for row in found if len(json.dumps(row, default=str)) <= LONGEST_ROW]
    return short or found[:1]
