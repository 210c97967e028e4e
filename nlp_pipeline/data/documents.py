"""Whole documents as sequences to read on: cut where they are too long, none of their tokens left out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .fields import IGNORED

if TYPE_CHECKING:
    import pyarrow as pa

    from .tokenization import Encoder


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
    for number, encoding in enumerate(encoder.untruncated.encode_batch_fast(list(texts))):
        found = list(encoding.ids)
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
