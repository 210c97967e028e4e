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

    Kinds, by what the column holds for each example and the tensor's shape:

    - `tokens`: a sequence, or several → [sequences, longest] filled up with `pad`
    - `row`: a number → [examples]
    - `sequence`: a number for each of its sequences → [sequences]
    - `set`: any number of ids → 0/1 floats [examples, size]
    - `vector`: numbers, as many for each example → [examples, size], or for each sequence → [sequences, size]
    - `token_vectors`: the numbers of all tokens one after another, as many for each → [sequences, longest, size]
    """

    name: str
    kind: Literal["tokens", "row", "sequence", "set", "vector", "token_vectors"] = "tokens"
    dtype: Literal["int64", "float32", "bool"] = "int64"
    pad: float = 0
    size: int = 0
    group: str = ""
    """Token fields of one group share their lengths; each group has an attention mask, `<group>attention_mask`."""
    target: bool = False
    """Held back from the model: for the loss and the evaluation only."""


def label_field(kind: str, size: int) -> Field:
    """`labels` by their kind: an id a row, any number of ids (`multi_label`) out of `size`, or a number."""
    if kind == "multi_label":
        return Field("labels", "set", "float32", size=size, target=True)
    return Field("labels", "row", "float32" if kind == "regression" else "int64", target=True)


@dataclass
class Batch:
    """What one forward pass gets.

    `rows` int[n] are the examples' positions in the table; `inputs` goes to the model, `targets` to the loss; `lengths`
    int64[sequences] are the tokens of each sequence, `sizes` int64[n] the sequences of each example.
    """

    rows: np.ndarray
    inputs: dict[str, "torch.Tensor"]
    targets: dict[str, "torch.Tensor"]
    lengths: np.ndarray
    sizes: np.ndarray

    def by_example(self, values: np.ndarray) -> list[np.ndarray]:
        """Values [sequences, ...] as an array an example, [its sequences, ...]."""
        return np.split(values, np.cumsum(self.sizes)[:-1])

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
    """Gather examples of a table into one padded batch.

    Where examples are several sequences, the targets get their number too: `sizes` int64[examples].
    """
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
        elif field.kind == "sequence":
            array = np.concatenate(table.sequences(field.name, rows))
        elif field.kind == "vector":
            array = np.stack(table.sequences(field.name, rows))
        elif field.kind == "token_vectors":  # after the tokens of its group, whose lengths it shares
            mask = masks[field.group]
            array = np.zeros((*mask.shape, field.size), np.float32)
            array[mask] = np.concatenate(table.sequences(field.name, rows)).reshape(-1, field.size)
        else:
            sequences = table.sequences(field.name, rows)
            mask = masks.setdefault(field.group, _mask(sequences))
            array = np.full(mask.shape, field.pad, dtype=np.float32 if field.dtype == "float32" else np.int64)
            array[mask] = np.concatenate(sequences) if sequences else []
        tensors[field.name] = torch.from_numpy(np.ascontiguousarray(array.astype(field.dtype, copy=False)))
    targets = {field.name: tensors.pop(field.name) for field in fields if field.target and field.name in tensors}
    for group, mask in masks.items():
        tensors[f"{group}attention_mask"] = torch.from_numpy(mask.astype(np.int64))
    lengths = next(iter(masks.values())).sum(1) if masks else np.zeros(len(rows), np.int64)
    sizes = np.ones(len(rows), np.int64) if table.sizes is None else table.sizes[rows].astype(np.int64)
    if table.sizes is not None:
        targets["sizes"] = torch.from_numpy(sizes)
    return Batch(np.asarray(rows), tensors, targets, lengths, sizes)


def draws(seed: int, epoch: int, index: int) -> np.random.Generator:
    """What is random about one example in one epoch: the same on every process, and in a run that was resumed."""
    return np.random.default_rng((seed, epoch, index))


def _mask(sequences: Sequence[np.ndarray]) -> np.ndarray:
    """bool[rows, longest], true where there is a token."""
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    return np.arange(lengths.max(initial=0))[None, :] < lengths[:, None]


def _multi_hot(sequences: Sequence[np.ndarray], size: int) -> np.ndarray:
    hot = np.zeros((len(sequences), size), dtype=np.float32)
    for row, ids in enumerate(sequences):
        hot[row, ids] = 1.0
    return hot
