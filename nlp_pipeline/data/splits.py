"""Loads the splits of a recipe: read, checked, carved, and with a fingerprint of their content."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import DataConfig
from ..errors import DataError
from .columns import Column, unknown_mappings
from .locations import Source
from .problems import Problems, counted
from .sources import SPLITS, Plan, parse_sources, plan_sources

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from .assembly import Assembler

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """The rows of a run, in the task's columns and types, each with a `row_id`."""

    train: "datasets.Dataset | None"
    validation: "datasets.Dataset | None" = None
    test: "datasets.Dataset | None" = None
    fingerprints: dict[str, str] = field(default_factory=dict)
    """Content hash of each split that there is."""
    notes: list[str] = field(default_factory=list)
    """What was done that a user should know: rows left out, rows carved, …"""

    @property
    def parts(self) -> "dict[str, datasets.Dataset]":
        """The splits that there are, by their names."""
        return {name: rows for name in SPLITS if (rows := getattr(self, name)) is not None}


def load_splits(
    data: DataConfig,
    columns: Sequence[Column],
    in_memory: Mapping[str, Any] | None = None,
    base_dir: Path | None = None,
    stratify: str | None = None,
    gather: "Callable[[pa.Table], pa.Table] | None" = None,
) -> Splits:
    """All rows of a run.

    Args:
        data: where the rows are.
        columns: what the task needs.
        in_memory: rows passed by a notebook, by the name that `memory:NAME` stands for.
        base_dir: what relative paths count from; by default the working directory.
        stratify: the `label` column whose classes a carve keeps in proportion.
        gather: makes the task's rows of a split's, before any is carved.

    Raises:
        DataError: with every problem of every split.
    """
    from .assembly import Assembler
    from .readers import Reader

    plan = plan_sources(data, in_memory, base_dir)
    problems = Problems()
    problems.add("", *(f"data.{problem}" for problem in plan.problems), *unknown_mappings(columns, data.columns))
    assembler = Assembler(Reader(data, in_memory), columns, problems)
    _add_container_splits(plan, assembler)
    # Splits with a faulty source are read as far as they go: their other files may have their own problems.
    tables = {name: assembler.split(name, plan.sources[name]) for name in SPLITS if plan.sources.get(name)}
    problems.raise_if_any()
    found: dict[str, pa.Table] = {name: table for name, table in tables.items() if table is not None}
    if gather is not None:
        for name, table in found.items():
            found[name] = gather(table)
            if (count := found[name].num_rows) < table.num_rows:
                assembler.notes.append(f"{name}: {table.num_rows:,} rows make {counted(count, 'row')}")
    _carve(found, data, stratify, assembler.notes)
    fingerprints: dict[str, str] = {}
    rows: dict[str, datasets.Dataset] = {}
    for name in SPLITS:
        if name in found:
            rows[name], fingerprints[name] = as_dataset(found[name])
    return Splits(**{name: rows.get(name) for name in SPLITS}, fingerprints=fingerprints, notes=assembler.notes)


def load_rows(
    source: Any,
    data: DataConfig,
    columns: Sequence[Column],
    base_dir: Path | None = None,
    require_labels: bool = False,
) -> "datasets.Dataset":
    """Rows to predict or to score: anything that `data.train` may name, or in-memory rows.

    Without `require_labels` label columns may be absent, or empty in some rows (null). Of a source with
    several splits the test rows are taken, else the validation rows.

    Raises:
        DataError: with every problem.
    """
    from .assembly import Assembler
    from .readers import Reader

    problems = Problems()
    in_memory: dict[str, Any] = {}
    if names_sources(source):
        sources, faults = find_sources(source, data, base_dir)
        problems.add("", *faults)
    else:
        in_memory = {"rows": source}
        sources = [Source("memory", "the rows", "rows")]
    assembler = Assembler(Reader(data, in_memory), columns, problems, require_labels)
    table = assembler.split("rows", sources) if sources else None
    problems.raise_if_any()
    for note in assembler.notes:
        logger.warning("%s", note)
    if table is None:
        raise DataError("there are no rows: name a file")
    return as_dataset(table)[0]


def names_sources(source: Any) -> bool:
    """Whether rows are given by the names of files and the like, not as objects."""
    listed = isinstance(source, list) and bool(source) and all(isinstance(name, str) for name in source)
    return isinstance(source, str | Path) or listed


def find_sources(
    source: str | Path | list[str], data: DataConfig, base_dir: Path | None = None
) -> tuple[list[Source], list[str]]:
    """What rows to predict or to score are to be read from, and problems."""
    query = data.query if not isinstance(data.query, dict) else data.query.get("test")
    value = str(source) if isinstance(source, Path) else source
    return parse_sources(value, data, "test", query, None, base_dir)


def _add_container_splits(plan: Plan, assembler: "Assembler") -> None:
    """Takes the validation and test rows that come with the training rows, unless the recipe has its own."""
    train = plan.sources.get("train", [])
    if len(train) != 1 or not train[0].is_container or train[0].split:
        return
    try:
        container = assembler.reader.container(train[0])
    except DataError as error:
        assembler.problems.add(train[0].shown, *error.problems)
        plan.sources["train"] = []
        return
    fractions = {"validation": assembler.data.validation_fraction, "test": assembler.data.test_fraction}
    for split, fraction in fractions.items():
        if split not in plan.sources and not fraction and container.find(split):
            plan.sources[split] = [train[0]]
            assembler.notes.append(f"{split}: the split {container.find(split)!r} of {train[0].shown} is used")


def _carve(tables: "dict[str, pa.Table]", data: DataConfig, stratify: str | None, notes: list[str]) -> None:
    """Moves rows from training to validation and test, then thins training out, as the recipe says."""
    import pyarrow as pa

    from .carve import carve, draw

    train = tables["train"]
    if data.validation_fraction or data.test_fraction:
        by = stratify if stratify in train.column_names and pa.types.is_string(train.column(stratify).type) else None
        labels = train.column(by) if by else None
        parts = carve(train.num_rows, data.validation_fraction, data.test_fraction, data.split_seed, labels)
        for name, where in (("validation", parts.validation), ("test", parts.test)):
            if getattr(data, f"{name}_fraction"):
                if not len(where):
                    raise DataError(f"data.{name}_fraction: too few training rows ({train.num_rows:,}) to carve any")
                tables[name] = _select(train, where)
                how = f"seed {data.split_seed}" + (f", stratified by {by}" if by else "")
                rows = f"{counted(len(where), 'row')} of {train.num_rows:,}"
                notes.append(f"{name}: {rows} carved from the training rows ({how})")
        notes += [f"train: {note}" for note in parts.notes]
        tables["train"] = _select(train, parts.train)
    rows = tables["train"].num_rows
    if data.max_train_rows is not None and data.max_train_rows < rows:
        tables["train"] = _select(tables["train"], draw(rows, data.max_train_rows, data.split_seed))
        notes.append(f"train: {data.max_train_rows:,} of {rows:,} rows are used (data.max_train_rows)")


def _select(table: "pa.Table", where: Any) -> "pa.Table":
    import numpy as np
    import pyarrow as pa

    keep = np.zeros(table.num_rows, bool)
    keep[where] = True
    # filter works chunk by chunk; take would join them all, which fails beyond 2 GB.
    return table.filter(pa.array(keep))


def as_dataset(table: "pa.Table") -> "tuple[datasets.Dataset, str]":
    """A table as a data set, and the hash of its content."""
    from datasets import Dataset

    from .fingerprint import fingerprint

    key = fingerprint(table)
    # With our own fingerprint, what `datasets` caches depends on content alone, too.
    return Dataset(table, fingerprint=key), key
