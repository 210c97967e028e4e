"""Token ids of many rows, flat, as every tokenizer of this package gives them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Encoded:
    """Token ids of a batch of rows, flat: row i is `ids[offsets[i]:offsets[i + 1]]`.

    `type_ids` marks the second text of a pair, `word_ids` the word of each token (-1 for special tokens); both are
    None when not asked for. `truncated` bool[rows].
    """

    ids: np.ndarray
    offsets: np.ndarray
    truncated: np.ndarray
    type_ids: np.ndarray | None = None
    word_ids: np.ndarray | None = None

    def ragged(self, values: np.ndarray) -> "pa.Array":
        """A flat array over tokens as an Arrow list column."""
        import pyarrow as pa

        return pa.ListArray.from_arrays(pa.array(self.offsets), pa.array(values))

    def columns(self) -> dict[str, "pa.Array"]:
        """The columns that every model takes."""
        import pyarrow as pa

        columns = {"input_ids": self.ragged(self.ids), "truncated": pa.array(self.truncated)}
        if self.type_ids is not None:
            columns["token_type_ids"] = self.ragged(self.type_ids)
        return columns


def offsets_of(rows: Sequence[object]) -> np.ndarray:
    """int32[rows + 1], where each of some rows begins once they stand behind each other."""
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, rows), np.int32, len(rows)), out=offsets[1:])  # type: ignore[arg-type]
    return offsets
