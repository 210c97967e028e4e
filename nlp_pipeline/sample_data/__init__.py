"""The sample data set: customer messages of a made-up shop, written for this project.

Every message has a topic (8 of them), a priority from 1 (can wait) to 5 (drop everything) and entity spans
(product, order number, date, place). One file a topic, one message a line, three fields divided by tabs: the split,
the priority, and the text with its entities marked as `[text](type)`.
"""

import re
from importlib.resources import files
from typing import Any

TOPICS = ("account", "billing", "delivery", "fault", "feedback", "order_change", "product_question", "refund")
MARK = re.compile(r"\[([^\[\]]+)\]\((product|order_number|date|place)\)")
WORD = re.compile(r"\w+(?:[-'’./]\w+)*|[^\w\s]")


def load_messages(split: str) -> list[dict[str, Any]]:
    """The messages of a split (`train` or `test`).

    Each has `id`, `text`, `topic`, `priority` (int), `tokens` (words) and `tags` (IOB2, one a word).
    """
    rows = []
    for topic in TOPICS:
        lines = (files(__name__) / "messages" / f"{topic}.txt").read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            where, priority, marked = line.split("\t")
            if where == split:
                rows.append({"id": f"{topic}-{number:02}", "topic": topic, "priority": int(priority), **parse(marked)})
    return rows


def parse(marked: str) -> dict[str, Any]:
    """A marked text as `text`, `tokens` and `tags`."""
    text, spans, position = "", [], 0
    for mark in MARK.finditer(marked):
        text += marked[position : mark.start()]
        spans.append((len(text), len(text) + len(mark[1]), mark[2]))
        text += mark[1]
        position = mark.end()
    text += marked[position:]
    words = list(WORD.finditer(text))
    tags = ["O"] * len(words)
    for start, end, kind in spans:
        inside = [i for i, word in enumerate(words) if word.start() < end and word.end() > start]
        for i in inside:
            tags[i] = ("B-" if i == inside[0] else "I-") + kind
    return {"text": text, "tokens": [word[0] for word in words], "tags": tags}
