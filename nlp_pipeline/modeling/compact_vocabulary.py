"""Training only the rows of the input embedding that the training rows use.

The other rows have a gradient of zero, for which AdamW does nothing but decay them by a known factor. Leaving them out
gives the same weights, without their gradients, moments and decay, which on a short fine-tuning run cost more than
some layers do.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

WORTH_BYTES = 16 * 2**20
"""Least saving (gradient and two moments, float32) for which the table is compacted without being asked to."""

BLOCK = 2**16
"""Numbers that are decayed by one pending step after another while they lie in a CPU's cache."""


def why_not_compact(model: Any) -> str | None:
    """Why the input embedding has to stay whole; None when it need not."""
    embedding = model.get_input_embeddings()
    if type(embedding) is not torch.nn.Embedding:
        return f"it is a {type(embedding).__name__}"
    if not embedding.weight.requires_grad:
        return "it isn't trained"
    if sum(p is embedding.weight for p in model.parameters()) != 1 or _is_shared(model, embedding):
        return "the output layer shares it"
    return None


def _is_shared(model: Any, embedding: torch.nn.Embedding) -> bool:
    owners = [m for m in model.modules() for p in m.parameters(recurse=False) if p is embedding.weight]
    return len(owners) > 1


class CompactVocabulary:
    """The input embedding of a model, cut down to some of its rows while it trains.

    Args:
        model: a transformers model, before the optimizer is made.
        used: token ids that training will meet.
    """

    def __init__(self, model: Any, used: Iterable[int] | np.ndarray) -> None:
        self.embedding: torch.nn.Embedding = model.get_input_embeddings()
        self.whole = self.embedding.weight
        ids = np.unique(np.asarray(list(used) if not isinstance(used, np.ndarray) else used, np.int64))
        self.used = torch.from_numpy(ids).to(self.whole.device)
        self.slots = torch.zeros(len(self.whole), dtype=torch.int64, device=self.whole.device)
        self.slots[self.used] = torch.arange(len(ids), device=self.whole.device)
        self.compact = torch.nn.Parameter(self.whole.detach()[self.used].clone())
        self.padding_id = self.embedding.padding_idx
        self.pending: list[float] = []
        """The factors by which the steps since the last merge would have decayed the rows left out."""
        self.hook: Any = None
        self._shrink()

    @property
    def rows_left_out(self) -> int:
        """Rows of the whole table that don't train."""
        return len(self.whole) - len(self.used)

    @property
    def bytes_saved(self) -> int:
        """Gradient and two moments of the rows left out, float32."""
        return self.rows_left_out * self.whole.shape[1] * 4 * 3

    def after_step(self, optimizer: Any) -> None:
        """Note the weight decay that the step would have given to the rows left out."""
        for group in optimizer.param_groups:
            if any(parameter is self.compact for parameter in group["params"]):
                self.pending.append(1.0 - group["lr"] * group["weight_decay"])

    @contextmanager
    def expanded(self) -> Iterator[None]:
        """The whole table inside: to save, to load, to evaluate on any text. Changes to its used rows are kept."""
        self.remove()
        try:
            yield
        finally:
            with torch.no_grad():
                self.compact.copy_(self.whole[self.used])
            self._shrink()

    def remove(self) -> None:
        """Merge what was trained into the whole table and put that back."""
        with torch.no_grad():
            self._decay()
            self.whole[self.used] = self.compact.to(self.whole)
        self.embedding.weight = self.whole
        self.embedding.num_embeddings, self.embedding.padding_idx = len(self.whole), self.padding_id
        self.hook.remove()

    def _decay(self) -> None:
        """Decay the table step by step: by one product of them, its last bits would depend on when that was done."""
        numbers = self.whole.view(-1)
        size = BLOCK if numbers.device.type == "cpu" else len(numbers)  # elsewhere each pass is a launch
        for block in numbers.split(size):
            for factor in self.pending:
                block.mul_(factor)
        self.pending.clear()

    def _shrink(self) -> None:
        self.embedding.weight = self.compact
        self.embedding.num_embeddings = len(self.used)
        if self.padding_id is not None:
            kept = bool((self.used == self.padding_id).any())
            self.embedding.padding_idx = int(self.slots[self.padding_id]) if kept else None
        self.hook = self.embedding.register_forward_pre_hook(self._to_slots)

    def _to_slots(self, module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.slots = self.slots.to(args[0].device)
        return self.slots[args[0]], *args[1:]
