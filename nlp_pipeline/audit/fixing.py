"""Mends what can be mended without a doubt, and lists every change."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from ..data.columns import Column
from ..data.tags import repair
from .characters import Characters
from .duplicates import HELD_OUT, encode, first_of, lookup
from .findings import Finding
from .labels import respelt
from .rows import SplitRows, as_strings, bare_name

Change = dict[str, Any]
"""`split`, `row_id`, `action` (drop_row, change_label, repair_tags), `check`, `reason`; the `column`, and its value
`before` and `after`, where one was changed."""


def missing_rows(findings: Iterable[Finding]) -> list[Change]:
    """The rows that were left out while loading, as they lack a text or a label."""
    return [
        _drop(finding.split, row, "missing", finding.message)
        for finding in findings
        if finding.check == "missing"
        for row in finding.rows
    ]


def fix_splits(parts: Mapping[str, SplitRows]) -> tuple[dict[str, SplitRows], list[Change]]:
    """Cleaned splits, and what was done to them.

    In this order: rows whose text shows nothing are dropped; names that differ in case or blanks alone become the most
    frequent of them, and loose or IOB1 tags IOB2, in every split; training rows that repeat another, or whose text is
    an evaluation row's, are dropped. Done to its own result it changes nothing.
    """
    changes: list[Change] = []
    fixed = {split: _without_empty(rows, changes) for split, rows in parts.items()}
    fixed = _respell(fixed, changes)
    fixed = {split: _repair_tags(rows, changes) for split, rows in fixed.items()}
    if "train" in fixed:
        fixed["train"] = _without_repeats(fixed, changes)
    return fixed, changes


def _drop(split: str, row: str, check: str, reason: str, **more: Any) -> Change:
    return {"split": split, "row_id": row, "action": "drop_row", "check": check, "reason": reason, **more}


def _keep(rows: SplitRows, keep: np.ndarray) -> SplitRows:
    return replace(rows, table=rows.table.filter(pa.array(keep)))


def _without_empty(rows: SplitRows, changes: list[Change]) -> SplitRows:
    keep = np.ones(len(rows), bool)
    for column in rows.inputs:
        texts = as_strings(rows.table.column(column.name), column.kind).to_pylist()
        keep &= Characters.of(texts).visible > 0
    reason = "a text shows nothing"
    changes += [_drop(rows.split, row, "empty_text", reason) for row in rows.rows(np.flatnonzero(~keep))]
    return _keep(rows, keep)


def _respell(parts: dict[str, SplitRows], changes: list[Change]) -> dict[str, SplitRows]:
    columns = {column.name: column for rows in parts.values() for column in rows.named}
    for column in columns.values():
        having = {split: rows for split, rows in parts.items() if column in rows.columns}
        other = respelt({split: rows.named_items(column) for split, rows in having.items()})
        if other:
            parts |= {split: _renamed(rows, column, other, changes) for split, rows in having.items()}
    return parts


def _renamed(rows: SplitRows, column: Column, other: Mapping[str, str], changes: list[Change]) -> SplitRows:
    def rename(name: str) -> str:
        bare = bare_name(name, column.kind)
        return name.removesuffix(bare) + other.get(bare, bare)

    before = rows.table.column(column.name).to_pylist()
    after: list[Any]
    if column.kind == "label":
        after = [rename(name) for name in before]
    elif column.kind == "label_list":
        after = [list(dict.fromkeys(map(rename, names))) for names in before]
    else:
        after = [[rename(name) for name in names] for names in before]
    return _changed(rows, column, before, after, changes, "change_label", "label_spelling")


def _repair_tags(rows: SplitRows, changes: list[Change]) -> SplitRows:
    for column in rows.named:
        if column.kind == "tags":
            before = rows.table.column(column.name).to_pylist()
            after = [repair(tags) for tags in before]
            rows = _changed(rows, column, before, after, changes, "repair_tags", "tags")
    return rows


def _changed(
    rows: SplitRows,
    column: Column,
    before: list[Any],
    after: list[Any],
    changes: list[Change],
    action: str,
    check: str,
) -> SplitRows:
    """The rows with other values in one column; each value that differs is listed."""
    reasons = {
        "change_label": "differs from a more frequent label in case or blanks alone",
        "repair_tags": "an I- tag followed nothing of its type",
    }
    where = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    changes += [
        {"split": rows.split, "row_id": row, "action": action, "check": check, "reason": reasons[action]}
        | {"column": column.name, "before": before[i], "after": after[i]}
        for i, row in zip(where, rows.rows(where), strict=True)
    ]
    if not where:
        return rows
    index = rows.table.column_names.index(column.name)
    values = pa.chunked_array([pa.array(after, rows.table.column(column.name).type)])
    return replace(rows, table=rows.table.set_column(index, column.name, values))


def _without_repeats(parts: Mapping[str, SplitRows], changes: list[Change]) -> SplitRows:
    """The training rows without repeats of each other and of evaluation rows."""
    train = parts["train"]
    codes, _ = encode(parts)
    first = first_of(codes["train"].both)
    again = first != np.arange(len(first))
    gone = again.copy()
    where = np.flatnonzero(again)
    changes += [
        _drop("train", row, "exact_duplicates", f"repeats row {partner}")
        for row, partner in zip(train.rows(where), train.rows(first[where]), strict=True)
    ]
    for split in HELD_OUT:
        if split in parts:
            place = lookup(codes["train"].texts, codes[split].texts)
            where = np.flatnonzero((place >= 0) & ~gone)
            gone[where] = True
            changes += [
                _drop("train", row, "shared_rows", f"its text stands in {split}, row {partner}")
                for row, partner in zip(train.rows(where), parts[split].rows(place[where]), strict=True)
            ]
    return _keep(train, ~gone)
