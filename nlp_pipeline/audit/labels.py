"""Checks on names to predict: spelt in several ways, rare, uneven, unknown to training."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ..data.columns import Column
from ..data.labels import Labels, shown
from ..data.problems import RowProblem, quoted
from .findings import Finding, row_list
from .rows import Items, SplitRows
from .texts import PLACEHOLDERS

UNEVEN = 20
"""From this ratio of the most frequent to the rarest class on classes are reported as uneven."""
FEWEST = 2
"""A class needs a row to learn from and one to see whether that worked."""


def check_labels(parts: Mapping[str, SplitRows], carved: Collection[str], reported: Collection[str]) -> list[Finding]:
    """Every finding on the names in all splits.

    Args:
        carved: splits that were carved from the training rows: there is no other source of their classes.
        reported: messages that loading gave already.
    """
    findings = []
    for column in parts["train"].named if "train" in parts else ():
        items = {split: rows.named_items(column) for split, rows in parts.items() if column in rows.columns}
        findings += _spellings(parts, column, items)
        findings += _placeholders(parts, column, items)
        findings += _rare(parts["train"], column, items, carved)
        if column.kind != "tags":
            findings += _uneven(parts["train"], column, items["train"])
        findings += _unseen(parts, items, reported)
    return findings


def spelling_key(name: str) -> str:
    """The same for names that differ in case or blanks alone."""
    return "".join(name.casefold().split())


def respelt(items: Mapping[str, Items]) -> dict[str, str]:
    """Names that differ from a more frequent one in case or blanks alone, and that one.

    Frequency counts rows of training, then rows of all splits.
    """
    train = items["train"].counts() if "train" in items else {}
    total: Counter[str] = Counter()
    for part in items.values():
        total.update(part.counts())
    groups: dict[str, list[str]] = {}
    for name in sorted(total):
        groups.setdefault(spelling_key(name), []).append(name)
    chosen = {key: max(names, key=lambda n: (train.get(n, 0), total[n])) for key, names in groups.items()}
    return {name: chosen[key] for key, names in groups.items() for name in names if name != chosen[key]}


def _spellings(parts: Mapping[str, SplitRows], column: Column, items: Mapping[str, Items]) -> list[Finding]:
    other = respelt(items)
    findings = []
    for split, part in items.items():
        here = [name for name in part.names if name in other]
        if here:
            ids = parts[split].rows(part.rows_with(here))
            pairs = shown([f"{quoted(name)} for {quoted(other[name])}" for name in here])
            message = (
                f"{quoted(column.name)} names differ from a more frequent one in case or blanks alone: {pairs} "
                f"({row_list(ids)}); spell them alike, or let --fix do it"
            )
            findings.append(Finding("label_spelling", "warning", split, message, ids))
    return findings


def _placeholders(parts: Mapping[str, SplitRows], column: Column, items: Mapping[str, Items]) -> list[Finding]:
    findings = []
    for split, part in items.items():
        # "none" may well be the name of a class.
        here = [name for name in part.names if name.casefold() in PLACEHOLDERS and name.casefold() != "none"]
        if here:
            ids = parts[split].rows(part.rows_with(here))
            names = shown([quoted(name) for name in here])
            message = f"{quoted(column.name)} is {names} in {row_list(ids)}: is it an empty cell? Remove such rows"
            findings.append(Finding("placeholder", "warning", split, message, ids))
    return findings


def _rare(train: SplitRows, column: Column, items: Mapping[str, Items], carved: Collection[str]) -> list[Finding]:
    total: Counter[str] = Counter()
    for split in ("train", *carved):
        if split in items:
            total.update(items[split].counts())
    needed = max(FEWEST, 1 + len(carved))
    other = respelt(items)  # a slip of the pen is told as such
    few = sorted(name for name, count in total.items() if 0 < count < needed and name not in other)
    if not few:
        return []
    ids = train.rows(items["train"].rows_with(few))
    names = shown([f"{quoted(name)} ({total[name]})" for name in few])
    message = (
        f"fewer than {needed} rows of {names}: {row_list(ids)}; add rows of such a class, merge it with another, or "
        "remove it"
    )
    return [Finding("rare_label", "warning", "train", message, ids)]


def _uneven(train: SplitRows, column: Column, items: Items) -> list[Finding]:
    counts = {name: count for name, count in items.counts().items() if count >= FEWEST}
    if not counts:
        return []
    most = max(counts, key=lambda name: counts[name])
    rare = sorted((name for name in counts if counts[name] * UNEVEN <= counts[most]), key=lambda name: counts[name])
    if not rare:
        return []
    ids = train.rows(items.rows_with(rare))
    names = shown([f"{quoted(name)} {counts[name]:,}" for name in rare])
    message = (
        f"{quoted(most)} has {counts[most]:,} rows, {names} ({row_list(ids)}): read f1_macro beside the accuracy, add "
        "rows of the rare ones, or set options.class_weights=balanced"
    )
    return [Finding("imbalance", "warning", "train", message, ids)]


def _unseen(parts: Mapping[str, SplitRows], items: Mapping[str, Items], reported: Collection[str]) -> list[Finding]:
    """Names without a training row that loading let pass: entity types, and names of rows that were carved off."""
    known = Labels(tuple(items["train"].names))
    findings = []
    for split, part in items.items():
        unknown = [name for name in part.names if name not in known.ids]
        rows = part.rows_with(unknown)
        by_row = part.by_row(len(parts[split]))
        names: Sequence[Sequence[str]] = [sorted(set(by_row[row])) for row in rows]
        for problem in known.check(names, parts[split].rows(rows), split):
            if problem not in reported:
                ids = tuple(problem.rows[split]) if isinstance(problem, RowProblem) else ()
                findings.append(Finding("unseen_label", "warning", split, str(problem), ids))
    return findings


def label_codes(rows: SplitRows) -> np.ndarray | None:
    """int64[rows], equal where all labels of two rows are; None where there is nothing to predict."""
    columns = [column for column in rows.columns if column.is_label]
    if not columns:
        return None
    values = [rows.table.column(column.name).to_pylist() for column in columns]
    keys = [
        tuple(_key(value, column) for value, column in zip(row, columns, strict=True))
        for row in zip(*values, strict=True)
    ]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.fromiter((numbers[key] for key in keys), np.int64, len(keys))


def _key(value: object, column: Column) -> object:
    if column.kind == "label_list" and isinstance(value, list):
        return tuple(sorted(value))
    return repr(value) if isinstance(value, list | dict) else value
