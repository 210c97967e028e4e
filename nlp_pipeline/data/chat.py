"""Conversations to tokens by a chat template, and exactly which of them are what the assistant said.

A template writes messages and, asked for it, the beginning of an assistant's turn. What it writes of the messages
before a turn, that beginning included, and of the messages up to its end, must begin what it writes of all: then a turn
is what lies between. A template with `{% generation %}` blocks says so itself.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .fields import IGNORED
from .labels import shown
from .messages import Message
from .problems import RowProblem

if TYPE_CHECKING:
    import pyarrow as pa

    from .tokenization import Encoder

PLAIN = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token }}{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}"
)
"""For a tokenizer that has no template: every text on a line of its own, the assistant's up to the end of text."""
_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
_NOTHING = np.zeros(0, np.int64)
Span = tuple[int, int]


class TemplateProblem(ValueError):
    """A template can't write a conversation, or what it writes can't be split into turns."""


@dataclass(frozen=True)
class Chat:
    """How conversations are written.

    Attributes:
        template: a Jinja template, run in the sandbox of transformers.
        tokens: the tokenizer's special tokens by name, as templates read them.
        specials: every token that ends a turn if it stands last: white space after it is not the assistant's.
    """

    template: str
    tokens: Mapping[str, str]
    specials: tuple[str, ...] = ()

    @classmethod
    def of(cls, tokenizer: Any) -> "Chat":
        """From a tokenizer of transformers that has a template."""
        template = tokenizer.get_chat_template()
        names = {"bos_token": "", "eos_token": ""} | dict(tokenizer.special_tokens_map)
        added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
        return cls(template, names, tuple(added))

    @cached_property
    def is_marked(self) -> bool:
        """Whether the template says itself what the assistant generates."""
        return bool(_MARKED.search(self.template))

    def render(self, messages: Sequence[Message], begin_reply: bool = False) -> str:
        """What the template writes.

        Args:
            begin_reply: with the beginning of an assistant's turn.

        Raises:
            TemplateProblem: it refuses.
        """
        return self._render(messages, begin_reply)[0]

    def _render(self, messages: Sequence[Message], begin: bool, marked: bool = False) -> tuple[str, list[Span]]:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        talk: Any = [dict(message) for message in messages]
        options: dict[str, Any] = {"add_generation_prompt": begin, "return_assistant_tokens_mask": marked}
        options |= self.tokens
        try:
            made: Any = render_jinja_template([talk], chat_template=self.template, **options)
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise TemplateProblem(f"the template refuses it: {' '.join(str(error).split())[:120]}") from None
        return made[0][0], list(made[1][0]) if marked else []

    def spans(self, messages: Sequence[Message]) -> tuple[str, list[Span]]:
        """What the template writes, and where in it each of the assistant's turns stands, in characters.

        Raises:
            TemplateProblem: it can't be told.
        """
        turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
        if self.is_marked:
            text, found = self._render(messages, begin=False, marked=True)
            if len(found) != len(turns):
                raise TemplateProblem(f"the template marks {len(found)} of {len(turns)} turns as generated")
            return text, found
        text = self.render(messages)
        return text, [self._span(messages, text, place) for place in turns]

    def _span(self, messages: Sequence[Message], text: str, place: int) -> Span:
        if place == 0:
            raise TemplateProblem("the assistant speaks first")
        before, through = self.render(messages[:place], True), self.render(messages[: place + 1])
        if not (through.startswith(before) and text.startswith(through)):
            raise TemplateProblem("the template writes earlier turns otherwise once there are later ones")
        bare = through.rstrip()
        end = len(bare) if bare.endswith(self.specials) and len(bare) > len(before) else len(through)
        return len(before), end


def reply_ends(tokenizer: Any) -> list[int]:
    """The ids that end a reply: the end of text, and what the template writes after the assistant's turn."""
    ends = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    chat = Chat.of(tokenizer)
    try:
        text, spans = chat.spans([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    except TemplateProblem:
        return ends
    last = tokenizer.encode(text[: spans[-1][1]], add_special_tokens=False)[-1:]
    special = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    return list(dict.fromkeys([*ends, *(id_ for id_ in last if id_ in special)]))


def encode_chats(
    encoder: "Encoder",
    talks: Sequence[Sequence[Message]],
    row_ids: Sequence[Any],
    last_only: Sequence[bool],
    together: int = 1,
) -> "dict[str, pa.Array]":
    """Token ids and, as labels, the token that follows each where it is the assistant's; `truncated` by conversation.

    A conversation that ends with another's message is one to reply to: the beginning of the reply ends its tokens, and
    there are no labels.

    Args:
        row_ids: what messages call each conversation's row.
        last_only: whether only the last of the assistant's turns counts, for each conversation.
        together: so many conversations in turn are cut at the same place, as they have the same beginning.

    Raises:
        DataError: conversations that the template can't write or that can't be split into turns.
    """
    chat, faults = Chat.of(encoder.tokenizer), dict[str, dict[Any, None]]()
    texts: list[str] = []
    spans: list[list[Span]] = []
    for talk, row_id, last in zip(talks, row_ids, last_only, strict=True):
        try:
            open_ended = not talk or talk[-1]["role"] != "assistant"
            text, found = (chat.render(talk, True), []) if open_ended else chat.spans(talk)
        except TemplateProblem as problem:
            faults.setdefault(str(problem), {})[row_id] = None
            continue
        texts.append(text)
        spans.append(found[-1:] if last else found)
    if faults:
        fix = "change these rows, or give a template with options.chat_template"
        told = {what: list(rows) for what, rows in faults.items()}
        raise DataError(
            [RowProblem(f"rows {shown(rows)}: {what}; {fix}", "values", {"": rows}) for what, rows in told.items()]
        )
    encodings = encoder.untruncated.encode_batch(texts, add_special_tokens=False)
    whole = [_targets(encoding, found) for encoding, found in zip(encodings, spans, strict=True)]
    return _columns(whole, encoder.max_length, together)


def _targets(encoding: Any, spans: Sequence[Span]) -> tuple[np.ndarray, np.ndarray]:
    """int64[tokens] ids, and bool[tokens], the tokens that end in one of the spans.

    Ends tell where starts don't: byte-level tokenizers trim blanks from the start of a token's place.
    """
    ends = np.array([end for _, end in encoding.offsets], np.int64)
    inside = np.zeros(len(ends), bool)
    for first, last in spans:
        inside |= (ends > first) & (ends <= last)
    return np.array(encoding.ids, np.int64), inside


def kept(inside: np.ndarray, room: int) -> int:
    """Where to begin so that at most `room` tokens are left: the end is kept, which is the last reply.

    A quarter of the room is left to what stands before the last reply, so that of a very long one the end is cut.

    Args:
        inside: bool[tokens], those of replies.
    """
    beyond = len(inside) - room
    if beyond <= 0:
        return 0
    changes = np.flatnonzero(np.diff(inside.astype(np.int8)) == 1)
    begins = int(changes[-1]) + 1 if len(changes) else len(inside)
    return min(beyond, max(0, begins - room // 4))


def _columns(whole: Sequence[tuple[np.ndarray, np.ndarray]], max_length: int, together: int) -> "dict[str, pa.Array]":
    import pyarrow as pa

    read: list[np.ndarray] = []
    follow: list[np.ndarray] = []
    truncated: list[bool] = []
    rooms = [max_length + bool(inside.any()) for _, inside in whole]
    starts = [kept(inside, room) for (_, inside), room in zip(whole, rooms, strict=True)]
    for number, ((ids, inside), room) in enumerate(zip(whole, rooms, strict=True)):
        group = number - number % together
        start = max(starts[group : group + together])
        part, counts = ids[start : start + room], inside[start : start + room]
        truncated.append(len(part) < len(ids))
        scored = bool(inside.any())
        read.append(part[:-1] if scored and len(part) > 1 else part)
        labels = np.where(counts, part, IGNORED)[1:]
        follow.append(labels if scored and len(part) > 1 else np.full(len(part), IGNORED))
    offsets = pa.array(np.cumsum([0, *map(len, read)]).astype(np.int32))
    columns = {"input_ids": read, "labels": follow}
    made: dict[str, Any] = {
        name: pa.ListArray.from_arrays(offsets, pa.array(np.concatenate([_NOTHING, *values]).astype(np.int32)))
        for name, values in columns.items()
    }
    return made | {"truncated": pa.array(truncated, pa.bool_())}
