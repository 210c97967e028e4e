"""One optimizer step: the only place that calls backward() and step()."""

import contextlib
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config.schema import TrainingConfig
from ..data.fields import Batch
from .guard import MOST_SKIPPED, bad_rows, stop
from .inputs import StepInput

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from ..data.token_table import TokenTable
    from ..modeling.compact_vocabulary import CompactVocabulary
    from ..recipe import Recipe


@dataclass
class Stepper:
    """Optimizer steps on global batches, whatever micro-batches and processes they are split over.

    Args:
        model: as accelerate prepared it, with the hooks that let it run packed if it has them.
        table: the rows, for a batch that has to be split anew after running out of memory.
        compact: the cut-down input embedding, if there is one.
    """

    recipe: "Recipe"
    model: Any
    optimizer: Any
    accelerator: "Accelerator"
    table: "TokenTable"
    training: TrainingConfig
    compact: "CompactVocabulary | None" = None
    splits: int = field(default=0, init=False)
    """How often a micro-batch was halved because memory ran out."""
    skipped: dict[int, list[int]] = field(default_factory=dict, init=False)
    """Steps (from 1) that were not made, with the positions of the rows at fault."""
    overflows: list[int] = field(default_factory=list, init=False)
    """Steps (from 1) that were made in float32 because mixed precision overflowed."""

    def __post_init__(self) -> None:
        from ..modeling.padding_free import find

        self.padding_free = find(self.model)

    def step(self, given: StepInput) -> "torch.Tensor":
        """Forward, backward, clip, update. Returns this process's part of the mean loss, on the device, unread."""
        import torch

        while True:
            try:
                loss = self._gradient(given)
                break
            except torch.OutOfMemoryError:
                # With several processes the others already wait for this one's gradients: it can't start over alone.
                if self.accelerator.num_processes > 1 or len(given.mine) < 2 ** (self.splits + 1):
                    raise
                self.splits += 1
                self.optimizer.zero_grad(set_to_none=True)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        norm = self._clip()
        if self._is_bad(norm, loss):
            loss, norm = self._second_try(given)
            if self._is_bad(norm, loss):
                self.optimizer.zero_grad(set_to_none=True)
                if self.training.on_non_finite == "stop" or len(self.skipped) >= MOST_SKIPPED:
                    raise stop(self, given, "the loss or gradient")
                self.skipped[given.number + 1] = bad_rows(self, given)
                return torch.full_like(loss, math.nan)
            self.overflows.append(given.number + 1)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.compact is not None:
            self.compact.after_step(self.optimizer)
        return loss

    def _clip(self) -> "torch.Tensor":
        """Have gradients scaled down to the largest norm allowed. Returns the norm that they have.

        The fused optimizer divides by `grad_scale` as it reads them: scaling them here would be a pass over all.
        """
        import torch

        limit = self.training.max_grad_norm
        if getattr(self.accelerator, "scaler", None) is not None:  # it uses grad_scale itself
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), math.inf if limit is None else limit)
            return torch.as_tensor(norm)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        if limit is not None:
            inner = getattr(self.optimizer, "optimizer", self.optimizer)  # inside accelerate's
            inner.grad_scale = ((norm + 1e-6) / limit).clamp(min=1.0)  # torch's clip_grad_norm_ has this 1e-6
        return norm

    def _is_bad(self, norm: "torch.Tensor", loss: "torch.Tensor") -> bool:
        """Whether the step must not be made. Under fp16 the gradient scaler decides, and skips it by itself.

        The norm of the exchanged gradients is the same on every process, so that all decide alike.
        """
        if getattr(self.accelerator, "scaler", None) is not None:
            return False
        good = norm.isfinite()
        if self.accelerator.num_processes == 1:
            good = good & loss.isfinite()
        return not bool(good)

    def _second_try(self, given: StepInput) -> "tuple[torch.Tensor, torch.Tensor]":
        """(loss, gradient norm) of the step in float32: tells an overflow from bad data."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.full_precision():
            return self._gradient(given), self._clip()

    @contextlib.contextmanager
    def full_precision(self) -> Iterator[None]:
        """Inside, the model's forward pass is not in mixed precision."""
        inner = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)
        mixed = inner.__dict__.get("forward")
        original = inner.__dict__.get("_original_forward")
        if mixed is None or original is None:
            yield
            return
        inner.forward = original
        try:
            yield
        finally:
            inner.forward = mixed

    def _gradient(self, given: StepInput) -> "torch.Tensor":
        """Gradients of the mean loss over the global batch, and this process's part of that loss."""
        import torch

        # Dropout depends on (seed, step, process) alone, so a resumed run draws what the uninterrupted one did.
        entropy = (self.training.seed, given.number, self.accelerator.process_index)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        return self._accumulate(given, self._split(given))

    def _accumulate(self, given: StepInput, batches: list[Batch]) -> "torch.Tensor":
        """Gradients of a loss that is a sum over examples: each micro-batch's are added to those before."""
        import torch

        accelerator = self.accelerator
        total = torch.zeros((), device=accelerator.device)
        for number, batch in enumerate(batches):
            batch.to(accelerator.device)
            with self._exchange(last=number == len(batches) - 1), self.packed(batch):
                loss = self.recipe.loss(self.recipe.forward(self.model, batch), batch.targets)
                loss = loss * (1.0 if given.counts else 0.0)
                # Gradients are averaged over processes; the factor makes the average a sum.
                accelerator.backward(loss * (accelerator.num_processes / max(given.weight, 1e-12)))
            total += loss.detach() / max(given.weight, 1e-12)
        return total

    def packed(self, batch: Batch) -> AbstractContextManager[None]:
        """Run the model without padding, if it can."""
        if self.padding_free is None:
            return contextlib.nullcontext()
        from ..modeling.attention_layout import ROUND_TO, Layout

        return self.padding_free.packed(Layout(batch.lengths, ROUND_TO))

    def _split(self, given: StepInput) -> list[Batch]:
        """The step's forward passes, each halved as often as memory has run out so far."""
        if not self.splits:
            return given.batches
        parts = [part for batch in given.batches for part in np.array_split(batch.rows, 2**self.splits) if len(part)]
        return [self.recipe.batch(self.table, part, given.epoch) for part in parts]

    def _exchange(self, last: bool) -> Any:
        """Exchange gradients with the other processes only in the last micro-batch."""
        return contextlib.nullcontext() if last else self.accelerator.no_sync(self.model)
