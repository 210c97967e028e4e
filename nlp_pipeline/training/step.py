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
from .bad_numbers import is_bad, make_good
from .exchange import Exchange
from .inputs import StepInput
from .late_check import Unchecked, settle, update_unless_bad
from .out_of_memory import gradient_that_fits, split

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from ..data.token_table import TokenTable
    from ..modeling.compact_vocabulary import CompactVocabulary
    from ..modeling.hidden_states import HiddenStates
    from ..recipe import Recipe


@dataclass
class Stepper:
    """Optimizer steps on global batches, whatever micro-batches and processes they are split over.

    Args:
        model: as accelerate prepared it, with the hooks that let it run packed if it has them.
        table: the rows, for a batch that has to be split anew after running out of memory.
        compact: the cut-down input embedding, if there is one.
        teacher: one that reads every batch beside the model, if there is one.
        skipped_before: steps left out before the checkpoint that the run goes on from.
        splits: how often this process's micro-batches are halved, which grows when memory runs out. A model in shards
            is not cut: its processes make the same number of passes.
    """

    recipe: "Recipe"
    model: Any
    optimizer: Any
    accelerator: "Accelerator"
    table: "TokenTable"
    training: TrainingConfig
    compact: "CompactVocabulary | None" = None
    teacher: "HiddenStates | None" = None
    skipped_before: int = 0
    splits: int = 0
    skipped: dict[int, list[int]] = field(default_factory=dict, init=False)
    """Steps (from 1) that were not made, with the positions of the rows at fault."""
    overflows: list[int] = field(default_factory=list, init=False)
    """Steps (from 1) that were made in float32 because mixed precision overflowed."""
    late_check: bool = field(default=False, init=False)
    """Whether a step is checked after the next one's gradient: on CUDA, where reading a number lets the device idle."""
    unchecked: Unchecked | None = field(default=None, init=False)
    """The last step, if its numbers have yet to be looked at."""
    _precise: bool = field(default=False, init=False)
    ran_out: bool = field(default=False, init=False)
    """Whether this process's last gradient is no number because memory ran out while others waited for it."""

    def __post_init__(self) -> None:
        import torch

        from ..modeling.padding_free import find
        from ..modeling.sharding import is_sharded

        self.padding_free = find(self.model)
        self.sharded = is_sharded(self.model)
        self.scaler = getattr(self.accelerator, "scaler", None)
        self.late_check = self.accelerator.device.type == "cuda" and self.scaler is None and not self.sharded
        self.exchange = Exchange(self.accelerator, self.model, self.sharded)
        if self.scaler is not None:  # made ready at its first use, which may not come before memory runs out
            self.scaler.scale(torch.zeros((), device=self.accelerator.device))

    @property
    def all_skipped(self) -> int:
        """Steps left out since the run began, the times before it was interrupted included."""
        return self.skipped_before + len(self.skipped)

    def step(self, given: StepInput) -> "torch.Tensor":
        """Forward, backward, clip, update. Returns this process's part of the mean loss, on the device, unread."""
        loss, norm = gradient_that_fits(self, given), self.clip()
        if self.late_check:
            if settle(self):  # that gradient was of weights without the last step
                self.optimizer.zero_grad(set_to_none=True)
                loss, norm = gradient_that_fits(self, given), self.clip()
            update_unless_bad(self, given, loss, norm)
            return loss
        if is_bad(self, norm, loss):
            return make_good(self, given)
        self.update()
        return loss

    def update(self) -> None:
        """The optimizer step, by the gradients that are there."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # A step that the gradient scaler left out decays nothing.
        if self.compact is not None and not getattr(self.optimizer, "step_was_skipped", False):
            self.compact.after_step(self.optimizer)

    def inner(self) -> Any:
        """torch's optimizer, inside accelerate's."""
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def clip(self) -> "torch.Tensor":
        """Have gradients scaled down to the largest norm allowed. Returns the norm that they have.

        The fused optimizer divides by `grad_scale` as it reads them: scaling them here would be a pass over all.
        """
        import torch

        limit = self.training.max_grad_norm
        if self.scaler is not None:  # it uses grad_scale itself
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), math.inf if limit is None else limit)
            return torch.as_tensor(norm)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        if self.sharded:
            norm = norm.full_tensor()  # type: ignore[attr-defined]
        if limit is not None:
            self.inner().grad_scale = ((norm + 1e-6) / limit).clamp(min=1.0)  # torch's clip_grad_norm_ has this 1e-6
        return norm

    @contextlib.contextmanager
    def full_precision(self) -> Iterator[None]:
        """Inside, the forward passes of the model and of its teacher are not in mixed precision."""
        inner = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)
        mixed = inner.__dict__.get("forward")
        original = inner.__dict__.get("_original_forward")
        if mixed is None or original is None:
            yield
            return
        inner.forward, self._precise = original, True
        try:
            yield
        finally:
            inner.forward, self._precise = mixed, False

    def gradient(self, given: StepInput) -> "torch.Tensor":
        """Gradients of the mean loss over the global batch, and this process's part of that loss."""
        passes = [(b, 1.0) for b in split(self, given)] + [(b, 0.0) for b in given.fillers]
        self.seed(given)
        if not self.recipe.whole_batch or (len(passes) == 1 and self.accelerator.num_processes == 1):
            return self._accumulate(given, passes)
        from .whole_batch import pulls

        loss, gradients = pulls(self, given, passes)
        return loss + self._accumulate(given, passes, gradients)

    def seed(self, given: StepInput, *part: int) -> None:
        """Seed what the forward passes of a step draw, or one `part` of them.

        Dropout depends on (seed, step, process) alone, so a resumed run draws what the uninterrupted one did.
        """
        import torch

        entropy = (self.training.seed, given.number, self.accelerator.process_index, *part)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def _accumulate(
        self, given: StepInput, passes: list[tuple[Batch, float]], pulls: "list[torch.Tensor] | None" = None
    ) -> "torch.Tensor":
        """Gradients of a loss that is a sum over examples: each micro-batch's are added to those before.

        Returns this process's part of the mean loss; of what pulls at the outputs nothing.

        Args:
            passes: micro-batches, with 1, or 0 for one that counts for nothing.
            pulls: for each, the gradient of a loss over the whole batch by its representations, in place of the loss.
        """
        import torch

        accelerator = self.accelerator
        total = torch.zeros((), device=accelerator.device)
        for number, (batch, counts) in enumerate(passes):
            batch.to(accelerator.device)
            if pulls is not None:
                self.seed(given, number)
            with self.exchange.apart(), self.packed(batch):
                outputs, apart = self.forward(batch)
                # The states' distance is a mean over tokens, the rest of the loss one over targets.
                loss = apart * (given.weight / given.tokens)
                if pulls is None:
                    loss = loss + self.recipe.training_loss(outputs, batch.targets)
                part = loss.detach() * counts
                if pulls is not None:
                    loss = loss + (outputs.representations.float() * pulls[number]).sum()
                with self.exchange.together() if number == len(passes) - 1 else contextlib.nullcontext():
                    # Gradients are averaged over processes; the factor makes the average a sum.
                    accelerator.backward(loss * counts * (accelerator.num_processes / max(given.weight, 1e-12)))
            total += part / max(given.weight, 1e-12)
        return total

    def forward(self, batch: Batch) -> "tuple[Any, torch.Tensor]":
        """The model's outputs, and the sum over tokens of how far its states are from a teacher's, if there is one."""
        import torch

        if self.teacher is None:
            return self.recipe.forward(self.model, batch), torch.zeros((), device=self.accelerator.device)
        precision = contextlib.nullcontext() if self._precise else self.accelerator.autocast()
        return self.teacher.forward(self.recipe, self.model, batch, precision)

    def packed(self, batch: Batch) -> AbstractContextManager[None]:
        """Run the model without padding, if it can."""
        if self.padding_free is None:
            return contextlib.nullcontext()
        from ..modeling.attention_layout import ROUND_TO, Layout

        return self.padding_free.packed(Layout(batch.lengths, ROUND_TO))
