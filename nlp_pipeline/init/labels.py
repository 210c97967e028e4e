"""The label column: by name, then by content; and whether it holds one label a row, several, or a number."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..data.columns import find_column
from ..data.problems import counted, listed, quoted
from ..errors import DataError
from ..tasks.text_classification import TARGETS
from .facts import Facts

LABEL_NAMES = tuple(
    dict.fromkeys(
        [
            *(name for target in TARGETS.values() for name in (target.name, *target.aliases) if name != "value"),
            *("sentiment", "emotion", "gold_label", "stars", "similarity", "relatedness", "y", "value"),
        ]
    )
)
SCORE_NAMES = re.compile(r"score|rating|value|similarity|relatedness|stars|priority")
FEW_ROWS = 20
"""In so few rows every value that comes twice counts."""
MANY_NUMBERS = 20
"""Whole numbers of more distinct values than this are amounts, unless they count classes without gaps."""


@dataclass(frozen=True)
class Label:
    """What is to be predicted."""

    columns: str | list[str]
    problem: str
    found: str
    """What the column holds."""
    reason: str
    """Why the problem is this one."""
    notes: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The task's name of the column."""
        return TARGETS[self.problem].name


def find_label(facts: Mapping[str, Facts]) -> Label | str:
    """The label among the columns that hold no text; or why there is none."""
    unfit = {name: problem for name, fact in facts.items() if (problem := _unfit(fact))}
    fit = [name for name in facts if name not in unfit]
    found = (find_column(wanted, fit) for wanted in LABEL_NAMES)
    named = list(dict.fromkeys(name for name in found if name is not None))
    indicators = [name for name in fit if set(facts[name].counts) == {"0", "1"}]
    if not named and len(indicators) > 1:
        held = f"{len(indicators)} columns of 0 and 1"
        return Label(indicators, "multi_label", held, "each column of 0 and 1 is taken as a label")
    candidates = [*named, *_by_content([name for name in fit if name not in named], facts)]
    if not candidates:
        return "no column holds labels" + "".join(f"; {quoted(name)} {why}" for name, why in unfit.items())
    first, *others = candidates
    fact = facts[first]
    _check_values(fact)
    problem, reason = _problem(fact)
    held = f"by its {'name' if named else 'content'}: {_holds(fact, problem)}"
    also = listed(quoted(name) for name in others)
    return Label(first, problem, held, reason, [f"other columns that could be the label: {also}"] if others else [])


def _by_content(names: Sequence[str], facts: Mapping[str, Facts]) -> list[str]:
    """Columns that look like labels though they aren't named so: names before numbers."""
    found = sorted((name for name in names if _few(facts[name])), key=lambda name: facts[name].numbers is not None)
    return found or [name for name in names if len(names) == 1 and facts[name].numbers is not None]


def _unfit(fact: Facts) -> str:
    """Why a column can't be the label; nothing if it can."""
    if fact.is_list:
        items = [item for row in fact.label_lists for item in row or ()]
        return "" if len(items) > len(set(items)) else "holds lists whose items don't repeat"
    if fact.numbers is not None:
        return "" if len(set(fact.numbers.tolist())) > 1 else "has the same value everywhere"
    if not fact.texts:
        return "holds neither text nor numbers"
    if len(fact.counts) < 2:
        return "has the same value everywhere"
    if _come_again(fact, 2) or _separated(fact):
        return ""
    return f"has {len(fact.counts):,} distinct values in {counted(len(fact.texts), 'row')}"


def _come_again(fact: Facts, times: int) -> bool:
    """Whether a value occurs several times on average: ids, names and free text hardly ever do."""
    return fact.repeats >= times or (len(fact.texts) < FEW_ROWS and fact.repeats > 1)


def _few(fact: Facts) -> bool:
    """Whether a column holds lists, or short values that come again and again."""
    return fact.is_list or (fact.mean_words <= 5 and (_come_again(fact, 3) or _separated(fact)))


def _check_values(fact: Facts) -> None:
    """What would make a guess go wrong without a word: a missing header, decimal commas."""
    if fact.name.strip() in fact.counts and len(fact.counts) < len(fact.texts):
        raise DataError(
            f"the column name {quoted(fact.name)} is also one of this column's values: is the header line missing? "
            "The first line must name the columns, such as text,label"
        )
    if fact.is_prose and all(re.fullmatch(r"[+-]?\d+(,\d+)?", value) for value in fact.counts):
        shown = listed([quoted(value) for value in list(fact.counts)[:3]], len(fact.counts))
        raise DataError(
            f"{quoted(fact.name)} holds numbers with a decimal comma: {shown}. Write them with a decimal point"
        )


def _problem(fact: Facts) -> tuple[str, str]:
    """The problem and why."""
    if fact.is_list:
        return "multi_label", "the rows hold lists of labels"
    if _separated(fact):
        return "multi_label", "the rows hold several labels, divided by , ; or |"
    if fact.numbers is None or fact.raw.classes:
        return "single_label", "one label a row"
    distinct = np.unique(fact.numbers)
    if (distinct != np.floor(distinct)).any():
        return "regression", "the numbers have fractions, so they are amounts and no classes"
    span = distinct[-1] - distinct[0] + 1
    gapless = distinct[0] in (0, 1) and len(distinct) >= 0.8 * span
    is_score = bool(SCORE_NAMES.search(fact.name.casefold()))
    if len(distinct) > MANY_NUMBERS and (is_score or not gapless or fact.repeats < 2):
        return "regression", f"{len(distinct):,} distinct numbers are taken as an amount, not as classes"
    if len(distinct) >= 5 or is_score:
        return "single_label", (
            f"the whole numbers {distinct[0]:g} to {distinct[-1]:g} are taken as classes; if they are steps of a "
            "scale, `problem: regression` with `score` in place of `label` under data.columns may serve better"
        )
    return "single_label", "one label a row"


def _separated(fact: Facts) -> bool:
    """Whether the values are several labels each: parts that come again in other combinations."""
    if not fact.is_prose:
        return False
    parts = {value: [part for part in re.split(r"[\s]*[,;|][\s,;|]*", value) if part] for value in fact.counts}
    several = {value: found for value, found in parts.items() if len(found) > 1}
    if not several:
        return False
    values_with = Counter(part for found in parts.values() for part in set(found))
    inside = {part for found in several.values() for part in found}
    items = sum(len(parts[value]) * count for value, count in fact.counts.items())
    short = sum(len(part.split()) for part in inside) <= 4 * len(inside)
    again = sum(values_with[part] > 1 for part in inside) >= 0.5 * len(inside)
    return short and again and items >= 2 * len(values_with)


def _holds(fact: Facts, problem: str) -> str:
    if problem == "regression" and fact.numbers is not None:
        return f"numbers from {fact.numbers.min():g} to {fact.numbers.max():g}"
    counts = fact.counts
    if problem == "multi_label":
        counts = Counter(item for row in fact.label_lists for item in row or ())
    return f"{counted(len(counts), 'distinct label')}: {_most_common(counts)}"


def _most_common(counts: Counter[str]) -> str:
    names: Sequence[str] = [quoted(name) for name, _ in counts.most_common()]
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
