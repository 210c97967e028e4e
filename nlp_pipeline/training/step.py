"""One optimizer step: the only place that calls backward() and step()."""

import contextlib
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..config.schema import TrainingConfig
from ..data.fields import Batch
from ..devices import ran_out_of_memory
from ..errors import OutOfMemoryError
from .exchange import Exchange
from .guard import MOST_SKIPPED, bad_rows, stop
from .inputs import StepInput

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from ..data.token_table import TokenTable
    from ..modeling.compact_vocabulary import CompactVocabulary
    from ..modeling.hidden_states import HiddenStates
    from ..recipe import Recipe


class _Unchecked(NamedTuple):
    """A step whose numbers nobody has looked at yet, and what it takes to make it anew."""

    given: StepInput
    loss: "torch.Tensor"
    bad: "torch.Tensor"
    """On the host, and to be read once `ready`."""
    ready: Any
    rates: list[float]
    decay: float


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
    _unchecked: "_Unchecked | None" = field(default=None, init=False)
    _precise: bool = field(default=False, init=False)
    _ran_out: bool = field(default=False, init=False)
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
        loss = self._gradient_that_fits(given)
        norm = self._clip()
        if self.late_check:
            if self.settle():  # that gradient was of weights without the last step
                self.optimizer.zero_grad(set_to_none=True)
                loss, norm = self._gradient_that_fits(given), self._clip()
            self._update_unless_bad(given, loss, norm)
            return loss
        if self._is_bad(norm, loss):
            return self._make_good(given)
        self._update()
        return loss

    def settle(self) -> bool:
        """Make the last step good if its numbers were not finite. Returns whether there was anything to do.

        To be called before losses are read and weights are saved or evaluated, where steps are checked late.
        """
        if self._unchecked is None:
            return False
        (given, loss, bad, ready, rates, decay), self._unchecked = self._unchecked, None
        if ready is not None:
            ready.synchronize()
        if not bool(bad):
            return False
        groups = self.optimizer.param_groups
        now = [group["lr"] for group in groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        if self.compact is not None:
            self.compact.decay = decay
        loss.copy_(self._make_good(given))
        for group, rate in zip(groups, now, strict=True):
            group["lr"] = rate
        return True

    def _update_unless_bad(self, given: StepInput, loss: "torch.Tensor", norm: "torch.Tensor") -> None:
        """The optimizer step, which the device itself leaves out if a number isn't finite; nothing is waited for.

        As a gradient scaler has it: the fused optimizer reads `found_inf` where it runs and then changes neither
        weights nor moments nor its count of steps.
        """
        import torch

        bad = self._are_bad(norm, loss)
        self._inner().found_inf = bad.float()
        rates = [group["lr"] for group in self.optimizer.param_groups]
        decay = 1.0 if self.compact is None else self.compact.decay
        self._update()
        self._inner().found_inf = None
        copied, ready = bad.to("cpu", non_blocking=True), None
        if bad.is_cuda:
            ready = torch.cuda.Event()
            ready.record()
        self._unchecked = _Unchecked(given, loss, copied, ready, rates, decay)

    def _make_good(self, given: StepInput) -> "torch.Tensor":
        """Once more, after numbers that weren't finite: as before if memory ran out somewhere, else in float32.

        If those aren't finite either, leave the step out or stop.

        Returns this process's part of the loss, not a number if the step was left out.
        """
        import torch

        if self.exchange.anyone(self._ran_out):
            loss, norm = self._anew(given)
            if not self._is_bad(norm, loss):
                self._update()
                return loss
        loss, norm = self._second_try(given)
        if bool(self._are_bad(norm, loss)):
            self._forget()
            if self.training.on_non_finite == "stop" or self.all_skipped >= MOST_SKIPPED:
                raise stop(self, given, "the loss or gradient")
            self.skipped[given.number + 1] = bad_rows(self, given)
            return torch.full_like(loss, math.nan)
        self.overflows.append(given.number + 1)
        self._update()
        return loss

    def _anew(self, given: StepInput) -> "tuple[torch.Tensor, torch.Tensor]":
        """(loss, gradient norm) of a step made once more, as often as memory runs out on some process."""
        while True:
            self._forget()
            self._ran_out = False
            loss, norm = self._gradient_that_fits(given), self._clip()
            if not (bool(self._are_bad(norm, loss)) and self.exchange.anyone(self._ran_out)):
                return loss, norm

    def _forget(self) -> None:
        """Have no gradients, and the gradient scaler not know of any."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler is not None:
            self.scaler.update(self.scaler.get_scale())

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # A step that the gradient scaler left out decays nothing.
        if self.compact is not None and not getattr(self.optimizer, "step_was_skipped", False):
            self.compact.after_step(self.optimizer)

    def _inner(self) -> Any:
        """torch's optimizer, inside accelerate's."""
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def _clip(self) -> "torch.Tensor":
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
            self._inner().grad_scale = ((norm + 1e-6) / limit).clamp(min=1.0)  # torch's clip_grad_norm_ has this 1e-6
        return norm

    def _is_bad(self, norm: "torch.Tensor", loss: "torch.Tensor") -> bool:
        """Whether the step must not be made.

        Under fp16 the gradient scaler leaves out, and makes smaller, gradients that are too large because of it. The
        loss is not, nor are gradients at a scale of 1, which it comes down to when many steps in a row fail.

        The norm of the exchanged gradients is the same on every process, so that all decide alike.
        """
        bad = bool(self._are_bad(norm, loss))
        if not bad or self.scaler is None or self.scaler.get_scale() <= 1:
            return bad
        return self.exchange.anyone(not bool(loss.isfinite()))

    def _are_bad(self, norm: "torch.Tensor", loss: "torch.Tensor") -> "torch.Tensor":
        """The same, bool on the device."""
        bad = ~norm.isfinite()
        return bad | ~loss.isfinite() if self.accelerator.num_processes == 1 else bad

    def _second_try(self, given: StepInput) -> "tuple[torch.Tensor, torch.Tensor]":
        """(loss, gradient norm) of the step in float32: tells an overflow from bad data."""
        with self.full_precision():
            return self._anew(given)

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

    def _gradient_that_fits(self, given: StepInput) -> "torch.Tensor":
        """`_gradient`, its forward passes cut in halves when memory runs out.

        Where other processes wait for this one's gradients already, they are no numbers, and `_ran_out` says why.

        Raises:
            OutOfMemoryError: they can't be cut.
        """
        import torch

        while True:
            try:
                return self._gradient(given)
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
                largest = max((len(batch.rows) for batch in self._split(given)), default=1)
                if self.sharded or largest < 2:
                    raise OutOfMemoryError(_no_memory(given, largest, error, self.sharded)) from error
                first = str(error).partition("\n")[0]
            self.splits += 1
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if not self.exchange.owed:
                self.optimizer.zero_grad(set_to_none=True)
                continue
            self._ran_out = True
            if not self.exchange.complete_with_nan():
                raise OutOfMemoryError(_no_memory(given, largest, first))
            return torch.full((), math.nan, device=self.accelerator.device)

    def _gradient(self, given: StepInput) -> "torch.Tensor":
        """Gradients of the mean loss over the global batch, and this process's part of that loss."""
        passes = [(b, 1.0) for b in self._split(given)] + [(b, 0.0) for b in given.fillers]
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

    def _split(self, given: StepInput) -> list[Batch]:
        """The step's forward passes, each halved as often as memory has run out so far."""
        if not self.splits or self.sharded:
            return given.batches
        parts = [part for batch in given.batches for part in np.array_split(batch.rows, 2**self.splits) if len(part)]
        return [self.recipe.batch(self.table, part, given.epoch) for part in parts]


def _no_memory(given: StepInput, largest: int, error: object, sharded: bool = False) -> str:
    """What ran out and what to lower; `largest` is the number of examples in the largest pass."""
    first = str(error).partition("\n")[0]
    if largest < 2:
        remedy = "lower tokenization.max_length, or set training.gradient_checkpointing=true or training.lora"
    else:
        remedy = f"set batch.micro below {largest}: the steps stay the same, in smaller forward passes"
    why = (
        ". The processes share the model (FSDP), so that none of them can cut its forward passes alone"
        if sharded
        else ""
    )
    return f"step {given.number + 1} does not fit into memory ({first}){why}; {remedy}"
