"""What a column of a data file looks like: lists, numbers or text, how long, how many distinct values."""

from collections import Counter
from collections.abc import Callable
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..data.arrow_tables import Rows
from ..data.list_values import as_label_list, as_tokens
from ..data.raw_columns import Cells, RawColumn, mask
from ..data.values import as_label, as_number


class Facts:
    """One column of the rows looked at; everything is found out when it is asked for."""

    def __init__(self, rows: Rows, name: str) -> None:
        self.name = name
        self.raw = RawColumn(rows, name)

    @cached_property
    def texts(self) -> list[str]:
        """The values as text, empty ones left out; empty for lists, fractions and everything nested."""
        values = self.raw.values
        if self.is_list:
            return []
        if self.raw.classes:
            values = as_label(self.raw).values
        elif pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
            values = pc.cast(values, pa.string())
        if not pa.types.is_string(values.type):
            return []
        return [text for text in pc.utf8_trim_whitespace(values).to_pylist() if text]

    @cached_property
    def numbers(self) -> np.ndarray | None:
        """float64, missing ones left out; None where there is anything else, or nothing."""
        if self.raw.classes or pa.types.is_boolean(self.raw.values.type):
            return None
        cells = as_number(self.raw)
        if cells.problems:
            return None
        numbers = cells.values.drop_null().to_numpy()
        return numbers if len(numbers) else None

    @cached_property
    def is_list(self) -> bool:
        """Lists, or text most of which is lists in brackets."""
        values = self.raw.values
        if pa.types.is_list(values.type):
            return True
        if not pa.types.is_string(values.type):
            return False
        trimmed = pc.utf8_trim_whitespace(values)
        bracketed = mask(pc.and_(pc.starts_with(trimmed, "["), pc.ends_with(trimmed, "]"))).sum()
        return bool(2 * bracketed > mask(pc.not_equal(trimmed, "")).sum())

    @cached_property
    def tokens(self) -> list[list[str] | None]:
        """Every row as tokens; nothing if it can't be read so."""
        return self._lists(as_tokens)

    @cached_property
    def label_lists(self) -> list[list[str] | None]:
        """Every row as a list of labels; nothing if it can't be read so."""
        return self._lists(as_label_list)

    def _lists(self, convert: Callable[[RawColumn], Cells]) -> list[list[str] | None]:
        cells = convert(self.raw)
        return [] if cells.problems else cells.values.to_pylist()

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each value occurs."""
        return Counter(self.texts)

    @property
    def repeats(self) -> float:
        """How often a value occurs on average."""
        return len(self.texts) / max(1, len(self.counts))

    @property
    def is_prose(self) -> bool:
        """Text that is neither a list nor a number."""
        return bool(self.texts) and self.numbers is None and pa.types.is_string(self.raw.values.type)

    @property
    def mean_length(self) -> float:
        """Characters a value."""
        return sum(map(len, self.texts)) / max(1, len(self.texts))

    @property
    def mean_words(self) -> float:
        """Words a value, divided by blanks."""
        return sum(len(text.split()) for text in self.texts) / max(1, len(self.texts))
