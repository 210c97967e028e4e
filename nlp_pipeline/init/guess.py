"""From the columns of a file to a task: which columns it reads, its options, and why."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from ..data.arrow_tables import Rows
from ..data.columns import find_column
from ..data.problems import counted, listed, quoted
from ..data.tags import tag_problems
from ..errors import DataError
from ..tasks.text_classification import PAIR, TEXT
from .facts import Facts
from .labels import find_label

TOKEN_NAMES = ("tokens", "words")
TAG_NAMES = ("tags", "ner_tags", "pos_tags", "labels", "ner", "pos", "tag")
MOST_TAGS = 200
ID_NAMES = ("id", "uid", "guid", "uuid", "row_id", "idx")
# The second text of a pair, and the names its first one goes by.
PAIRS = {
    "text_pair": ("text",),
    **dict.fromkeys(PAIR, ()),
    "sentence2": ("sentence1",),
    "hypothesis": ("premise",),
    "text2": ("text1", "text"),
    "passage": ("query", "question"),
    "question2": ("question1",),
    "sentence_b": ("sentence_a",),
    "text_b": ("text_a",),
    "answer": ("question",),
    "response": ("prompt", "question"),
    "document": ("query", "question", "claim"),
}
TITLES = ("title", "headline", "subject", "summary")


@dataclass
class Guess:
    """What the recipe says of the task and the columns."""

    task: str
    columns: dict[str, str | list[str]]
    """The task's columns mapped to the file's."""
    options: dict[str, Any] = field(default_factory=dict)
    id_column: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    """Why, by the task's column names, the options and `task`."""
    notes: list[str] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """The file's columns that are tokenized."""
        names = [self.columns[key] for key in ("text", "text_pair", "tokens") if key in self.columns]
        return [name for given in names for name in ([given] if isinstance(given, str) else given)]

    @property
    def needed(self) -> list[str]:
        """The file's columns that the task reads."""
        given = [[name] if isinstance(name, str) else name for name in self.columns.values()]
        return [name for names in given for name in names]


def guess_task(sample: Rows, whole: Rows) -> Guess:
    """The task and its columns.

    Args:
        sample: the rows to look at.
        whole: all rows: an id must be unique in all of them.

    Raises:
        DataError: nothing fits; says what there is and how to write the recipe by hand.
    """
    facts = {name: Facts(sample, name) for name in sample.table.column_names}
    ids = [name for name in facts if name.strip().casefold() in ID_NAMES]
    guess = _token_classification(facts) or _text_classification(facts, ids)
    guess.id_column = next((name for name in ids if name not in guess.needed and _is_unique(whole, name)), None)
    return guess


def _is_unique(whole: Rows, name: str) -> bool:
    facts = Facts(whole, name)
    return len(facts.counts) == len(facts.texts) == whole.table.num_rows


def _token_classification(facts: Mapping[str, Facts]) -> Guess | None:
    """A column of tokens with a column of tags of the same lengths, if there are such."""
    pairs = [(tokens, tags) for tokens, tags in permutations(facts.values(), 2) if _are_tokens_and_tags(tokens, tags)]
    if not pairs:
        return None
    tokens, tags = min(pairs, key=lambda pair: (_place(pair[0].name, TOKEN_NAMES), _place(pair[1].name, TAG_NAMES)))
    rows = [row or [] for row in tags.tokens]
    names = {tag for row in rows for tag in row}
    guess = Guess("token-classification", {"tokens": tokens.name, "tags": tags.name})
    guess.reasons["task"] = f"every row of {quoted(tokens.name)} has as many items as {quoted(tags.name)}"
    words = {word for row in tokens.tokens for word in row or ()}
    guess.reasons["tokens"] = counted(len(words), "distinct word")
    guess.reasons["tags"] = f"{counted(len(names), 'tag')}: {listed(quoted(tag) for tag in sorted(names))}"
    guess.options["scheme"], guess.reasons["scheme"] = _scheme(rows, names)
    others = [quoted(other.name) for first, other in pairs if first is tokens and other is not tags]
    if others:
        guess.notes.append(f"other columns that could be the tags: {listed(others)}")
    return guess


def _scheme(rows: Sequence[Sequence[str]], names: Collection[str]) -> tuple[str, str]:
    """How the tags are to be read, and why."""
    if all(name.isdigit() for name in names):
        return "plain", (
            "the tags are class ids without names: give these as tag_names: [O, B-…, I-…], in the order of the ids, "
            "and scheme: iob2 if they are entities"
        )
    strange, _ = tag_problems(rows, [str(row) for row in range(len(rows))], "train")
    if strange:
        return "plain", "the tags are not all O, B-… or I-…: each word's tag is scored by itself"
    return "iob2", "the tags are O, B-… and I-…: entities are scored whole"


def _are_tokens_and_tags(tokens: Facts, tags: Facts) -> bool:
    """Whether one column may tag the words of the other."""
    named = _place(tags.name, TAG_NAMES) < len(TAG_NAMES) and _place(tokens.name, TOKEN_NAMES) < len(TOKEN_NAMES)
    if not (tokens.is_list and tags.is_list) and not (tokens.is_prose and tags.is_prose):
        return False
    rows = list(zip(tokens.tokens, tags.tokens, strict=False))
    if not rows or any(len(first or ()) != len(second or ()) for first, second in rows):
        return False
    words = {word for first, _ in rows for word in first or ()}
    names = {tag for _, second in rows for tag in second or ()}
    count = sum(len(second or ()) for _, second in rows)
    if count <= len(rows) or not 1 < len(names) <= MOST_TAGS:
        return False  # one item a row is a label; one name says nothing
    iob = all(re.fullmatch(r"O|[BIESLU]-.+", name) for name in names)
    return named or iob or (tokens.is_list and len(names) < len(words) and count >= 3 * len(names))


def _place(name: str, names: Sequence[str]) -> int:
    """Where a name stands among the expected ones; after them all if it doesn't."""
    key = name.strip().casefold()
    return names.index(key) if key in names else len(names)


def _text_classification(facts: Mapping[str, Facts], ids: Sequence[str]) -> Guess:
    free = {name: fact for name, fact in facts.items() if name not in ids}
    guess = Guess("text-classification", {})
    guess.reasons["task"] = "texts with a label: no two columns hold tokens and tags of the same lengths"
    _find_texts(guess, free)
    rest = {name: fact for name, fact in free.items() if name not in guess.texts}
    label = find_label(rest) if "text" in guess.columns else "no column holds texts"
    if isinstance(label, str):
        raise DataError(_by_hand(facts, label))
    guess.columns[label.key] = label.columns
    guess.options["problem"] = label.problem
    guess.reasons |= {label.key: label.found, "problem": label.reason}
    guess.notes += label.notes
    return guess


def _find_texts(guess: Guess, free: Mapping[str, Facts]) -> None:
    """The text and, if one is clearly named, the second text of a pair."""
    names = [name for name, fact in free.items() if fact.is_prose]
    second, partners = _second_text(names)
    first, why = _first_text([free[name] for name in names if name != second], partners)
    if first is None:  # one text, even if it bears the name of a second one
        first, second = second, None
    if first is None:
        return
    guess.columns["text"], guess.reasons["text"] = first, why
    title = next((name for wanted in TITLES if (name := find_column(wanted, names)) not in (None, first)), None)
    if second is not None:
        guess.columns["text_pair"] = second
        guess.reasons["text_pair"] = "by its name: a second text makes a pair"
    elif title is not None and _is_text(free[title]) and free[title].mean_words >= 2:
        guess.columns["text"] = [title, first]
        guess.reasons["text"] += f"; {quoted(title)} is put before it, with a line break between"


def _second_text(names: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The second text of a pair, and the names that its first one may have."""
    for wanted, partners in PAIRS.items():
        name = find_column(wanted, names)
        # The task takes some names as a second text anyway; the others need their counterpart.
        known = wanted in ("text_pair", *PAIR) or any(find_column(partner, names) for partner in partners)
        if name is not None and known:
            return name, partners
    return None, ()


def _first_text(facts: Sequence[Facts], partners: Sequence[str]) -> tuple[str | None, str]:
    """The text, and why it is taken for it."""
    names = [fact.name for fact in facts]
    for wanted in (*partners, "text", *TEXT):
        if (name := find_column(wanted, names)) is not None:
            return name, "by its name"
    texts = [fact for fact in facts if _is_text(fact)]
    if not texts:
        return None, "by its name"
    # Several words come first: a hash or an address is long, but no text.
    longest = max(texts, key=lambda fact: (fact.mean_words >= 2, fact.mean_length))
    return longest.name, "it holds the longest texts that don't repeat"


def _is_text(fact: Facts) -> bool:
    """Mostly unique, or sentences that come several times."""
    return fact.is_prose and (fact.repeats <= 2 or fact.mean_words >= 4)


def _by_hand(facts: Mapping[str, Facts], problem: str) -> list[str]:
    """What there is, what was looked for, and what to write."""
    there = listed(f"{quoted(name)} ({_describe(fact)})" for name, fact in facts.items())
    header = [name for name in facts if len(name.split()) > 4 or re.fullmatch(r"[+-]?\d+(\.\d+)?", name.strip())]
    hint = ". Is the header line missing? The first line must name the columns" if header else ""
    return [
        f"can't guess the task: {problem}",
        f"columns there: {there}{hint}",
        "looked for: a column of tokens with a column of tags of the same lengths (token classification); or a column "
        f"of texts, such as {listed(('text', *TEXT[:4]))}, with a column of few distinct labels, such as label, intent "
        "or topic, of lists of labels, or of numbers, such as score (text classification)",
        "to write the recipe by hand, name the columns: `task: text-classification`, `model: NAME`, `data: {train: "
        "FILE, columns: {text: COLUMN, label: COLUMN}}`; for several labels a row `labels: COLUMN` and `options: "
        "{problem: multi_label}`, for numbers `score: COLUMN` and `options: {problem: regression}`",
    ]


def _describe(fact: Facts) -> str:
    if fact.is_list:
        return "lists"
    if fact.numbers is not None:
        return "numbers"
    if not fact.texts:
        return "empty or neither text nor numbers"
    return f"{counted(len(fact.counts), 'distinct value')} in {len(fact.texts):,}, {fact.mean_words:.1f} words each"
