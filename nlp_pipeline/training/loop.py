"""The training loop: the only place that calls backward() and step()."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config.schema import Config
from ..data.batching import Sampler, micro_batches, share
from ..data.fields import collate
from ..errors import ConfigError, NonFiniteError
from ..progress import Reporter
from ..run_directory import RunDirectory
from .checkpoint import (
    START_ANEW,
    TrainState,
    find_checkpoint,
    load_checkpoint,
    remove_after,
    remove_old,
    save_checkpoint,
)
from .optimization import make_optimizer, make_schedule, set_learning_rate

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from ..data.tokenization import TokenTable
    from ..recipe import Recipe

MICRO_TOKENS = 16_384
"""Most padded tokens in one forward pass when `batch.micro` isn't set."""


@dataclass(frozen=True)
class Plan:
    """How many steps a run makes, and when it evaluates and saves. Pure arithmetic."""

    steps_per_epoch: int
    total_steps: int
    evaluate_every: int
    save_every: int | None

    @classmethod
    def make(cls, config: Config, steps_per_epoch: int) -> "Plan":
        """From the settings and the number of optimizer steps in an epoch."""
        total = config.training.max_steps or max(1, math.ceil(config.training.epochs * steps_per_epoch))
        every = config.evaluation.every
        return cls(steps_per_epoch, total, steps_per_epoch if every == "epoch" else every, config.checkpoint.every)

    def evaluates_after(self, step: int) -> bool:
        """Whether an evaluation follows optimizer step number `step` (counted from 1)."""
        return step % self.evaluate_every == 0 or step == self.total_steps

    def saves_after(self, step: int) -> bool:
        """Whether a checkpoint follows it."""
        return self.evaluates_after(step) or bool(self.save_every and step % self.save_every == 0)


@dataclass
class Stepper:
    """One optimizer step on one global batch, whatever micro-batches and processes it is split over."""

    recipe: "Recipe"
    model: Any
    optimizer: Any
    accelerator: "Accelerator"
    table: "TokenTable"
    config: Config

    def step(self, rows: np.ndarray, step: int) -> "torch.Tensor":
        """Forward, backward, clip, update. Returns this process's part of the mean loss, on the device, unread."""
        import torch

        accelerator, training = self.accelerator, self.config.training
        fields = self.recipe.fields()
        # Dropout depends on (seed, step, process) alone, so a resumed run draws what the uninterrupted one did.
        seed = np.random.SeedSequence((training.seed, step, accelerator.process_index)).generate_state(1)[0]
        torch.manual_seed(int(seed))
        targets = [field for field in fields if field.target]
        # Every process knows the whole batch: the weight that the loss is divided by needs no communication.
        weight = self.recipe.weigh(collate(self.table, targets, rows).targets)
        mine = share(rows, accelerator.process_index, accelerator.num_processes)
        parts = micro_batches(mine, self.table.lengths, self.config.batch.micro, MICRO_TOKENS)
        total = torch.zeros((), device=accelerator.device)
        for number, part in enumerate(parts):
            # A process without rows still takes part in the gradient exchange, with a weight of nothing.
            batch = collate(self.table, fields, part if len(part) else rows[:1]).to(accelerator.device)
            with self._exchange(last=number == len(parts) - 1):
                loss = self.recipe.loss(self.model(**batch.inputs), batch.targets)
                loss = loss * (1.0 if len(part) else 0.0)
                # Gradients are averaged over processes; the factor makes the average a sum.
                accelerator.backward(loss * (accelerator.num_processes / max(weight, 1e-12)))
            total += loss.detach() / max(weight, 1e-12)
        if training.max_grad_norm is not None:
            accelerator.clip_grad_norm_(self.model.parameters(), training.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _exchange(self, last: bool) -> Any:
        """Exchange gradients with the other processes only in the last micro-batch."""
        import contextlib

        return contextlib.nullcontext() if last else self.accelerator.no_sync(self.model)


def fit(
    recipe: "Recipe",
    model: Any,
    table: "TokenTable",
    config: Config,
    run: RunDirectory,
    accelerator: "Accelerator",
    reporter: Reporter,
    evaluate: Callable[[Any], Mapping[str, float]] | None,
    identity: Mapping[str, Any],
) -> TrainState:
    """Train until the plan ends or early stopping does; the best weights lie in the run's checkpoints.

    Args:
        model: on any device, in fp32.
        table: tokenized training rows.
        evaluate: gives the metrics of the current weights on the validation rows, the same on every process; None
            without validation rows.
        identity: what must not have changed for a checkpoint to be used.

    Raises:
        NonFiniteError: the loss became NaN or infinite.
    """
    sampler = Sampler(table.lengths, config.batch.size, config.training.seed, config.batch.sampling)
    plan = Plan.make(config, sampler.steps_per_epoch)
    schedule = make_schedule(config.training, plan.total_steps)
    bare = model.to(accelerator.device)
    optimizer = make_optimizer(bare, config.training)
    state = _resume(run, bare, optimizer, identity, reporter, accelerator, plan)
    if config.training.gradient_checkpointing:
        recompute_activations(bare)
    model, prepared = accelerator.prepare(bare, optimizer)
    stepper = Stepper(recipe, model, prepared, accelerator, table, config)
    losses: list[torch.Tensor] = []
    patience = config.training.early_stopping
    began, seconds_before, examples_before = time.monotonic(), state.seconds, state.examples
    model.train()

    label = f"Training, {plan.total_steps:,} steps"
    with reporter.bar(label, plan.total_steps * config.batch.size, start=state.step * config.batch.size) as bar:
        for step, rows in sampler.batches_from(state.step):
            if step >= plan.total_steps or (patience and state.stale >= patience.patience):
                break
            rate = config.training.learning_rate * schedule(step)
            set_learning_rate(optimizer, rate)
            losses.append(stepper.step(rows, step))
            state.step += 1
            state.examples += len(rows)
            state.seconds = seconds_before + time.monotonic() - began

            # --- Every log_every steps, and before anything is saved: read the losses from the device.
            if state.step % config.training.log_every == 0 or plan.saves_after(state.step):
                read = _read(losses, accelerator, state.step)
                speed = (state.examples - examples_before) / (state.seconds - seconds_before)
                for number, loss in read.items():
                    entry = {"step": number, "epoch": number / plan.steps_per_epoch, "loss": loss}
                    entry["learning_rate"] = config.training.learning_rate * schedule(number - 1)
                    if number == state.step:
                        entry |= {"rows_per_second": speed, "seconds": state.seconds}
                    if accelerator.is_main_process:
                        run.log(entry)
                bar.advance(0, loss=sum(read.values()) / len(read), lr=rate)
            bar.advance(len(rows))

            # --- Every epoch or N steps: evaluate.
            if evaluate is not None and plan.evaluates_after(state.step):
                scores = evaluate(accelerator.unwrap_model(model))
                model.train()
                _judge(state, scores, recipe, config)
                if accelerator.is_main_process:
                    run.log({"step": state.step, "epoch": state.step / plan.steps_per_epoch, "validation": scores})
                mark = " (best so far)" if state.best_step == state.step else ""
                reporter.say(f"step {state.step:,}: {_short(scores, recipe.best_metric)}{mark}")

            # --- At the same moments, and every checkpoint.every steps: save.
            if plan.saves_after(state.step):
                if accelerator.is_main_process:
                    state.scaler = _scaler_state(accelerator)
                    save_checkpoint(run.checkpoints, bare, optimizer, state, identity)
                    remove_old(run.checkpoints, config.checkpoint.keep, state.best_step)
                accelerator.wait_for_everyone()
    if patience and state.stale >= patience.patience:
        reporter.say(f"stopped early: no improvement in {patience.patience} evaluations")
    return state


def recompute_activations(model: Any) -> None:
    """Turn gradient checkpointing on, under the name that the installed transformers has for it."""
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def _resume(
    run: RunDirectory,
    model: Any,
    optimizer: Any,
    identity: Mapping[str, Any],
    reporter: Reporter,
    accelerator: "Accelerator",
    plan: Plan,
) -> TrainState:
    """Put the newest whole checkpoint in place, if there is one, and cut the metric log back to it."""
    path, notes = find_checkpoint(run.checkpoints, identity)
    for note in notes:
        reporter.say(note)
    state = TrainState()
    if path is not None:
        state = load_checkpoint(path, model, optimizer)
        if state.step > plan.total_steps:
            raise ConfigError(
                f"training.epochs: {run.path} has trained {state.step:,} steps already, more than the "
                f"{plan.total_steps:,} wanted now; {START_ANEW}"
            )
        reporter.say(f"going on from {path.name} ({state.examples:,} rows seen)")
        if state.total_steps != plan.total_steps:
            reporter.say(
                f"the run is now {plan.total_steps:,} steps long, not {state.total_steps:,}: the learning rate goes on "
                f"as on the longer course, and the weights will not be those of a run planned so from its start"
            )
        if state.scaler and getattr(accelerator, "scaler", None) is not None:
            accelerator.scaler.load_state_dict(state.scaler)
    state.total_steps = plan.total_steps
    if accelerator.is_main_process:
        run.rewind_log(state.step if path is not None else -1)
        remove_after(run.checkpoints, state.step)
    return state


def _read(losses: "list[torch.Tensor]", accelerator: "Accelerator", step: int) -> dict[int, float]:
    """The mean loss of each step since the last read, over all processes. Empties the list."""
    import torch

    values = accelerator.reduce(torch.stack(losses), reduction="sum").tolist()
    losses.clear()
    by_step = dict(zip(range(step - len(values) + 1, step + 1), values, strict=True))
    for number, value in by_step.items():
        if not math.isfinite(value):
            raise NonFiniteError(
                f"the loss of step {number} is {value}; the last checkpoint is from before it. "
                "A lower training.learning_rate or training.precision=fp32 often helps"
            )
    return by_step


def _judge(state: TrainState, scores: Mapping[str, float], recipe: "Recipe", config: Config) -> None:
    """Note whether these scores are the best; an undefined score never is."""
    score = scores[recipe.best_metric]
    sign = 1.0 if recipe.greater_is_better else -1.0
    stopping = config.training.early_stopping
    margin = stopping.min_delta if stopping else 0.0
    if math.isnan(score):
        state.stale += 1
        return
    gain = math.inf if state.best_score is None else sign * (score - state.best_score)
    state.stale = 0 if gain > margin else state.stale + 1
    if gain > 0:
        state.best_score, state.best_step = score, state.step


def _scaler_state(accelerator: "Accelerator") -> dict[str, float]:
    scaler = getattr(accelerator, "scaler", None)
    return {k: float(v) for k, v in scaler.state_dict().items()} if scaler is not None else {}


def _short(scores: Mapping[str, float], best: str) -> str:
    ordered = [best, *(name for name in scores if name != best and "/" not in name)]
    return ", ".join(f"{name} {scores[name]:.4f}" for name in ordered)
