"""Rows that stand more than once: within a split, in training and evaluation alike, or under different labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .findings import Finding, row_list
from .labels import label_codes
from .minhash import near_pairs, normalised
from .rows import SplitRows

HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Codes:
    """Numbers in place of a split's texts and labels: equal where those are, the texts' over all splits.

    `texts` int64[rows]; `labels` int64[rows], None where there are none; `numbers` float64[rows] where the label is a
    number.
    """

    texts: np.ndarray
    labels: np.ndarray | None
    numbers: np.ndarray | None = None

    @property
    def both(self) -> np.ndarray:
        """int64[rows], equal where text and labels are."""
        if self.labels is None:
            return self.texts
        both: np.ndarray = self.texts * (int(self.labels.max(initial=0)) + 1) + self.labels
        return both


def encode(parts: Mapping[str, SplitRows]) -> tuple[dict[str, Codes], list[str]]:
    """Codes of every split, and the distinct texts by code (input columns joined by U+001F)."""
    chunks = [chunk for rows in parts.values() for chunk in rows.keys.chunks]
    every = pa.chunked_array(chunks, pa.string())
    distinct = every.unique()
    flat = pc.index_in(every, distinct).to_numpy().astype(np.int64)
    edges = np.cumsum([0, *map(len, parts.values())])
    # One numbering of labels for all splits: rows of two splits are compared, too.
    whole = _together(parts)
    codes = {}
    for start, end, (split, rows) in zip(edges[:-1], edges[1:], parts.items(), strict=True):
        numeric = [column.name for column in rows.columns if column.is_label and column.kind == "number"]
        numbers = rows.table.column(numeric[0]).to_numpy() if numeric else None
        codes[split] = Codes(flat[start:end], None if whole is None else whole[start:end], numbers)
    return codes, distinct.to_pylist()


def _together(parts: Mapping[str, SplitRows]) -> np.ndarray | None:
    names = [column.name for column in next(iter(parts.values())).columns]
    tables = [rows.table.select([name for name in names if name in rows.table.column_names]) for rows in parts.values()]
    whole = SplitRows("", pa.concat_tables(tables, promote_options="default"), next(iter(parts.values())).columns)
    return label_codes(whole)


def first_of(codes: np.ndarray) -> np.ndarray:
    """int64[rows], the first row with the code of each row."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(codes) else np.zeros(0, bool)
    first = np.empty(len(codes), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(codes)), 0))] if len(codes) else []
    return first


def lookup(codes: np.ndarray, among: np.ndarray) -> np.ndarray:
    """int64[n], for each code the first place where it stands in `among`, -1 where it doesn't."""
    distinct, places = np.unique(among, return_index=True)
    if not len(distinct):
        return np.full(len(codes), -1)
    at = np.minimum(np.searchsorted(distinct, codes), len(distinct) - 1)
    return np.where(distinct[at] == codes, places[at], -1)


def check_exact(parts: Mapping[str, SplitRows], codes: Mapping[str, Codes]) -> list[Finding]:
    """Duplicates, rows shared with training, and contradictions, of texts that are equal."""
    findings = []
    for split, rows in parts.items():
        first = first_of(codes[split].both)
        later = np.flatnonzero(first != np.arange(len(first)))
        if len(later):
            ids, partners = rows.rows(later), rows.rows(first[later])
            fix = "--fix drops them" if split == "train" else "such a row counts more than once in every score"
            message = f"the same row stands again in {row_list(ids, partners)}; {fix}"
            findings.append(Finding("exact_duplicates", "warning", split, message, ids, partners))
        findings += _contradictions(rows, codes[split])
        if split in HELD_OUT and "train" in parts:
            findings += _shared(rows, codes[split], parts["train"], codes["train"])
    return findings


def _contradictions(rows: SplitRows, codes: Codes) -> list[Finding]:
    """Rows of one split with the same text and different labels."""
    if codes.labels is None or rows.predicts_text:
        return []  # a text may well have several answers, translations or summaries
    first, limit = first_of(codes.texts), _tolerance(codes)
    differs = _differ(codes, np.arange(len(first)), codes, first, limit)
    groups = np.unique(first[differs])
    where = np.flatnonzero(np.isin(first, groups))
    if not len(where):
        return []
    # A row that agrees with the first of its group is contradicted by the first that doesn't.
    opponent = dict(zip(first[differs][::-1].tolist(), np.flatnonzero(differs)[::-1].tolist(), strict=True))
    others = [int(first[row]) if differs[row] else opponent[int(first[row])] for row in where]
    ids, partners = rows.rows(where), rows.rows(others)
    message = f"the same text has different labels in {row_list(ids, partners, '≠')}; keep the right one of each"
    return [Finding("conflicting_labels", "warning", rows.split, message, ids, partners)]


def _shared(rows: SplitRows, codes: Codes, train: SplitRows, train_codes: Codes) -> list[Finding]:
    """Rows of an evaluation split whose text is a training row's."""
    place = lookup(codes.texts, train_codes.texts)
    where = np.flatnonzero(place >= 0)
    if not len(where):
        return []
    findings = []
    ids, partners = rows.rows(where), train.rows(place[where])
    share = f"{len(where) / len(rows):.1%}"
    message = (
        f"{share} of the rows are training rows, too, so scores on them say little: {row_list(ids, partners)}; --fix "
        "drops them from training"
    )
    findings.append(Finding("shared_rows", "warning", rows.split, message, ids, partners))
    if codes.labels is not None and not rows.predicts_text:
        wrong = where[_differ(codes, where, train_codes, place[where], _tolerance(train_codes))]
        if len(wrong):
            ids, partners = rows.rows(wrong), train.rows(place[wrong])
            listed = row_list(ids, partners, "≠ training row")
            message = f"the same text has another label in training: {listed}; keep the right one"
            findings.append(Finding("conflicting_labels", "warning", rows.split, message, ids, partners))
    return findings


def _tolerance(codes: Codes) -> float:
    """Numbers for one text contradict each other where they differ by more than the column's standard deviation."""
    return float(codes.numbers.std()) if codes.numbers is not None else 0.0


def _differ(left: Codes, rows: np.ndarray, right: Codes, others: np.ndarray, tolerance: float) -> np.ndarray:
    """bool[n], whether the labels of rows of one split contradict those of rows of another."""
    if left.numbers is not None and right.numbers is not None:
        apart: np.ndarray = np.abs(left.numbers[rows] - right.numbers[others]) > tolerance
        return apart
    assert left.labels is not None
    assert right.labels is not None
    different: np.ndarray = left.labels[rows] != right.labels[others]
    return different


def check_near(
    parts: Mapping[str, SplitRows], codes: Mapping[str, Codes], texts: list[str], threshold: float
) -> list[Finding]:
    """Near duplicates within splits, and between an evaluation split and training. Exact ones are not named again."""
    there = np.stack([np.bincount(codes[split].texts, minlength=len(texts)) > 0 for split in parts])
    groups = (there * (1 << np.arange(len(parts)))[:, None]).sum(0)
    pairs, alike = near_pairs(normalised(pa.chunked_array([texts])), threshold, groups)
    order = np.argsort(-alike, kind="stable")  # the most alike partner is named
    both = np.concatenate([pairs[order], pairs[order][:, ::-1]])
    both = both[np.argsort(np.tile(np.arange(len(order)), 2), kind="stable")]
    findings = []
    for number, (split, rows) in enumerate(parts.items()):
        within = both[there[number][both].all(1)]
        own = lookup(np.arange(len(texts)), codes[split].texts)
        later = within[own[within[:, 0]] > own[within[:, 1]]]
        what = "is nearly the same as another"
        fix = "keep one of each if they say the same"
        findings += _near(rows, own, rows, own, later, "near_duplicates", what, fix)
        if split in HELD_OUT and "train" in parts:
            train = list(parts).index("train")
            across = both[there[number][both[:, 0]] & ~there[train][both[:, 0]] & there[train][both[:, 1]]]
            theirs = lookup(np.arange(len(texts)), codes["train"].texts)
            what = "is nearly the same as a training row"
            fix = "scores on them say less; drop one of each"
            findings += _near(rows, own, parts["train"], theirs, across, "near_shared_rows", what, fix)
    return findings


def _near(
    rows: SplitRows,
    own: np.ndarray,
    others: SplitRows,
    theirs: np.ndarray,
    pairs: np.ndarray,
    check: str,
    what: str,
    fix: str,
) -> list[Finding]:
    """The finding for pairs of text codes, the most alike first: the first text's row, once, with its partner."""
    where = own[pairs[:, 0]]
    distinct, first = np.unique(where, return_index=True)
    if not len(distinct):
        return []
    ids, partners = rows.rows(distinct), others.rows(theirs[pairs[first, 1]])
    message = f"{len(ids) / len(rows):.1%} of the rows: each {what}: {row_list(ids, partners, '≈')}; {fix}"
    return [Finding(check, "warning", rows.split, message, ids, partners)]
