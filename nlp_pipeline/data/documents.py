"""Whole documents as sequences to read on: cut where they are too long, none of their tokens left out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .fields import IGNORED
from .masking import NO_WORD, OPEN

if TYPE_CHECKING:
    import pyarrow as pa

    from .tokenization import Encoder


TEXT = ("content", "document", "body", "sentence", "source")
"""What a column of texts may be called, beside `text`."""


def next_token_columns(encoder: "Encoder", texts: Sequence[str]) -> "dict[str, pa.Array]":
    """Token ids and, as labels, the token that follows each; a long text goes on in further examples.

    A text stands between the tokenizer's marks of beginning and end, where it has such: every token of it is predicted
    once, the mark of its end too. Between examples that belong to one text no token is lost or doubled.
    """
    import pyarrow as pa

    tokenizer = encoder.tokenizer
    last = tokenizer.eos_token_id
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else last
    ids: list[int] = []
    labels: list[int] = []
    lengths: list[int] = []
    row: list[int] = []
    for number, found in enumerate(encoder.whole(texts)):
        if first is not None and found[:1] != [first]:
            found.insert(0, first)
        if last is not None and found[-1:] != [last]:
            found.append(last)
        read, follow = (found[:-1], found[1:]) if len(found) > 1 else (found, [IGNORED])
        ids += read
        labels += follow
        sizes = [min(encoder.max_length, len(read) - start) for start in range(0, len(read), encoder.max_length)]
        lengths += sizes
        row += [number] * len(sizes)
    offsets = pa.array(np.cumsum([0, *lengths]).astype(np.int32))
    columns = {"input_ids": ids, "labels": labels}
    made = {name: pa.ListArray.from_arrays(offsets, pa.array(values, pa.int32())) for name, values in columns.items()}
    return made | {"row": pa.array(row, pa.int64())}


def masked_columns(encoder: "Encoder", texts: Sequence[str], whole_words: bool) -> "dict[str, pa.Array]":
    """Token ids and the word of each (see `data.masking`); a long text goes on in further examples.

    Args:
        whole_words: number words as the tokenizer splits a text before it looks for tokens; else every token is one.
    """
    import pyarrow as pa

    mask, room = (
        encoder.tokenizer.mask_token_id,
        encoder.max_length - encoder.untruncated.num_special_tokens_to_add(False),
    )
    ids: list[int] = []
    words: list[int] = []
    lengths: list[int] = []
    row: list[int] = []
    for number, text in enumerate(encoder.untruncated.encode_batch(list(texts), add_special_tokens=False)):
        text.truncate(room)
        whole = encoder.untruncated.post_process(text, None, add_special_tokens=True)
        for piece in (whole, *whole.overflowing):
            places = piece.word_ids if whole_words else range(len(piece))
            special = piece.special_tokens_mask
            for token, place, added in zip(piece.ids, places, special, strict=True):
                words.append(OPEN if token == mask else NO_WORD if added or place is None else place)
            ids += piece.ids
            lengths.append(len(piece))
            row.append(number)
    offsets = pa.array(np.cumsum([0, *lengths]).astype(np.int32))
    columns = {"input_ids": ids, "words": words}
    made = {name: pa.ListArray.from_arrays(offsets, pa.array(values, pa.int32())) for name, values in columns.items()}
    return made | {"row": pa.array(row, pa.int64())}
