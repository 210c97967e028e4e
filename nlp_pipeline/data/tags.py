"""IOB tag sequences: what is valid, what can be repaired, and the entities they spell."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .fields import IGNORED
from .labels import shown
from .problems import RowProblem


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, start, end) of each entity of an IOB2 sequence; `end` is one past its last word.

    An I- tag that follows nothing of its type opens an entity, as in seqeval's default mode.
    """
    found: list[tuple[str, int, int]] = []
    kind, start = "", 0
    for i, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            found.append((kind, start, i))
            kind = ""
        if prefix in "BI" and name and not kind:
            kind, start = name, i
    return found


def repair(tags: Sequence[str]) -> list[str]:
    """IOB1, or IOB2 with loose I- tags, as valid IOB2: whatever opens an entity gets B-."""
    result, before = [], "O"
    for tag in tags:
        opens = tag.startswith("I-") and before[2:] != tag[2:]
        result.append(f"B-{tag[2:]}" if opens else tag)
        before = tag
    return result


def inside_tag(tag: str) -> str:
    """The tag of the later parts of what `tag` opens."""
    return f"I-{tag[2:]}" if tag.startswith("B-") else tag


def tag_problems(rows: Sequence[Sequence[str]], row_ids: Sequence[str], split: str) -> tuple[list[str], str | None]:
    """Tags that are no IOB at all, as problems; and a note on what `repair` will rewrite.

    Args:
        rows: the tag sequences of a split.
    """
    strange: dict[str, list[str]] = {}
    loose: list[str] = []
    opened_by_b = 0
    for row_id, tags in zip(row_ids, rows, strict=True):
        for tag in set(tags):
            if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) < 3):
                strange.setdefault(tag, []).append(row_id)
        fixed = repair(tags)
        if fixed != list(tags):
            loose.append(row_id)
        before = ["O", *tags]
        opened_by_b += sum(t.startswith("B-") and p[2:] != t[2:] for p, t in zip(before, tags, strict=False))
    problems: list[str] = [
        RowProblem(
            f"{split}: the tag {tag!r} (rows {shown(ids)}) is neither O, B-… nor I-…; for tags that are no entities "
            "set options.scheme=plain",
            "tags",
            {split: ids},
        )
        for tag, ids in sorted(strange.items())
    ]
    if problems or not loose:
        return problems, None
    if not opened_by_b:
        note = f"{split}: the tags are IOB1 (entities open with I-); read as IOB2, which changed {len(loose):,} rows"
    else:
        note = (
            f"{split}: {len(loose):,} rows have an I- tag that follows nothing of its type (rows {shown(loose)}); each "
            "was read as B-"
        )
    return [], RowProblem(note, "tags", {split: loose})


def named(tags: Sequence[str], names: Sequence[str] | None) -> list[str]:
    """Tags by their names, where they are class ids and `names` has one for each."""
    return [names[int(tag)] if tag.isdigit() else tag for tag in tags] if names else list(tags)


def unnamed(
    rows: Sequence[Sequence[str]], row_ids: Sequence[str], split: str, names: Sequence[str] | None, entities: bool
) -> RowProblem | None:
    """Class ids without names are a problem where tags are entities', ids beyond the names always."""
    known = len(names or ())
    if not known and not entities:
        return None
    bad = [i for i, tags in zip(row_ids, rows, strict=True) if any(t.isdigit() and int(t) >= known for t in tags)]
    if not bad:
        return None
    have = f"only {known} names" if known else "no names"
    fix = "give options.tag_names=[O,B-…,I-…]"
    return RowProblem(f"{split}: the tags of rows {shown(bad)} hold class ids with {have}; {fix}", "tags", {split: bad})


@dataclass(frozen=True)
class TagReader:
    """Tags as a data set has them, read as a task's.

    Args:
        entities: they are IOB tags, read as valid IOB2; else each stands for itself.
        names: of tags that are class ids, in the order of the ids.
    """

    entities: bool
    names: Sequence[str] | None

    def __call__(self, tags: Sequence[str]) -> list[str]:
        """The tags of a row."""
        by_name = named(tags, self.names)
        return repair(by_name) if self.entities else by_name

    def every(self, rows: Sequence[Sequence[str]]) -> list[list[str]]:
        """The tags of each row."""
        return [self(tags) for tags in rows]

    def problems(
        self, rows: Sequence[Sequence[str]], row_ids: Sequence[str], split: str
    ) -> tuple[list[str], str | None]:
        """What is malformed in a split's tags, and a note on what reading repairs."""
        if (bad := unnamed(rows, row_ids, split, self.names, self.entities)) is not None:
            return [bad], None
        return tag_problems([named(tags, self.names) for tags in rows], row_ids, split) if self.entities else ([], None)


def first_of_word(words: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """bool[tokens], true on the first sub-word of each word.

    Args:
        words: int[tokens], the word of each token, -1 for special tokens.
        offsets: int[rows + 1], where each row begins.
    """
    before = np.empty_like(words)
    before[1:] = words[:-1]
    before[offsets[:-1][offsets[:-1] < len(words)]] = -1
    first: np.ndarray = (words >= 0) & (words != before)
    return first


def token_labels(
    tags: Sequence[Sequence[str]],
    words: np.ndarray,
    offsets: np.ndarray,
    ids: Mapping[str, int],
    outside: str,
    every_subword: bool,
) -> np.ndarray:
    """int64[tokens], the id of each word's tag at its first sub-word, IGNORED elsewhere.

    Args:
        tags: the tags of each row's words.
        words: int[tokens], the word of each token, -1 for special tokens.
        offsets: int[rows + 1], where each row begins.
        outside: the tag that one unknown to `ids` trains as, where `ids` has it.
        every_subword: the later sub-words of a word get its tag too, as inside what it opens.
    """
    usual = ids.get(outside, IGNORED)
    flat = np.array([ids.get(tag, usual) for row in tags for tag in row], np.int64)
    starts = np.cumsum([0, *map(len, tags[:-1])])  # where each row's words begin
    first = first_of_word(words, offsets)
    position = np.repeat(starts, np.diff(offsets)) + words
    labels = np.full(len(words), IGNORED, np.int64)
    labels[first] = flat[position[first]]
    if every_subword:
        rest = (words >= 0) & ~first
        inside = np.array([ids.get(inside_tag(name), i) for name, i in ids.items()])
        labels[rest] = inside[flat[position[rest]]]
    return labels


def word_tags(words: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """int64[words], the id at each word's first sub-word, -1 for a word without one; both int[tokens] of one row."""
    first = first_of_word(words, np.array([0, len(words)]))
    found = np.full(int(words.max(initial=-1)) + 1, -1, np.int64)
    found[words[first]] = ids[first]
    return found


def tags_by_word(
    ids: Sequence[np.ndarray], tokens: Sequence[Sequence[str]], names: Sequence[str], outside: str
) -> list[list[str]]:
    """A tag for each word of each row.

    Args:
        ids: int64[words] a row, -1 for a word without a tag; words beyond the maximum length are missing.
        outside: the tag of a word without one; the first of `names` where it is none of them.
    """
    usual, result = outside if outside in names else names[0], []
    for row, words in zip(ids, tokens, strict=True):
        tags = [names[i] if i >= 0 else usual for i in row]
        result.append(tags + [usual] * (len(words) - len(tags)))
    return result


def tag_record(words: Sequence[str], tags: list[str], spelled: bool) -> dict[str, Any]:
    """A row's tags, and with their text the entities where tags spell some."""
    if not spelled:
        return {"prediction": tags}
    found = [
        {"type": kind, "text": " ".join(words[start:end]), "start": start, "end": end}
        for kind, start, end in entities(tags)
    ]
    return {"prediction": tags, "entities": found}


def usual_tags(tokens: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> tuple[dict[str, str], str]:
    """Each word's most frequent tag, and that of all words."""
    seen: dict[str, Counter[str]] = {}
    for words, row in zip(tokens, tags, strict=True):
        for word, tag in zip(words, row, strict=True):
            seen.setdefault(word, Counter())[tag] += 1
    usual = Counter(tag for counts in seen.values() for tag in counts.elements()).most_common(1)[0][0]
    return {word: counts.most_common(1)[0][0] for word, counts in seen.items()}, usual
