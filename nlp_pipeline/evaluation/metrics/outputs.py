"""What a task hands to the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["single_label", "multi_label", "regression", "tags"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Outputs:
    """Predictions beside their references, for one split.

    | kind         | predictions and references         | scores                              |
    |--------------|------------------------------------|-------------------------------------|
    | single_label | int[n], indices into `label_names` | float[n, labels], rows sum to 1     |
    | multi_label  | bool[n, labels]                    | float[n, labels], each in [0, 1]    |
    | regression   | float[n], in the target's own unit | None                                |
    | tags         | n lists of tag strings, equal long | None                                |

    `scores` are probabilities, or None where no metric asked for them. `reference_scores` float[n] may stand in for
    them: each row's probability of its reference, a single_label row's share in the log loss. `label_names` has one
    name a label, in index order; it may be empty, and labels then go by their index. `row_of` int[n] is the row that
    each prediction belongs to, where a row has several (words of a sentence); intervals draw whole rows.
    """

    kind: Kind
    predictions: np.ndarray[Any, Any] | Sequence[list[str]]
    references: np.ndarray[Any, Any] | Sequence[list[str]]
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

    def __len__(self) -> int:
        """Number of rows: examples, or sentences for tags."""
        return len(self.references)
