"""Long contexts in overlapping windows, each beside its question."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .encoded import Encoded

if TYPE_CHECKING:
    import pyarrow as pa

    from .tokenization import Encoder


@dataclass(frozen=True)
class Windows:
    """Questions with windows of their contexts, as sequences.

    `row` int64[windows] is the row of each; `starts` and `ends` int32[tokens], flat as the token ids, say from and up
    to which character of the context a token goes, -1 outside of the context.
    """

    encoded: Encoded
    row: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def columns(self) -> "dict[str, pa.Array]":
        """Token ids and rows, for `preprocess`; a window loses nothing."""
        import pyarrow as pa

        columns = self.encoded.columns() | {"row": pa.array(self.row)}
        return columns | {name: self.encoded.ragged(getattr(self, name)) for name in ("starts", "ends")}


def encode_windows(encoder: "Encoder", questions: Sequence[str], contexts: Sequence[str], stride: int) -> Windows:
    """Pairs whose second text goes on in further windows where it is too long for one.

    Args:
        stride: tokens that a window shares with the one before it, where there is room for so many.
    """
    rust = encoder.untruncated
    special = rust.num_special_tokens_to_add(True)
    firsts, seconds = (rust.encode_batch(list(texts), add_special_tokens=False) for texts in (questions, contexts))
    windows: list[Any] = []
    row, type_ids, truncated = [], [], []
    for number, (question, context) in enumerate(zip(firsts, seconds, strict=True)):
        cut = len(question) > encoder.max_length // 2
        question.truncate(encoder.max_length // 2)
        room = encoder.max_length - len(question) - special
        context.truncate(room, stride=min(stride, room // 2))
        whole = rust.post_process(question, context, add_special_tokens=True)
        for window in (whole, *whole.overflowing):
            windows.append(window)
            row.append(number)
            truncated.append(cut)
            type_ids += whole.type_ids[: len(window)]  # the library gives further windows those of a single text
    lengths = np.fromiter(map(len, windows), np.int64, len(windows))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    inside = np.array([place == 1 for window in windows for place in window.sequence_ids], np.bool_)
    edges = np.array([edge for window in windows for edge in window.offsets], np.int32).reshape(-1, 2)
    edges[~inside] = -1
    encoded = Encoded(
        ids=np.array([i for window in windows for i in window.ids], np.int32),
        offsets=offsets,
        truncated=np.array(truncated, np.bool_),
        type_ids=np.array(type_ids, np.int8) if encoder.has_type_ids else None,
    )
    return Windows(encoded, np.array(row, np.int64), edges[:, 0].copy(), edges[:, 1].copy())
