"""How tokenized columns become tensors: what a task declares, and the one collate function that reads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

    from .token_table import TokenTable

IGNORED = -100
"""Target id of a position that counts for nothing, as in torch's cross entropy."""


@dataclass(frozen=True)
class Field:
    """One column of tokenized rows and the tensor that a batch makes of it.

    Kinds: `tokens` holds a sequence a row and becomes [rows, longest] filled up with `pad`; `row` holds one number
    a row and becomes [rows]; `set` holds any number of ids a row and becomes 0/1 floats [rows, size].
    """

    name: str
    kind: Literal["tokens", "row", "set"] = "tokens"
    dtype: Literal["int64", "float32", "bool"] = "int64"
    pad: int = 0
    size: int = 0
    group: str = ""
    """Token fields of one group share their lengths; each group has an attention mask, `<group>attention_mask`."""
    target: bool = False
    """Held back from the model: for the loss and the evaluation only."""


@dataclass
class Batch:
    """What one forward pass gets.

    `rows` int[n] are positions in the table; `inputs` goes to the model, `targets` to the loss; `lengths` int64[n] are
    the tokens of each row.
    """

    rows: np.ndarray
    inputs: dict[str, "torch.Tensor"]
    targets: dict[str, "torch.Tensor"]
    lengths: np.ndarray

    def pin(self) -> "Batch":
        """The same batch in page-locked memory, from which a copy to a device needs no waiting."""
        self.inputs = {k: v.pin_memory() for k, v in self.inputs.items()}
        self.targets = {k: v.pin_memory() for k, v in self.targets.items()}
        return self

    def to(self, device: "torch.device") -> "Batch":
        """The same batch on a device."""
        self.inputs = {k: v.to(device, non_blocking=True) for k, v in self.inputs.items()}
        self.targets = {k: v.to(device, non_blocking=True) for k, v in self.targets.items()}
        return self


def collate(table: "TokenTable", fields: Sequence[Field], rows: np.ndarray) -> Batch:
    """Gather rows of a table into one padded batch."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    masks: dict[str, np.ndarray] = {}
    for field in fields:
        if field.name not in table.columns:
            continue  # labels are absent at prediction
        if field.kind == "row":
            array = table.numbers(field.name)[rows]
        elif field.kind == "set":
            array = _multi_hot(table.sequences(field.name, rows), field.size)
        else:
            sequences = table.sequences(field.name, rows)
            mask = masks.setdefault(field.group, _mask(sequences))
            array = np.full(mask.shape, field.pad, dtype=np.int64)
            array[mask] = np.concatenate(sequences) if sequences else []
        tensors[field.name] = torch.from_numpy(np.ascontiguousarray(array.astype(field.dtype, copy=False)))
    targets = {field.name: tensors.pop(field.name) for field in fields if field.target and field.name in tensors}
    for group, mask in masks.items():
        tensors[f"{group}attention_mask"] = torch.from_numpy(mask.astype(np.int64))
    lengths = next(iter(masks.values())).sum(1) if masks else np.zeros(len(rows), np.int64)
    return Batch(np.asarray(rows), tensors, targets, lengths)


def _mask(sequences: Sequence[np.ndarray]) -> np.ndarray:
    """bool[rows, longest], true where there is a token."""
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    return np.arange(lengths.max(initial=0))[None, :] < lengths[:, None]


def _multi_hot(sequences: Sequence[np.ndarray], size: int) -> np.ndarray:
    hot = np.zeros((len(sequences), size), dtype=np.float32)
    for row, ids in enumerate(sequences):
        hot[row, ids] = 1.0
    return hot
