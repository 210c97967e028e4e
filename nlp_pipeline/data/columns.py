"""Which columns a task needs, and which of a file's columns they are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .problems import did_you_mean, listed, nearest

Kind = Literal[
    "text", "texts", "references", "tokens", "label", "label_list", "tags", "number", "answers", "messages", "reply"
]


@dataclass(frozen=True)
class Column:
    """A column that a task needs, under the task's own name.

    What is read, and what it becomes:

    - `text`: text → string. Whole numbers are taken as text; several mapped columns are joined with a line
      break.
    - `texts`: lists of text, a JSON (or Python) list in a string, or several mapped columns, of which empty ones are
      left out → list<string>.
    - `references`: a text, or a list of texts each of which would be right → list<string>.
    - `tokens`: lists of text, a JSON (or Python) list in a string, or tokens separated by blanks →
      list<string>.
    - `label`: text, whole numbers, true/false or a `ClassLabel` (becomes its names) → string without outer
      blanks; 1.0 becomes "1", true becomes "true".
    - `label_list`: lists of labels, a JSON list in a string, labels separated by `,` `;` or `|`, or several
      mapped columns holding 0 and 1 (the label is the column's name) → list<string>.
    - `tags`: like `tokens`, whole numbers and `ClassLabel` too → list<string>.
    - `number`: numbers, or text that reads as one → float64, finite.
    - `answers`: `{"text": [...], "answer_start": [...]}` or a list of `{"text": …, "answer_start": …}`, also as JSON in
      a string; empty where the context holds no answer → list<struct<text, answer_start>>.
    - `messages`: a list of `{"role": …, "content": …}`, or a text, which is one message of the user; `reply`: the same,
      but a text is the assistant's → list<struct<role, content>>.
    """

    name: str
    kind: Kind
    aliases: tuple[str, ...] = ()
    """Names also accepted when `name` is not there, in this order."""
    required: bool = True
    """An optional column may be absent; where an optional text is empty, it is the empty string."""
    is_label: bool = False
    """Labels may be absent at prediction."""


@dataclass(frozen=True)
class Resolved:
    """The file's column (or columns) for each of the task's that was found, and what is wrong."""

    found: dict[str, tuple[str, ...]]
    problems: tuple[str, ...]


def resolve_columns(
    columns: Sequence[Column],
    names: Sequence[str],
    mapping: Mapping[str, str | list[str]],
    require_labels: bool = True,
) -> Resolved:
    """Finds the task's columns among a file's: mapped, else by name, in any case, else by alias.

    Rows to predict for (without `require_labels`) may lack the labels that a recipe maps, and may have the task's own
    column names in place of those of the training file.
    """
    if not require_labels:
        own = {column.name for column in columns if column.is_label or column.name in names}
        mapping = {name: mapped for name, mapped in mapping.items() if name not in own or _there(mapped, names)}
    found: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    for column in columns:
        if column.name in mapping:
            matched, trouble = _mapped(column, mapping[column.name], names)
            problems += trouble
            if matched:
                found[column.name] = matched
        elif column.name in names:
            found[column.name] = (column.name,)
    # Second pass, so that an alias never takes a column that another one has by its own name.
    for column in columns:
        if column.name in mapping or column.name in found:
            continue
        taken = {name for matched in found.values() for name in matched}
        match = _by_alias(column, [name for name in names if name not in taken])
        if match is not None:
            found[column.name] = (match,)
        elif column.required and (require_labels or not column.is_label):
            problems.append(_missing(column, names))
    in_order = {column.name: found[column.name] for column in columns if column.name in found}
    return Resolved(in_order, tuple(problems))


def unknown_mappings(columns: Sequence[Column], mapping: Mapping[str, str | list[str]]) -> list[str]:
    """Keys of `data.columns` that the task has no column for."""
    names = [column.name for column in columns]
    return [
        f'data.columns.{key}: this task has no column "{key}"; it has {listed(_quote(names))}.'
        f"{did_you_mean(key, names)}"
        for key in mapping
        if key not in names
    ]


def find_column(wanted: str, names: Sequence[str]) -> str | None:
    """The column of exactly this name, else the only one that differs in case or outer blanks alone."""
    if wanted in names:
        return wanted
    alike = [name for name in names if name.strip().casefold() == wanted.strip().casefold()]
    return alike[0] if len(alike) == 1 else None


def _there(mapped: str | list[str], names: Sequence[str]) -> bool:
    wanted = [mapped] if isinstance(mapped, str) else mapped
    return all(find_column(name, names) is not None for name in wanted)


def _mapped(column: Column, mapped: str | list[str], names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The columns that `data.columns` names, and problems."""
    setting = f"data.columns.{column.name}"
    wanted = [mapped] if isinstance(mapped, str) else mapped
    if not wanted:
        return (), [f"{setting} is an empty list; name at least one column"]
    if len(wanted) > 1 and column.kind not in ("text", "texts", "label_list"):
        kind = column.kind.replace("_", " ")
        return (), [f"{setting} names {len(wanted)} columns, but a {kind} column is one: name one of them"]
    matches = [find_column(name, names) for name in wanted]
    problems = [
        f'{setting} names the column "{name}", which is not there. Columns there: {listed(_quote(names))}.'
        f"{did_you_mean(name, names)}"
        for name, match in zip(wanted, matches, strict=True)
        if match is None
    ]
    return (() if problems else tuple(match for match in matches if match is not None)), problems


def _by_alias(column: Column, names: Sequence[str]) -> str | None:
    for wanted in (column.name, *column.aliases):
        match = find_column(wanted, names)
        if match is not None:
            return match
    return None


def _missing(column: Column, names: Sequence[str]) -> str:
    """What to say about a column that isn't there, with the setting that would name it."""
    also = f" (or {listed(_quote(column.aliases))})" if column.aliases else ""
    near = next((near for wanted in (column.name, *column.aliases) if (near := nearest(wanted, names))), None)
    fix = f"data.columns.{column.name}={_shell(near or 'NAME')}"
    hint = f'If "{near}" is meant, set {fix}' if near else f"Name the right one with {fix}"
    if any(_looks_like_data(name) for name in names):
        hint += ". Or is the header line missing? The first line must name the columns"
    return f'no column "{column.name}"{also}. Columns there: {listed(_quote(names))}. {hint}'


def _looks_like_data(name: str) -> bool:
    return len(name.split()) > 4 or bool(re.fullmatch(r"[+-]?\d+(\.\d+)?", name.strip()))


def _shell(name: str) -> str:
    """A name as it has to be typed on a command line."""
    return name if re.fullmatch(r"[\w.-]+", name) else f"'{name}'"


def _quote(names: Sequence[str]) -> list[str]:
    return [f'"{name}"' for name in names]
