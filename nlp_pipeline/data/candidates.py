"""The texts of a query that a reranker puts in order, and the columns that hold them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrow_tables import table_of
from .columns import Column
from .labels import shown
from .problems import RowProblem

if TYPE_CHECKING:
    import pyarrow as pa

QUERY = Column("query", "text", ("anchor", "question", "sentence1", "premise"))
COLUMNS = {
    "lists": (
        QUERY,
        Column("positives", "texts", ("positive", "candidates", "documents", "passages")),
        Column("negatives", "texts", ("negative", "hard_negatives"), required=False),
    ),
    "pairs": (
        QUERY,
        Column("text", "text", ("document", "passage", "answer", "sentence2", "hypothesis")),
        Column("score", "number", ("label", "relevance", "similarity"), is_label=True),
    ),
}
"""By what a row is: a query with lists of texts, or with one text and its score."""


def candidates_of(rows: Any) -> tuple[list[list[str]], list[list[float]]]:
    """Each row's texts, those that answer its query first, and a 1 or a 0 for each.

    Args:
        rows: a `datasets.Dataset` or an Arrow table with `positives` and perhaps `negatives`.
    """
    table = table_of(rows)
    right = table.column("positives").to_pylist()
    given = table.column("negatives").to_pylist() if "negatives" in table.column_names else [None] * len(right)
    wrong = [row or [] for row in given]
    texts = [[*good, *bad] for good, bad in zip(right, wrong, strict=True)]
    return texts, [[1.0] * len(good) + [0.0] * len(bad) for good, bad in zip(right, wrong, strict=True)]


def scored_texts(rows: "pa.Table") -> tuple[list[list[str]], list[list[float]] | None]:
    """The same of rows with one `text` each, and its score, where `score` is known."""
    texts = [[text] for text in rows.column("text").to_pylist()]
    known = "score" in rows.column_names
    return texts, [[score] for score in rows.column("score").to_pylist()] if known else None


def query_pairs(queries: Sequence[str], texts: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """Each query as often as it has texts, and all the texts."""
    first = [query for query, row in zip(queries, texts, strict=True) for _ in row]
    return first, [text for row in texts for text in row]


def ranking_record(texts: Sequence[str], scores: np.ndarray) -> dict[str, Any]:
    """The best text, and all of them with their places as given and their scores, from the best down."""
    order = np.argsort(-scores, kind="stable")
    ranked = [{"text": texts[place], "place": int(place), "score": float(scores[place])} for place in order]
    return {"prediction": ranked[0]["text"], "ranking": ranked}


def candidate_problems(
    texts: Sequence[Sequence[str]], relevance: Sequence[Sequence[float]], row_ids: Sequence[str], split: str
) -> list[str]:
    """Rows without a text that doesn't answer the query, and rows where a text does and doesn't."""
    alone = [i for i, row in zip(row_ids, relevance, strict=True) if all(row)]
    both = []
    for i, row, right in zip(row_ids, texts, relevance, strict=True):
        good = {text for text, is_right in zip(row, right, strict=True) if is_right}
        if good & {text for text, is_right in zip(row, right, strict=True) if not is_right}:
            both.append(i)
    problems: list[str] = []
    if alone:
        message = f"{split}: rows {shown(alone)} have no negatives, so there is nothing to rank; add some to each"
        problems.append(RowProblem(message, "values", {split: alone}))
    if both:
        message = f"{split}: rows {shown(both)} have the same text among positives and negatives; remove one of them"
        problems.append(RowProblem(message, "conflicting_labels", {split: both}))
    return problems
