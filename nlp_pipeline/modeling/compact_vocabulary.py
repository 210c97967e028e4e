"""Training only the rows of the input embedding that the training rows use.

The other rows have a gradient of zero, for which AdamW does nothing but decay them by a known factor. Leaving them out
gives the same weights, without their gradients, moments and decay, which on a short fine-tuning run cost more than
some layers do. Checkpoints hold the rows that train and the product of the factors: the rest is the model that the run
began with, decayed by that product at once, so that its last bits don't depend on when that is done.
"""

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ..errors import START_ANEW, CheckpointError

WORTH_BYTES = 16 * 2**20
"""Least saving (gradient and two moments, float32) for which the table is compacted without being asked to."""


def why_not_compact(model: Any) -> str | None:
    """Why the input embedding has to stay whole; None when it need not."""
    if getattr(model.config, "is_encoder_decoder", False):
        return "the decoder reads other tokens through it"
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
        self.embedding: Any = model.get_input_embeddings()
        self.whole = self.embedding.weight
        ids = np.unique(np.asarray(list(used) if not isinstance(used, np.ndarray) else used, np.int64))
        self.used = torch.from_numpy(ids).to(self.whole.device)
        # A token that training was not to meet has no place in the table: looking it up is an error.
        self.slots = torch.full((len(self.whole),), len(ids), dtype=torch.int64, device=self.whole.device)
        self.slots[self.used] = torch.arange(len(ids), device=self.whole.device)
        self.compact = torch.nn.Parameter(self.whole.detach()[self.used].clone())
        self.padding_id = self.embedding.padding_idx
        self.hook: Any = None
        # Among the model's buffers they are part of its checkpoints.
        self.embedding.register_buffer("rows_that_train", self.used.clone())
        self.embedding.register_buffer("decay_of_others", torch.ones((), dtype=torch.float64))
        self.embedding.register_buffer("mark_of_others", torch.tensor(self._mark(ids)))
        self.decay = 1.0
        self._shrink()

    @property
    def rows_left_out(self) -> int:
        """Rows of the whole table that don't train."""
        return len(self.whole) - len(self.used)

    @property
    def bytes_saved(self) -> int:
        """Gradient and two moments of the rows left out, float32."""
        return self.rows_left_out * self.whole.shape[1] * 4 * 3

    @property
    def decay(self) -> float:
        """The product of the factors by which the steps so far would have decayed the rows left out."""
        return self._decay

    @decay.setter
    def decay(self, value: float) -> None:
        self._decay = value
        self.embedding.decay_of_others.fill_(value)

    def after_step(self, optimizer: Any) -> None:
        """Note the weight decay that the step would have given to the rows left out."""
        for group in optimizer.param_groups:
            if any(parameter is self.compact for parameter in group["params"]):
                self.decay *= 1.0 - group["lr"] * group["weight_decay"]

    def loaded(self) -> None:
        """Take over what a checkpoint has put into the model.

        Raises:
            CheckpointError: other rows trained there, or the rows left out were other ones: those of a Hub model
                without a commit may have changed since.
        """
        if not torch.equal(self.embedding.rows_that_train, self.used):
            raise CheckpointError(f"the checkpoint is of other rows of the input embedding; {START_ANEW}")
        if int(self.embedding.mark_of_others) != self._mark(self.used.cpu().numpy()):
            raise CheckpointError(
                "the model that the run began with is another now, and its checkpoints lack the embedding rows that "
                f"don't train; name the one it was (model.revision), or {START_ANEW}"
            )
        self.decay = float(self.embedding.decay_of_others)

    def _mark(self, used: np.ndarray) -> int:
        """A sum over some of the rows left out, which never change while the table is cut down."""
        some = np.setdiff1d(np.linspace(0, len(self.whole) - 1, 32, dtype=np.int64), used)
        return zlib.crc32(self.whole.detach()[torch.from_numpy(some).to(self.whole.device)].float().cpu().numpy())

    @contextmanager
    def expanded(self) -> Iterator[None]:
        """The whole table inside, to evaluate on any text: a copy, where rows left out have decayed."""
        self.hook.remove()
        with torch.no_grad():
            # Rows that train are never read from the table that the run began with.
            table = self.whole if self.decay == 1.0 else self.whole * self.decay
            table[self.used] = self.compact.to(table)
        self._put(table)
        try:
            yield
        finally:
            self._shrink()

    def remove(self) -> None:
        """Merge what was trained into the whole table and put that back."""
        self.hook.remove()
        del self.embedding.rows_that_train, self.embedding.decay_of_others, self.embedding.mark_of_others
        with torch.no_grad():
            if self.decay != 1.0:
                self.whole.mul_(self.decay)
            self.whole[self.used] = self.compact.to(self.whole)
        self._put(self.whole)

    def _put(self, table: torch.Tensor) -> None:
        self.embedding.weight = table if table is self.whole else torch.nn.Parameter(table)
        self.embedding.num_embeddings, self.embedding.padding_idx = len(self.whole), self.padding_id

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
