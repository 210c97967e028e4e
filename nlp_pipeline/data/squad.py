"""Questions with their answers in a context, in the shapes that SQuAD gave the field."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .labels import shown
from .problems import RowProblem
from .raw_columns import Cells, RawColumn

ANSWERS = pa.list_(pa.struct([("text", pa.string()), ("answer_start", pa.int64())]))
SHAPES = 'Expected {"text": ["…"], "answer_start": [0]} or a list of {"text": "…", "answer_start": 0}, empty if none'


def is_nested(articles: Sequence[Any]) -> bool:
    """Whether objects are articles with paragraphs, as in SQuAD's own files."""
    return bool(articles) and all(isinstance(a, Mapping) and isinstance(a.get("paragraphs"), list) for a in articles)


def flattened(articles: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a question: `id`, `title`, `context`, `question`, `answers`."""
    return [
        {
            **({"id": str(question["id"])} if "id" in question else {}),
            "title": str(article.get("title") or ""),
            "context": paragraph.get("context"),
            "question": question.get("question"),
            "answers": [] if question.get("is_impossible") else question.get("answers"),
        }
        for article in articles
        for paragraph in article["paragraphs"]
        for question in paragraph.get("qas") or []
    ]


def spans(given: Any) -> Iterable[tuple[str, int | None]]:
    """(text, start in characters) of each answer of a row, in any of the shapes; a start may be unknown."""
    if isinstance(given, Mapping):
        texts, starts = given.get("text") or [], given.get("answer_start")
        texts = [texts] if isinstance(texts, str) else texts
        starts = [starts] if isinstance(starts, int) else starts if starts is not None else [None] * len(texts)
        yield from zip(texts, starts, strict=False)
    elif given is not None:
        for answer in given:
            yield (answer, None) if isinstance(answer, str) else (answer.get("text", ""), answer.get("answer_start"))


def as_answers(column: RawColumn) -> Cells:
    """A list of texts and starts a row; JSON in a string counts for what it holds."""
    values, bad, missing = [], [], np.zeros(len(column.values), bool)
    for row, given in enumerate(column.values.to_pylist()):
        try:
            given = json.loads(given) if isinstance(given, str) else given
            found = [{"text": str(text), "answer_start": _whole(start)} for text, start in spans(given)]
        except (ValueError, TypeError, AttributeError):
            bad.append(row)
            found = []
        missing[row] = given is None
        values.append(found)
    problems = [column.wrong(bad, "no answers", SHAPES)] if bad else []
    return Cells(pa.chunked_array([pa.array(values, ANSWERS)]), missing, problems)


def _whole(start: Any) -> int | None:
    return None if start is None else int(start)


def check_spans(ids: Sequence[str], contexts: Sequence[str], answers: Sequence[Any], split: str) -> list[RowProblem]:
    """Answers that don't stand in their context, or not where they should.

    Args:
        answers: a row's in one of the shapes that `spans` reads; empty where the context holds no answer.
    """
    absent: list[str] = []
    elsewhere: list[str] = []
    for row_id, context, given in zip(ids, contexts, answers, strict=True):
        found = list(spans(given))
        if any(not text or text not in context for text, _ in found):
            absent.append(str(row_id))
        elif any(start is not None and context[start : start + len(text)] != text for text, start in found):
            elsewhere.append(str(row_id))
    told = ((absent, "does not stand in its context"), (elsewhere, "does not begin at its answer_start"))
    return [
        RowProblem(
            f"{split}: an answer {what} in rows {shown(rows)}; mend its text or start (in characters, from 0)",
            "answer_span",
            {split: rows},
        )
        for rows, what in told
        if rows
    ]
