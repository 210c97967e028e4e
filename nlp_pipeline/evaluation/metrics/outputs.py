"""What a task hands to the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Kind = str


@dataclass(frozen=True)
class KindSpec:
    """How a kind's predictions and references are typed for `evaluate`: a type of `datasets`, in brackets a list of it.

    Numbers are kept as arrays, strings as Python lists.
    """

    predictions: str
    references: str
    ragged: bool = False
    """Whether rows hold lists of numbers that differ in length."""


KINDS: dict[Kind, KindSpec] = {
    "single_label": KindSpec("int64", "int64"),
    "multi_label": KindSpec("[int64]", "[int64]"),
    "regression": KindSpec("float64", "float64"),
    "tags": KindSpec("[string]", "[string]"),
    "text": KindSpec("string", "[string]"),
    "likelihood": KindSpec("float64", "[float64]"),
    "ranking": KindSpec("[float64]", "[float64]", ragged=True),
    "preference": KindSpec("[float64]", "[float64]"),
    "retrieval": KindSpec("[float64]", "[int64]"),
}
"""The kinds of prediction; a new one needs a line here, one in `Outputs`, and metrics that name it."""


def is_listed(kind: Kind) -> bool:
    """Whether a kind's columns are Python lists, of strings or of lists of them, or of numbers, not arrays."""
    return "string" in KINDS[kind].predictions or KINDS[kind].ragged


@dataclass(frozen=True)
class Outputs:
    """Predictions beside their references, for one split.

    | kind         | predictions and references         | scores                              |
    |--------------|------------------------------------|-------------------------------------|
    | single_label | int[n], indices into `label_names` | float[n, labels], rows sum to 1     |
    | multi_label  | bool[n, labels]                    | float[n, labels], each in [0, 1]    |
    | regression   | float[n], in the target's own unit | None                                |
    | tags         | n lists of tag strings, equal long | None                                |
    | text         | n strings; n lists of right ones   | None                                |
    | likelihood   | float[n], -log p of a text in nats | None                                |
    |              | float[n, 2], its tokens and bytes  |                                     |
    | ranking      | n lists of scores; of relevances   | None                                |
    | preference   | float[n, 2], rewards of the chosen | None                                |
    |              | and the rejected reply; float[n,   |                                     |
    |              | 2], their log-likelihoods in nats  |                                     |
    | retrieval    | float[n, features], embeddings;    | None                                |
    |              | int64[n, 3]: what a text is, as in |                                     |
    |              | `retrieval`, its key and its text  |                                     |

    `scores` are probabilities, or None where no metric asked for them. `reference_scores` float[n] may stand in for
    them: each row's probability of its reference, a single_label row's share in the log loss. `label_names` has one
    name a label, in index order; it may be empty, and labels then go by their index. `row_of` int[n] is the row that
    each prediction belongs to, where a row has several (words of a sentence); intervals draw whole rows.
    """

    kind: Kind
    predictions: np.ndarray[Any, Any] | Sequence[Any]
    references: np.ndarray[Any, Any] | Sequence[Any]
    scores: np.ndarray[Any, Any] | None = None
    label_names: tuple[str, ...] = ()
    reference_scores: np.ndarray[Any, Any] | None = None
    row_of: np.ndarray[Any, Any] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of prediction {self.kind!r}; expected one of {', '.join(KINDS)}")
        rows = {"predictions": len(self.predictions), "references": len(self.references)}
        for name in ("scores", "reference_scores", "row_of"):
            if (column := getattr(self, name)) is not None:
                rows[name] = len(column)
        if len(set(rows.values())) > 1:
            counts = ", ".join(f"{count} {name}" for name, count in rows.items())
            raise ValueError(f"metrics need one prediction per reference, found {counts}")
        if self.kind == "tags":
            self._check_sentences()

    def _check_sentences(self) -> None:
        """Refuse sentences whose two tag lists differ in length: every later entity would be shifted."""
        for index, (predicted, expected) in enumerate(zip(self.predictions, self.references, strict=True)):
            if len(predicted) != len(expected):
                raise ValueError(
                    f"sentence {index} has {len(predicted)} predicted tags and {len(expected)} reference tags"
                )

    @cached_property
    def memo(self) -> dict[str, Any]:
        """What several metrics have in common, computed once for these outputs."""
        return {}

    def __len__(self) -> int:
        """Number of rows: texts, pairs, or sentences for tags."""
        return len(self.references)
