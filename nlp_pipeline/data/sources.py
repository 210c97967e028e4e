"""What the sources of a recipe stand for: files, folders, databases, the Hub, memory. Reads no data.

This module imports the standard library only: it runs before anything heavy is loaded.
"""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..config.schema import DataConfig
from .locations import Source, parse_entry

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass
class Plan:
    """The sources of each split, and what is wrong with them."""

    sources: dict[str, list[Source]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def check_sources(
    data: DataConfig, in_memory: Mapping[str, Any] | None = None, base_dir: Path | None = None
) -> list[str]:
    """Problems that show without reading: each begins with the setting, such as `train: there is no …`."""
    return plan_sources(data, in_memory, base_dir).problems


def plan_sources(data: DataConfig, in_memory: Mapping[str, Any] | None = None, base_dir: Path | None = None) -> Plan:
    """What every split of a recipe is to be read from."""
    in_memory = {name: rows for name, rows in (in_memory or {}).items() if rows is not None}
    plan = Plan()
    for split in SPLITS:
        value = getattr(data, split) or (f"memory:{split}" if split in in_memory else None)
        if value:
            query = data.query.get(split) if isinstance(data.query, dict) else data.query
            # A single query belongs to the training rows; the same rows must not serve as the test set.
            query = query if split == "train" or isinstance(data.query, dict) else None
            sources, problems = parse_sources(value, data, split, query, in_memory, base_dir)
            plan.sources[split] = sources
            plan.problems += [f"{split}: {problem}" for problem in problems]
    if not data.train and "train" not in in_memory:
        plan.problems.append("train: there is nothing to train on; set data.train=FILE")
    _add_queried_splits(data, plan)
    plan.problems += _check_settings(data, plan)
    return plan


def parse_sources(
    value: str | list[str],
    data: DataConfig,
    split: str,
    query: str | None,
    in_memory: Mapping[str, Any] | None = None,
    base_dir: Path | None = None,
) -> tuple[list[Source], list[str]]:
    """The sources that one setting names, globs expanded, and problems."""
    base = Path(base_dir or ".")
    sources: list[Source] = []
    problems: list[str] = []
    for text in [value] if isinstance(value, str) else value:
        for found in parse_entry(text, data, split, query, in_memory or {}, base):
            if isinstance(found, str):
                problems.append(found)
            elif found in sources:
                problems.append(f'"{found.shown}" is named twice; its rows would count twice')
            else:
                sources.append(found)
    return sources, problems


def _add_queried_splits(data: DataConfig, plan: Plan) -> None:
    """A query for a split that has no source of its own goes to the training rows' database."""
    train = plan.sources.get("train", [])
    for split, query in data.query.items() if isinstance(data.query, dict) else ():
        if split not in plan.sources and len(train) == 1 and train[0].kind == "sql":
            plan.sources[split] = [Source("sql", train[0].shown, train[0].value, query=query)]


def _check_settings(data: DataConfig, plan: Plan) -> list[str]:
    """Settings that don't go together."""
    problems = []
    try:
        codecs.lookup(data.encoding)
    except LookupError:
        problems.append(f'encoding: "{data.encoding}" is unknown; expected one such as utf-8, cp1252 or utf-16')
    for split, fraction in (("validation", data.validation_fraction), ("test", data.test_fraction)):
        if fraction and split in plan.sources:
            problems.append(f"{split}_fraction: {fraction} is given although {split} rows are named as well; keep one")
    if data.validation_fraction + data.test_fraction >= 1:
        problems.append(
            f"validation_fraction: {data.validation_fraction} and test_fraction: {data.test_fraction} leave "
            "nothing to train on; together they must be below 1"
        )
    kinds = {split: {source.kind for source in sources} for split, sources in plan.sources.items()}
    for split in ["train"] if isinstance(data.query, str) else data.query or ():
        # A faulty source has no kind, and was reported already.
        if "sql" not in kinds.get(split, ()) and not (split in kinds and not kinds[split]):
            problems.append(f"query: there is a query for {split}, but data.{split} is no database URL")
    if any(kinds.values()) and "hub" not in set().union(*kinds.values()):
        problems += [
            f"{name}: only a Hub data set (hub:user/name) has one; remove it"
            for name in ("hub_config", "hub_revision")
            if getattr(data, name)
        ]
    return problems
