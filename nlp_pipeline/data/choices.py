"""Which of a row's choices its label names."""

from collections.abc import Sequence

import numpy as np

from .labels import shown
from .problems import RowProblem


def places(labels: Sequence[str], choices: Sequence[Sequence[str]]) -> np.ndarray:
    """int64[rows], the place of each row's label among its choices; -1 where it names none.

    A label is a choice's place from 0 on, else its text, else its letter from A on.
    """
    return np.array([_place(label, texts) for label, texts in zip(labels, choices, strict=True)], np.int64)


def _place(label: str, texts: Sequence[str]) -> int:
    if label.isdecimal() and int(label) < len(texts):
        return int(label)
    if label in texts:
        return texts.index(label)
    letter = ord(label.upper()) - ord("A") if len(label) == 1 else -1
    return letter if 0 <= letter < len(texts) else -1


def choice_problems(
    labels: Sequence[str], choices: Sequence[Sequence[str]], row_ids: Sequence[str], split: str
) -> list[str]:
    """Rows with nothing to choose from, and labels that are none of their row's choices."""
    single = [i for i, texts in zip(row_ids, choices, strict=True) if len(texts) < 2]
    wrong = [i for i, place in zip(row_ids, places(labels, choices), strict=True) if place < 0]
    problems: list[str] = []
    if single:
        message = f"{split}: rows {shown(single)} have fewer than two choices; remove these rows"
        problems.append(RowProblem(message, "values", {split: single}))
    if wrong:
        message = f"{split}: the labels of rows {shown(wrong)} name none of their choices; "
        message += "expected a choice's place from 0 on, its letter from A on, or its text"
        problems.append(RowProblem(message, "unseen_label", {split: wrong}))
    return problems
