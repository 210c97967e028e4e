"""Loads the data as training would, so that the recipe trains as it is."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from ..config import Config, build_config
from ..errors import DataError
from .draft import Draft

WHY = {
    "missing_labels": "some rows lack a label or a text: they are left out",
    "id_column": "",
    "test_fraction": "too few rows of each label for test rows of their own: the validation rows are scored",
}


def rehearse(draft: Draft, name: str) -> list[str]:
    """Load the data, and add the settings without which that fails.

    Args:
        name: of the run.

    Returns:
        Lines on what was loaded.

    Raises:
        ConfigError, DataError: what is wrong in spite of those settings.
    """
    failure: DataError | None = None
    for changes in _remedies(draft):
        config = build_config({**draft.settings(changes), "name": name})
        try:
            lines = _load(config)
        except DataError as error:
            failure = failure or error
            continue
        for key, value in changes.items():
            draft.set("data", key, value, WHY[key])
        return lines
    assert failure is not None  # the first remedy, to change nothing, was tried
    raise DataError([*failure.problems, "no recipe was written: mend the data, then run `nlp-pipeline init` again"])


def _remedies(draft: Draft) -> Iterator[dict[str, Any]]:
    """Changes of the data settings to try in turn; none comes first."""
    data = draft.sections["data"]
    nothing: dict[str, Any] = {}
    tests = ids = [nothing]
    if draft.sections["options"].get("problem") == "single_label":
        # Carved class by class: of two rows a class can give one part only.
        tests = [nothing, {"test_fraction": 0.0}] if data.get("test_fraction") else tests
    if "id_column" in data:
        ids = [nothing, {"id_column": None}]
    for changes in product(tests, ids, [nothing, {"missing_labels": "drop"}]):
        yield {key: value for change in changes for key, value in change.items()}


def _load(config: Config) -> list[str]:
    """The rows of each split and the number of labels, loaded as in a run."""
    from ..tasks import recipe_class

    recipe = recipe_class(config).from_config(config)
    splits = recipe.load()
    counts = [f"{len(rows):,} {name}" for name, rows in splits.parts.items()]
    return [f"loaded: {', '.join(counts)} rows{recipe.data_note()}", *(f"  {note}" for note in splits.notes)]
