"""Conversations in rows: lists of messages, in the shapes that the field's data sets give them."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .labels import shown
from .problems import RowProblem, counted, quoted
from .raw_columns import Cells, RawColumn

Message = Mapping[str, str]
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
ROLES = ("system", "developer", "user", "assistant", "tool")
KNOWN_AS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
"""Other names of the roles, from ShareGPT and its kin."""
SHAPES = f'Expected a text, or a list of {{"role": "user", "content": "…"}} with the roles {", ".join(ROLES)}'


def as_messages(column: RawColumn, role: str, optional: bool = False) -> Cells:
    """A list of messages a row; a text is one message of this role; JSON in a string counts for what it holds.

    Messages may also be `{"from": "human", "value": "…"}`. What else they hold is left out.

    Args:
        optional: whether a row may have none.
    """
    if column.kinds is None and not _may_hold(column.values.type):
        return column.wrong_type(SHAPES[0].lower() + SHAPES[1:])
    values: list[list[Message]] = []
    faults: dict[str, list[int]] = {}
    for row, given in enumerate(column.values.to_pylist()):
        try:
            values.append(_messages(given, role))
        except ValueError as error:
            faults.setdefault(str(error), []).append(row)
            values.append([])
    broken = {row for rows in faults.values() for row in rows}
    missing = np.array([not (found or optional or row in broken) for row, found in enumerate(values)], bool)
    problems = [column.wrong(rows, what, SHAPES) for what, rows in faults.items()]
    return Cells(pa.chunked_array([pa.array(values, MESSAGES)]), missing, problems)


def _may_hold(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or (pa.types.is_list(type_) and pa.types.is_struct(type_.value_type)))


def _messages(given: Any, role: str) -> list[Message]:
    """The messages of one row; none where there is nothing.

    Raises:
        ValueError: it holds something else; says what.
    """
    if isinstance(given, str) and given.lstrip().startswith("[{"):
        with suppress(ValueError):  # else it is a text that begins so
            given = json.loads(given)
    if given is None or isinstance(given, str):
        return [{"role": role, "content": given}] if given and given.strip() else []
    return [_message(item) for item in given]


def _message(item: Any) -> Message:
    if not isinstance(item, Mapping):
        raise ValueError("something that is no message")
    role, content = (next((item[k] for k in keys if item.get(k) is not None), None) for keys in _KEYS)
    role = KNOWN_AS.get(str(role).lower(), role)
    if role not in ROLES:
        raise ValueError(f"the unknown role {quoted(role)}")
    if not isinstance(content, str):
        raise ValueError("a message whose content is no text")
    return {"role": role, "content": content}


_KEYS = (("role", "from"), ("content", "value"))


def contents(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """string[rows]: what all the messages of each row say, a line a message."""
    chunks = []
    for chunk in values.chunks:
        texts = pa.ListArray.from_arrays(chunk.offsets, chunk.values.field("content"), mask=pc.is_null(chunk))
        chunks.append(pc.binary_join(texts, "\n"))
    return pa.chunked_array(chunks, pa.string())


def conversation(prompt: Sequence[Message] | None, reply: Sequence[Message] | None) -> list[Message]:
    """Prompt and reply in one; a reply that begins with what isn't the assistant's is a whole conversation itself."""
    before, after = list(prompt or ()), list(reply or ())
    return after if after and after[0]["role"] != "assistant" else before + after


def conversations(columns: Mapping[str, list[Any]]) -> tuple[list[list[Message]], list[bool]]:
    """Each row's conversation, and whether only its last turn counts: where there is a completion.

    Args:
        columns: `prompt`, and perhaps `completion`.
    """
    prompts = columns["prompt"]
    completions = columns.get("completion") or [None] * len(prompts)
    talks = [conversation(prompt, reply) for prompt, reply in zip(prompts, completions, strict=True)]
    return talks, [bool(reply) for reply in completions]


def compared(columns: Mapping[str, list[Any]], replies: Sequence[str]) -> list[list[Message]]:
    """Each row's conversations one after another, one with each of its replies.

    Args:
        columns: `replies`, and perhaps `prompt`.
    """
    prompts = columns.get("prompt") or [None] * len(columns[replies[0]])
    table = zip(prompts, *(columns[name] for name in replies), strict=True)
    return [conversation(prompt, reply) for prompt, *row in table for reply in row]


def asked(talk: Sequence[Message]) -> list[Message]:
    """What there is to reply to: all before the assistant's turn at the end, if there is one."""
    kept = list(talk)
    while kept and kept[-1]["role"] == "assistant":
        kept.pop()
    return kept


def said(talk: Sequence[Message], last_only: bool) -> list[str]:
    """What the assistant says, in all its turns or in the last one."""
    texts = [message["content"] for message in talk if message["role"] == "assistant"]
    return texts[-1:] if last_only else texts


def conversation_problems(
    prompts: Sequence[Sequence[Message] | None],
    replies: Mapping[str, Sequence[Sequence[Message] | None]],
    row_ids: Sequence[str],
    split: str,
) -> list[str]:
    """Rows in which the assistant says nothing, or speaks first, or not last.

    Args:
        replies: by the name of their column; none where conversations are whole.
    """
    told: tuple[tuple[str, Callable[[list[Message]], bool]], ...] = (
        ("in which nobody is asked anything: put a message of the user before the assistant's", _begins_with_reply),
        ("in which the assistant says nothing: give it a turn, or remove these rows", _without_reply),
        ("that don't end with the assistant's turn: take away what follows it", _ends_otherwise),
    )
    problems: list[str] = []
    for name, column in (replies or {"": [None] * len(prompts)}).items():
        talks = [conversation(prompt, reply) for prompt, reply in zip(prompts, column, strict=True)]
        for what, is_so in told:
            rows = [row_id for row_id, talk in zip(row_ids, talks, strict=True) if is_so(talk)]
            if rows:
                where = f" with {quoted(name)}" if name else ""
                message = f"{split}: {counted(len(rows), 'conversation')}{where} {what}: rows {shown(rows)}"
                problems.append(RowProblem(message, "values", {split: rows}))
    return problems


def _without_reply(talk: list[Message]) -> bool:
    return not any(message["role"] == "assistant" and message["content"].strip() for message in talk)


def _ends_otherwise(talk: list[Message]) -> bool:
    return not _without_reply(talk) and talk[-1]["role"] != "assistant"


def _begins_with_reply(talk: list[Message]) -> bool:
    return bool(talk) and talk[0]["role"] == "assistant"
