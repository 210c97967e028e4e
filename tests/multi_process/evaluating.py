"""Scores of the first 1 to 33 rows of a file, by all the processes that were started: RUN ROWS OUT."""

import json
import sys
from pathlib import Path

from nlp_pipeline import Recipe
from nlp_pipeline.devices import leave_processes
from nlp_pipeline.stages.scoring import evaluate_source

MOST_ROWS = 33


def main(run: str, file: str, out: str) -> None:
    recipe = Recipe.from_pretrained(run)
    rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
    found = {}
    for n in range(1, MOST_ROWS + 1):
        found[n] = evaluate_source(recipe, rows[:n], progress=False)
        found[n]["processes"] = recipe.accelerator.num_processes
        if n in (1, 2, 4, MOST_ROWS):
            records = recipe.predict([row["text"] for row in rows[:n]])
            found[n]["ids"] = [record["row_id"] for record in records]
    if recipe.is_main_process:
        Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
    leave_processes()
