"""Checks on the texts of one split: empty, stand-ins for nothing, damaged, over-long, unreadable, in another script."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..data.labels import shown
from ..data.problems import quoted
from .characters import BROKEN, Characters
from .findings import Finding, row_list
from .rows import SplitRows, as_strings
from .tokens import MOST_LONG, TokenCounts, unknown_share

if TYPE_CHECKING:
    from ..data.tokenization import Encoder

PLACEHOLDERS = ("nan", "none", "null", "n/a", "#n/a", "<na>")
"""What other programs write where there is nothing."""
MOSTLY = 0.5
ONE_SCRIPT = 0.9
"""From this share of rows on a split counts as being written in one script."""


def check_texts(rows: SplitRows) -> list[Finding]:
    """Texts that hold nothing to read, or damaged characters."""
    findings = []
    for column in rows.inputs:
        name, values = quoted(column.name), rows.table.column(column.name)
        texts = as_strings(values, column.kind)
        characters = Characters.of(texts.to_pylist())
        if len(where := np.flatnonzero(characters.visible == 0)):
            message = f"{name} shows nothing in {row_list(rows.rows(where))}; fill these in or remove them"
            findings.append(Finding("empty_text", "warning", rows.split, message, rows.rows(where)))
        lower = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
        if len(where := _where(pc.is_in(lower, pa.array(PLACEHOLDERS)))):
            found = shown([quoted(text) for text in dict.fromkeys(texts.take(pa.array(where)).to_pylist())])
            message = f"{name} is {found} in {row_list(rows.rows(where))}: is it an empty cell? Remove such rows"
            findings.append(Finding("placeholder", "warning", rows.split, message, rows.rows(where)))
        if len(where := np.flatnonzero(characters.count(BROKEN))):
            message = (
                f"{name} holds damaged characters (U+FFFD or controls) in {row_list(rows.rows(where))}; "
                "write the file anew in UTF-8, or set data.encoding to what it was written in"
            )
            findings.append(Finding("damaged_characters", "warning", rows.split, message, rows.rows(where)))
        if column.kind == "tokens":
            findings += _blank_tokens(rows, column.name, values)
    return findings


def _where(flags: Any) -> np.ndarray:
    return np.flatnonzero(pc.fill_null(flags, False).to_numpy(zero_copy_only=False))


def _blank_tokens(rows: SplitRows, name: str, values: pa.ChunkedArray) -> list[Finding]:
    blank = _where(pc.equal(pc.utf8_trim_whitespace(pc.list_flatten(values)), ""))
    ids = rows.rows(np.unique(pc.list_parent_indices(values).to_numpy()[blank]))
    if not ids:
        return []
    message = f"{quoted(name)} holds tokens of nothing but blanks in {row_list(ids)}; remove each with its tag"
    return [Finding("blank_tokens", "warning", rows.split, message, ids)]


def check_lengths(rows: SplitRows, tokens: TokenCounts, limits: str) -> list[Finding]:
    """Rows that are cut at the maximum length.

    Args:
        limits: how many tokens are allowed, and the setting that says so.
    """
    where = tokens.truncated
    if not len(where):
        return []
    share = f"{tokens.truncated_share:.1%} of the rows {'' if tokens.exact else '(estimated) '}"
    message = (
        f"{share}are longer than {limits} and are cut: {row_list(rows.rows(where))}; raise the limit if the model "
        "allows it, or shorten them"
    )
    return [Finding("over_long", "warning", rows.split, message, rows.rows(where))]


def check_known(rows: SplitRows, characters: Characters, unknown: list[int], encoder: "Encoder") -> list[Finding]:
    """Rows that the tokenizer mostly can't read; an error where that is most of them.

    Args:
        unknown: code points that it doesn't know by themselves: of the rows full of them, those are reported that it
            can't read as whole words either (of very many the first ones are tried, and speak for the others).
    """
    suspects = mostly_of(characters, unknown)
    tried = suspects[:MOST_LONG]
    share = unknown_share(rows.texts.take(pa.array(tried)).to_pylist(), encoder) if len(tried) else np.zeros(0)
    lost = tried[share >= MOSTLY]
    if not len(lost):
        return []
    if len(lost) == len(tried):
        lost = suspects
    most = len(lost) > MOSTLY * len(rows)
    fix = "choose a model for this language" if most else "remove these rows, or choose a model for their language"
    often = _most_frequent(characters, unknown)
    message = f"the tokenizer knows less than half of what stands in {row_list(rows.rows(lost))}: {often}; {fix}"
    return [Finding("unknown_characters", "error" if most else "warning", rows.split, message, rows.rows(lost))]


def check_spelled(rows: SplitRows, characters: Characters, spelled: list[int]) -> list[Finding]:
    """Rows that the tokenizer mostly spells byte by byte: nothing is lost, but the model will hardly know them."""
    where = mostly_of(characters, spelled)
    if not len(where):
        return []
    message = (
        f"the tokenizer spells most characters of {row_list(rows.rows(where))} byte by byte: "
        f"{_most_frequent(characters, spelled)}; a model for their language would read them better and faster"
    )
    return [Finding("unknown_characters", "warning", rows.split, message, rows.rows(where))]


def mostly_of(characters: Characters, codes: list[int]) -> np.ndarray:
    """int64[n], the texts of whose visible characters at least half are among these code points."""
    return np.flatnonzero(characters.count(codes) >= MOSTLY * np.maximum(characters.visible, 1))


def _most_frequent(characters: Characters, codes: list[int]) -> str:
    counts = np.bincount(characters.codes, minlength=max(codes) + 1)
    return shown([quoted(chr(code)) for code in sorted(codes, key=lambda code: -counts[code])])


def main_scripts(characters: Characters) -> tuple[list[str], np.ndarray]:
    """Names of scripts, and int64[texts]: the one of most letters of each text, -1 for a text without letters."""
    names = list(characters.scripts)
    if not names:
        return [], np.full(len(characters), -1)
    counts = np.stack([characters.scripts[name] for name in names])
    return names, np.where(counts.any(0), counts.argmax(0), -1)


def usual_script(characters: Characters) -> str | None:
    """The script of nearly all texts, if there is one."""
    names, main = main_scripts(characters)
    written = main[main >= 0]
    if not len(written):
        return None
    counts = np.bincount(written, minlength=len(names))
    return names[int(counts.argmax())] if counts.max() >= ONE_SCRIPT * len(written) else None


def check_scripts(rows: SplitRows, characters: Characters, usual: str | None) -> list[Finding]:
    """Rows in another script than nearly all training rows: a guess at their language that needs no model."""
    names, main = main_scripts(characters)
    if usual is None or not len(where := np.flatnonzero((main >= 0) & (np.array([*names, ""])[main] != usual))):
        return []
    found = shown(sorted({names[main[row]] for row in where}))
    message = (
        f"{row_list(rows.rows(where))} are written in another script ({found}) than nearly all training rows "
        f"({usual}); remove them if they are in another language"
    )
    return [Finding("script", "warning", rows.split, message, rows.rows(where))]


def text_statistics(rows: SplitRows, characters: Characters, tokens: TokenCounts | None) -> dict[str, Any]:
    """Rows, quantiles of characters and tokens a row, and the share of rows in each script, most frequent first."""
    names, main = main_scripts(characters)
    counts = np.bincount(main[main >= 0], minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    statistics: dict[str, Any] = {
        "rows": len(rows),
        "characters": quantiles(characters.lengths),
        "scripts": {names[i]: round(float(counts[i] / len(rows)), 4) for i in order if counts[i]},
    }
    if tokens is not None:
        share = round(tokens.truncated_share, 6)
        statistics |= {"tokens": quantiles(tokens.lengths), "truncated": share}
    return statistics


def quantiles(values: np.ndarray) -> Mapping[str, int]:
    """Median, 95th percentile and maximum."""
    found = np.quantile(values, [0.5, 0.95, 1.0], method="higher") if len(values) else [0, 0, 0]
    return dict(zip(("median", "p95", "max"), map(int, found), strict=True))
