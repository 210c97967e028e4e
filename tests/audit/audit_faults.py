"""Forty faults, each put into a clean data set: what is broken, and what the audit must say of which rows."""

import random
from collections.abc import Callable
from typing import NamedTuple

from audit_data_sets import DataSet, sentence

Found = tuple[str, str, str, list[str]]
"""Check, severity, split, row ids."""


class Fault(NamedTuple):
    kind: str
    format: str
    named: bool
    inject: Callable[[DataSet, random.Random], Found]


def pick(data: DataSet, rng: random.Random, split: str = "train", count: int = 2) -> list[int]:
    return sorted(rng.sample(range(len(data.splits[split])), count))


def put(column, value, check, severity="warning", split="train"):
    """Some rows get a value that they should not have."""

    def inject(data, rng):
        where = pick(data, rng, split)
        for row in where:
            given = value(rng) if callable(value) else value
            data.splits[split][row][column] = given
        return check, severity, split, [data.name(split, row) for row in where]

    return inject


def respell(change, split="train"):
    def inject(data, rng):
        where = pick(data, rng, split, 1)
        for row in where:
            old = data.splits[split][row]["label"]
            data.splits[split][row]["label"] = change(old)
        return "label_spelling", "warning", split, [data.name(split, row) for row in where]

    return inject


def respell_type(data, rng):
    where = pick(data, rng)
    for row in where:
        data.splits["train"][row]["tags"] = [tag.title().replace("Person", "PERSON") for tag in _tags(data, row)]
    # `title` makes B-person B-Person: a spelling of its own
    return "label_spelling", "warning", "train", [data.name("train", row) for row in where]


def _tags(data, row):
    return data.splits["train"][row]["tags"]


def rare(data, rng):
    (row,) = pick(data, rng, count=1)
    column = "labels" if data.kind == "multi" else "label"
    data.splits["train"][row][column] = ["gift card"] if data.kind == "multi" else "gift card"
    return "rare_label", "warning", "train", [data.name("train", row)]


def uneven(data, rng):
    size = 400
    data.splits["train"] = [{**row, "label": "payment"} for row in data.splits["train"][:1]]
    data.splits["train"] += [{"text": sentence(rng), "label": "payment"} for _ in range(size - 1)]
    where = pick(data, rng, count=6)
    for i, row in enumerate(where):
        data.splits["train"][row]["label"] = ("delivery", "return policy")[i % 2]
    return "imbalance", "warning", "train", [data.name("train", row) for row in where]


def copies(split="train", change=lambda row: row, check="exact_duplicates"):
    """Two rows are repeated at the end of their split."""

    def inject(data, rng):
        rows = data.splits[split]
        for row in pick(data, rng, split):
            new = dict(rows[row])
            if "id" in new:
                new["id"] = f"copy-{row}"
            rows.append(change(new))
        return check, "warning", split, [data.name(split, len(rows) - 2), data.name(split, len(rows) - 1)]

    return inject


def leak(change=lambda row: row, check="shared_rows"):
    """Two training rows stand among the test rows, too."""

    def inject(data, rng):
        test = data.splits["test"]
        for row in pick(data, rng):
            new = dict(data.splits["train"][row])
            if "id" in new:
                new["id"] = f"leak-{row}"
            test.append(change(new))
        return check, "warning", "test", [data.name("test", len(test) - 2), data.name("test", len(test) - 1)]

    return inject


def typo(row):
    words = row["text"].split()
    return {**row, "text": " ".join([*words[:-1], words[-1] + "x"])}


def typo_in_tokens(row):
    return {**row, "tokens": [*row["tokens"][:-1], row["tokens"][-1] + "x"]}


def contradict(data, rng):
    rows = data.splits["train"]
    (row,) = pick(data, rng, count=1)
    new = dict(rows[row])
    if "id" in new:
        new["id"] = "again"
    if "label" in new:
        new["label"] = {"delivery": "payment"}.get(new["label"], "delivery")
    elif "score" in new:
        new["score"] = new["score"] - 3 if new["score"] > 3 else new["score"] + 3
    else:
        new["tags"] = ["O"] * len(new["tags"])
    rows.append(new)
    return "conflicting_labels", "warning", "train", [data.name("train", row), data.name("train", len(rows) - 1)]


def loosen(data, rng):
    where = pick(data, rng)
    for row in where:
        tags = _tags(data, row)
        data.splits["train"][row]["tags"] = [*tags[:5], tags[5].replace("B-", "I-"), *tags[6:]]
    return "tags", "warning", "train", [data.name("train", row) for row in where]


def strange_tag(data, rng):
    where = pick(data, rng, "test")
    for row in where:
        data.splits["test"][row]["tags"] = ["X-person", *data.splits["test"][row]["tags"][1:]]
    return "tags", "error", "test", [data.name("test", row) for row in where]


def new_type(data, rng):
    where = pick(data, rng, "test")
    for row in where:
        data.splits["test"][row]["tags"] = ["B-product", *data.splits["test"][row]["tags"][1:]]
    return "unseen_label", "warning", "test", [data.name("test", row) for row in where]


def lose_a_tag(data, rng):
    where = pick(data, rng)
    for row in where:
        data.splits["train"][row]["tags"] = _tags(data, row)[:-1]
    return "values", "error", "train", [data.name("train", row) for row in where]


def blank_token(data, rng):
    where = pick(data, rng)
    for row in where:
        data.splits["train"][row]["tokens"] = [*data.splits["train"][row]["tokens"][:-1], " "]
    return "blank_tokens", "warning", "train", [data.name("train", row) for row in where]


def repeat_id(data, rng):
    first, second = pick(data, rng)
    data.splits["train"][second]["id"] = data.splits["train"][first]["id"]
    data.settings["id_column"] = "id"
    return "ids", "error", "train", [str(first + 1), str(second + 1)]


def cyrillic(rng):
    return " ".join("".join(rng.choices("абвгдежзиклмнопрстуф", k=6)) for _ in range(8))


def accented(rng):
    """Greek letters among many digits: half of its characters can be read, its letters can't be Latin ones."""
    return " ".join(f"λόγος{rng.randrange(10**7):07}" for _ in range(5))


def twice_over(rng):
    return sentence(rng, 60)


def damaged(rng):
    return sentence(rng, 5) + "\ufffd" + sentence(rng, 5)


def long_words(data, rng):
    where = pick(data, rng)
    for row in where:
        tokens = sentence(rng, 60).split()
        data.splits["train"][row] |= {"tokens": tokens, "tags": ["O"] * 60}
    return "over_long", "warning", "train", [data.name("train", row) for row in where]


FAULTS = {
    "empty text": Fault("single", "csv", False, put("text", "", "missing", "error")),
    "blank text, two texts": Fault("pair", "jsonl", True, put("text", "  ", "missing", "error")),
    "null text": Fault("multi", "parquet", False, put("text", None, "missing", "error", "test")),
    "empty label": Fault("single", "tsv", True, put("label", "", "missing", "error")),
    "null label": Fault("single", "json", False, put("label", None, "missing", "error", "test")),
    "no score": Fault("score", "csv", True, put("score", None, "missing", "error")),
    "no tokens": Fault("tags", "jsonl", False, put("tokens", [], "missing", "error")),
    "text of zero-width characters": Fault("single", "jsonl", False, put("text", "\u200b\u200b", "empty_text")),
    "second text empty": Fault("pair", "csv", False, put("text_pair", "", "empty_text")),
    "nan as text": Fault("multi", "jsonl", True, put("text", "NaN", "placeholder")),
    "n/a as text": Fault("single", "csv", False, put("text", "n/a", "placeholder", split="test")),
    "null as label": Fault("single", "csv", True, put("label", "null", "placeholder")),
    "damaged characters": Fault("score", "jsonl", False, put("text", damaged, "damaged_characters")),
    "damaged test characters": Fault("single", "tsv", True, put("text", damaged, "damaged_characters", split="test")),
    "blank token": Fault("tags", "json", True, blank_token),
    "over-long text": Fault("single", "parquet", False, put("text", twice_over, "over_long")),
    "over-long pair": Fault("pair", "jsonl", True, put("text_pair", twice_over, "over_long", split="test")),
    "over-long list of words": Fault("tags", "jsonl", True, long_words),
    "unknown characters": Fault("single", "jsonl", True, put("text", cyrillic, "unknown_characters")),
    "another script": Fault("multi", "json", False, put("text", accented, "script")),
    "label in capitals": Fault("single", "csv", True, respell(str.upper)),
    "label with more blanks": Fault("single", "jsonl", False, respell(lambda name: f"{name[:3]} {name[3:]}")),
    "entity type in capitals": Fault("tags", "jsonl", False, respell_type),
    "a class of one row": Fault("single", "json", True, rare),
    "a label of one row": Fault("multi", "csv", False, rare),
    "uneven classes": Fault("single", "parquet", False, uneven),
    "label unseen in training": Fault("single", "csv", True, put("label", "loan", "unseen_label", "error", "test")),
    "list with a label unseen": Fault(
        "multi", "jsonl", False, put("labels", ["loan"], "unseen_label", "error", "test")
    ),
    "entity type unseen": Fault("tags", "json", False, new_type),
    "duplicates in training": Fault("single", "tsv", False, copies()),
    "duplicates in the test rows": Fault("score", "parquet", True, copies("test")),
    "near duplicates": Fault("single", "jsonl", True, copies(change=typo, check="near_duplicates")),
    "near duplicates of words": Fault("tags", "jsonl", False, copies(change=typo_in_tokens, check="near_duplicates")),
    "same text, other label": Fault("single", "json", False, contradict),
    "same words, other tags": Fault("tags", "parquet", True, contradict),
    "same text, distant score": Fault("score", "jsonl", False, contradict),
    "training rows in test": Fault("pair", "csv", False, leak()),
    "nearly training rows in test": Fault("multi", "jsonl", True, leak(typo, "near_shared_rows")),
    "tag that is no IOB": Fault("tags", "json", True, strange_tag),
    "loose I- tags": Fault("tags", "jsonl", True, loosen),
    "a tag too few": Fault("plain", "jsonl", False, lose_a_tag),
    "a word for a number": Fault("score", "csv", False, put("score", "five", "values", "error")),
    "an id twice": Fault("single", "csv", True, repeat_id),
}
