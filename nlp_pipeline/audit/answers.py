"""Answer spans: does each stand in its context, where it says that it starts?"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .findings import Finding, row_list
from .rows import SplitRows

COLUMNS = ("context", "answers")


def check_answers(rows: SplitRows) -> list[Finding]:
    """Findings on a split, if it has the columns `context` and `answers`."""
    if not set(COLUMNS) <= set(rows.table.column_names):
        return []
    contexts, answers = (rows.table.column(name).to_pylist() for name in COLUMNS)
    return check_spans(rows.ids.tolist(), contexts, answers, rows.split)


def check_spans(ids: Sequence[str], contexts: Sequence[str], answers: Sequence[Any], split: str) -> list[Finding]:
    """Answers that don't stand in their context, or not where they should.

    Args:
        answers: a row's as SQuAD writes them, `{"text": [...], "answer_start": [...]}` with starts in characters, or a
            list of `{"text": …, "answer_start": …}`; empty where the context holds no answer.
    """
    absent: list[str] = []
    elsewhere: list[str] = []
    for row_id, context, given in zip(ids, contexts, answers, strict=True):
        spans = list(_spans(given))
        if any(not text or text not in context for text, _ in spans):
            absent.append(str(row_id))
        elif any(start is not None and context[start : start + len(text)] != text for text, start in spans):
            elsewhere.append(str(row_id))
    findings = []
    for found, what in ((absent, "does not stand in its context"), (elsewhere, "does not begin at its answer_start")):
        if found:
            message = f"an answer {what} in {row_list(found)}; mend its text or start (in characters, from 0)"
            findings.append(Finding("answer_span", "error", split, message, tuple(found)))
    return findings


def _spans(given: Any) -> Iterable[tuple[str, int | None]]:
    """(text, start) of each answer of a row."""
    if isinstance(given, Mapping):
        texts, starts = given.get("text") or [], given.get("answer_start")
        texts = [texts] if isinstance(texts, str) else texts
        starts = [starts] if isinstance(starts, int) else starts if starts is not None else [None] * len(texts)
        yield from zip(texts, starts, strict=False)
    elif given is not None:
        for answer in given:
            yield (answer, None) if isinstance(answer, str) else (answer.get("text", ""), answer.get("answer_start"))
