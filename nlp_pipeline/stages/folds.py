"""A recipe once a fold: trained on all training rows but the fold's, tested on these."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config.schema import AuditConfig, DataConfig, OutputConfig, TrackingConfig
from ..data.assembly import ROW_ID
from ..data.carve import assign_folds
from ..data.labels import column
from ..errors import ConfigError
from ..secrets import literal

if TYPE_CHECKING:
    import datasets

    from ..recipe import Recipe


def training_rows(recipe: "Recipe") -> "datasets.Dataset":
    """The training rows of a loaded recipe."""
    assert recipe.splits is not None, "call load() first"
    assert recipe.splits.train is not None
    return recipe.splits.train


def folds_of(recipe: "Recipe", folds: int) -> np.ndarray:
    """int64[rows], the fold of each training row of a loaded recipe; -1 where a row can't be spared from training.

    Seeded by `data.split_seed`. Classes are spread evenly; with several labels a row, each row's rarest one is.

    Raises:
        ConfigError: fewer than two folds, or fewer rows than folds.
    """
    rows, seed = training_rows(recipe), recipe.config.data.split_seed
    if not 2 <= folds <= len(rows):
        raise ConfigError(f"--folds: found {folds}, expected 2 to {len(rows):,}, the number of training rows")
    target = next(c for c in recipe.columns() if c.is_label)
    if (by := recipe.stratify()) is not None:
        return assign_folds(len(rows), folds, seed, column(rows, by))
    if target.kind != "label_list":
        return assign_folds(len(rows), folds, seed)
    return _spread_label_lists(column(rows, target.name), folds, seed)


def _spread_label_lists(lists: list[list[str]], folds: int, seed: int) -> np.ndarray:
    where: dict[str, list[int]] = {}
    for row, names in enumerate(lists):
        for name in names:
            where.setdefault(name, []).append(row)
    rarest = [min(names, key=lambda name: (len(where[name]), name), default="") for names in lists]
    fold = assign_folds(len(lists), folds, seed, rarest)
    for rows in where.values():
        if len(set(fold[rows])) == 1:  # held out together, they would leave nothing to learn the label from
            fold[rows] = -1
    return fold


def fold_recipes(recipe: "Recipe", fold: np.ndarray, folder: Path) -> Iterator["Recipe"]:
    """The recipe of each fold, to be run in turn, each in `folder/fold-K-of-N`.

    Its training rows are those outside the fold, its test rows those inside; validation rows stay what they are. Rows
    go by content: a fold that was interrupted goes on, one that is finished is read.
    """
    rows, count = training_rows(recipe), int(fold.max()) + 1
    validation = recipe.splits.validation if recipe.splits else None
    for number in range(count):
        in_memory = {"train": rows.select(np.flatnonzero(fold != number))}
        in_memory["test"] = rows.select(np.flatnonzero(fold == number))
        in_memory |= {} if validation is None else {"validation": validation}
        places = {split: f"memory:{split}" for split in in_memory}
        data = DataConfig(**places, id_column=ROW_ID, split_seed=recipe.config.data.split_seed)
        name = f"fold-{number + 1}-of-{count}"
        output = OutputConfig(dir=literal(folder / name))
        audit = AuditConfig(enabled=False)  # all rows are one recipe's, and audited as such
        update = {"name": name, "data": data, "audit": audit, "output": output, "registry": None}
        config = recipe.config.model_copy(update=update | {"tracking": TrackingConfig()})
        yield type(recipe).from_config(config, in_memory)
