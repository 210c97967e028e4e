"""How findings in data are worded: counted, cut to ten, gathered over all files into one error."""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from ..errors import DataError

SHOWN = 10


class RowProblem(str):
    """A message about some rows that also carries them all, for readers that want more than the first ten.

    `check` names what was looked at; `rows` holds row ids by split (while one file is read: row numbers from 0 under
    the empty name).
    """

    check: str
    rows: dict[str, list[Any]]

    def __new__(cls, message: str, check: str, rows: Mapping[str, Iterable[Any]]) -> Self:
        """A message with its rows."""
        self = super().__new__(cls, message)
        self.check = check
        self.rows = {split: list(ids) for split, ids in rows.items()}
        return self

    def reworded(self, message: str) -> "RowProblem":
        """Another message about the same rows."""
        return RowProblem(message, self.check, self.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.check, self.rows)


class Problems:
    """Findings gathered over all splits and files; the same finding in several files becomes one line."""

    def __init__(self) -> None:
        self._origins: dict[str, list[str]] = {}
        self._about_rows: dict[str, RowProblem] = {}

    def __bool__(self) -> bool:
        return bool(self._origins)

    def add(self, origin: str, *texts: str) -> None:
        """Notes findings about one file (or other source)."""
        for text in texts:
            origins = self._origins.setdefault(text, [])
            if origin not in origins:
                origins.append(origin)
            if isinstance(text, RowProblem):
                known = self._about_rows.setdefault(text, RowProblem(text, text.check, {}))
                for split, ids in text.rows.items():
                    known.rows.setdefault(split, []).extend(ids)

    def messages(self) -> list[str]:
        """One message a finding, with the files it was found in."""
        messages = []
        for text, origins in self._origins.items():
            message = f"{listed(origins)}: {text}" if any(origins) else text
            known = self._about_rows.get(text)
            messages.append(RowProblem(message, known.check, known.rows) if known else message)
        return messages

    def raise_if_any(self) -> None:
        """Raises:
        DataError: with every finding.
        """
        if self:
            raise DataError(self.messages())


def listed(items: Iterable[str], total: int | None = None) -> str:
    """`a, b, c`, cut to ten; `total` is the number of items when only some are given."""
    items = list(items)
    more = (total if total is not None else len(items)) - len(items[:SHOWN])
    return ", ".join(items[:SHOWN]) + (f" and {more:,} more" if more else "")


def counted(number: int, noun: str) -> str:
    """`1 row`, `12,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def quoted(value: Any, limit: int = 40) -> str:
    """A value as it is shown in a message: in quotes if it is text, cut if it is long."""
    if isinstance(value, str):
        cut = value if len(value) <= limit else value[: limit - 1] + "…"
        return repr(cut) if '"' in cut else json.dumps(cut, ensure_ascii=False)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def nearest(wanted: str, there: Iterable[str]) -> str | None:
    """The name most like the wanted one, if any is like it."""
    by_key = {name.strip().casefold(): name for name in there}
    found = difflib.get_close_matches(wanted.strip().casefold(), by_key, n=1, cutoff=0.6)
    return by_key[found[0]] if found else None


def did_you_mean(wanted: str, there: Sequence[str]) -> str:
    """` Did you mean "text"?`, or nothing."""
    near = nearest(wanted, there)
    return f' Did you mean "{near}"?' if near is not None else ""
