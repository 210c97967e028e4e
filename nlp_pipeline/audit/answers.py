"""Answer spans: does each stand in its context, where it says that it starts?"""

from collections.abc import Sequence
from typing import Any

from ..data import squad
from .findings import Finding, from_problems
from .rows import SplitRows

COLUMNS = ("context", "answers")


def check_answers(rows: SplitRows) -> list[Finding]:
    """Findings on a split, if it has the columns `context` and `answers`."""
    if not set(COLUMNS) <= set(rows.table.column_names):
        return []
    contexts, answers = (rows.table.column(name).to_pylist() for name in COLUMNS)
    return check_spans(rows.ids.tolist(), contexts, answers, rows.split)


def check_spans(ids: Sequence[str], contexts: Sequence[str], answers: Sequence[Any], split: str) -> list[Finding]:
    """`data.squad.check_spans`, whose problems are errors."""
    return from_problems(squad.check_spans(ids, contexts, answers, split))
