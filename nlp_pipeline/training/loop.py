"""The training loop: batches, steps, logs, evaluations and checkpoints, in the order in which they happen."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..config.schema import BatchConfig, Config
from ..data.batching import Sampler
from ..devices import give_memory_back, launched_sharding
from ..errors import NonFiniteError, StoppedError
from ..progress import Reporter
from ..run_directory import RunDirectory, finite
from ..startup import release_collector
from .checkpoint import ALONE, load_weights
from .guard import SpikeWatch, row_names
from .inputs import InputMaker, Prefetched
from .late_check import settle
from .memory import micro_tokens
from .optimization import make_optimizer, make_schedule, set_learning_rate
from .parity import verify_parity
from .plan import Plan
from .resuming import best_checkpoint, memory_settings, resume, scaler_state, splits_of
from .shards import Peers
from .signals import StopSignals
from .step import Stepper
from .train_state import TrainState
from .vocabulary import compact_vocabulary
from .writer import CheckpointWriter

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from ..data.token_table import TokenTable
    from ..modeling.compact_vocabulary import CompactVocabulary
    from ..modeling.hidden_states import HiddenStates
    from ..recipe import Recipe

PARITY_ROWS = 64
"""Rows of the first batch that `verify_parity` runs padded, in one pass."""
MICRO_TOKENS = 16_384
"""Most tokens in one forward pass when `batch.micro` isn't set, padding counted where there is any."""


def fit(
    recipe: "Recipe",
    model: Any,
    table: "TokenTable",
    config: Config,
    run: RunDirectory,
    accelerator: "Accelerator",
    reporter: Reporter,
    evaluate: Callable[[Any, int], Mapping[str, float]] | None,
    identity: Mapping[str, Any],
    teacher: "HiddenStates | None" = None,
) -> TrainState:
    """Train until the plan ends or early stopping does; the best weights lie in the run's checkpoints.

    Args:
        model: on any device, in fp32. What the launcher wants in shards is cut in place, for good.
        table: tokenized training rows.
        evaluate: gives the metrics of the current weights (model, step) on the validation rows, the same on every
            process; None without validation rows.
        identity: what must not have changed for a checkpoint to be used.
        teacher: reads every batch beside the model.

    Raises:
        NonFiniteError: a loss or gradient is NaN or infinite; no step was made with it.
        StorageError: a checkpoint can't be written.
        StoppedError: SIGTERM or Ctrl-C; everything is saved.
    """
    from ..modeling.compiling import Compilation
    from ..modeling.padding_free import find
    from ..modeling.sharding import shard

    packed = find(model) is not None
    batch = config.batch
    sampler = Sampler(table.lengths, batch.size, config.training.seed, recipe.sampling, batch.tokens)
    plan = Plan.make(config, sampler.steps_per_epoch)
    schedule = make_schedule(config.training, plan.total_steps)
    sharding = launched_sharding()
    bare = model if sharding else model.to(accelerator.device)
    compact = compact_vocabulary(recipe, bare, table, reporter)
    if config.training.gradient_checkpointing:
        recompute_activations(bare)
    setting = False if sharding or teacher is not None else config.training.compile
    tokens = plan.total_steps / plan.steps_per_epoch * int(table.lengths.sum()) / accelerator.num_processes
    recompute = config.training.gradient_checkpointing
    compilation = Compilation(bare, setting, accelerator.device.type, recompute, tokens, reporter.say)
    if config.training.verify_parity:
        verify_parity(recipe, bare, table, next(sampler.epoch(0))[:PARITY_ROWS], accelerator, reporter)
    if sharding:
        shard(bare, sharding, accelerator)
    optimizer = make_optimizer(bare, config.training)
    state = resume(run, bare, optimizer, identity, reporter, accelerator, plan)
    if compact is not None and state.step:
        compact.loaded()
    model, prepared = (bare, optimizer) if sharding else accelerator.prepare(bare, optimizer)
    peers = Peers.meet(config.training.peer_timeout) if sharding else ALONE
    memory = memory_settings(recipe)
    splits = splits_of(state, accelerator, memory)
    stepper = Stepper(
        recipe, model, prepared, accelerator, table, config.training, compact, teacher, state.skipped, splits
    )
    make = InputMaker(
        recipe,
        table,
        accelerator.process_index,
        accelerator.num_processes,
        batch.micro,
        MICRO_TOKENS
        if batch.micro
        else micro_tokens(recipe, stepper, table, _step_tokens(table, batch, accelerator), MICRO_TOKENS),
        padded=not packed,
        steps_per_epoch=sampler.steps_per_epoch,
        pin=accelerator.device.type == "cuda",
        in_step=sharding is not None,
    )
    losses: list[torch.Tensor] = []
    patience = config.training.early_stopping
    began, seconds_before, examples_before = time.monotonic(), state.seconds, state.examples
    model.train()
    release_collector()

    label = f"Training, {plan.total_steps:,} steps"
    background = config.checkpoint.background
    in_background = accelerator.device.type != "cpu" if background == "auto" else background
    spikes = SpikeWatch(**state.losses)  # type: ignore[arg-type]
    with (
        reporter.bar(label, sampler.rows_before(plan.total_steps), start=state.examples) as bar,
        Prefetched(sampler.batches_from(state.step), make) as inputs,
        CheckpointWriter(run.checkpoints, config.checkpoint.keep, in_background, peers) as writer,
        StopSignals() as signals,
    ):
        while state.step < plan.total_steps and not (patience and state.stale >= patience.patience):
            given = next(inputs)
            rate = config.training.learning_rate * schedule(given.number)
            set_learning_rate(optimizer, rate)
            losses.append(stepper.step(given))
            state.step += 1
            spikes.note(state.step, given.rows)
            state.examples += len(given.rows)
            state.seconds = seconds_before + time.monotonic() - began

            # --- Every log_every steps, and before anything is saved: read the losses from the device.
            stopping = _stopping(signals, accelerator, state.step % config.training.log_every == 0)
            if state.step % config.training.log_every == 0 or plan.saves_after(state.step) or stopping:
                settle(stepper)
                read = _read(losses, accelerator, state.step, stepper.skipped)
                passed = state.seconds - seconds_before
                for number, loss in read.items():
                    entry: dict[str, Any] = {"step": number, "epoch": number / plan.steps_per_epoch, "loss": loss}
                    entry["learning_rate"] = config.training.learning_rate * schedule(number - 1)
                    if number == state.step:
                        entry |= {"rows_per_second": (state.examples - examples_before) / passed}
                        entry |= {"seconds": state.seconds, "data_wait": inputs.waited / passed}
                    if number in stepper.skipped:
                        entry["skipped_rows"] = row_names(recipe, stepper.skipped[number])
                    if accelerator.is_main_process:
                        run.log(entry)
                for number, loss, rows in spikes.read(read):
                    named = row_names(recipe, rows)
                    reporter.say(f"step {number:,}: the loss jumped to {loss:.4g}; its rows: {named}")
                    if accelerator.is_main_process:
                        run.log({"step": number, "spike": loss, "rows": named})
                known = [loss for loss in read.values() if math.isfinite(loss)]
                bar.advance(0, loss=sum(known) / len(known) if known else math.nan, lr=rate)
            bar.advance(len(given.rows))

            # --- Every epoch or N steps: evaluate.
            if evaluate is not None and plan.evaluates_after(state.step):
                with _expanded(compact):
                    scores = evaluate(accelerator.unwrap_model(model), state.step)
                model.train()
                _judge(state, scores, recipe, config)
                entry = {"step": state.step, "epoch": state.step / plan.steps_per_epoch, "validation": scores}
                state.evaluations.append(finite(entry))
                if accelerator.is_main_process:
                    run.log(entry)
                mark = " (best so far)" if state.best_step == state.step else ""
                reporter.say(f"step {state.step:,}: {_short(scores, recipe.best_metric)}{mark}")

            # --- At the same moments, every checkpoint.every steps, and when a signal asks to stop: save.
            if plan.saves_after(state.step) or stopping:
                state.splits, state.splits_under = stepper.exchange.every(stepper.splits), memory
                if accelerator.is_main_process or sharding:
                    state.scaler, state.losses = scaler_state(accelerator), spikes.kept
                    state.skipped, state.log_size = stepper.all_skipped, run.log_size()
                    writer.save(bare, optimizer, state, identity)
                accelerator.wait_for_everyone()
            if stopping and state.step < plan.total_steps:
                writer.wait()
                raise StoppedError(f"stopped by a signal after step {state.step:,}; everything is saved", stopping)
    optimizer.state.clear()  # before the whole embedding takes its memory
    give_memory_back()
    if accelerator.is_main_process and not sharding and (best := best_checkpoint(run, state, reporter)):
        load_weights(best, bare)
        if compact is not None:
            compact.loaded()
    if compact is not None:
        compact.remove()
    compilation.report()
    if stepper.skipped:
        reporter.say(f"{len(stepper.skipped)} steps left out, not finite numbers: see skipped_rows in {run.metrics}")
    if stepper.overflows:
        reporter.say(f"{len(stepper.overflows)} steps overflowed in mixed precision and were made in fp32")
    if any(state.splits) and not sharding:
        reporter.say(
            f"memory ran out: forward passes were cut into {2 ** max(state.splits)} parts, steps stayed the same"
        )
    if patience and state.stale >= patience.patience:
        reporter.say(f"stopped early: no improvement in {patience.patience} evaluations")
    return state


def _expanded(compact: "CompactVocabulary | None") -> Any:
    return contextlib.nullcontext() if compact is None else compact.expanded()


def _step_tokens(table: "TokenTable", batch: BatchConfig, accelerator: "Accelerator") -> int:
    """About as many tokens as a process's share of an optimizer step can have."""
    step = batch.tokens or batch.size * int(table.lengths.max())
    return -(-step // accelerator.num_processes)


def recompute_activations(model: Any) -> None:
    """Turn gradient checkpointing on, under the name that the installed transformers has for it."""
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def _stopping(signals: StopSignals, accelerator: "Accelerator", agreed: bool) -> int:
    """The signal that asks to stop, or 0. Several processes must stop at one step: they agree where losses are read."""
    if accelerator.num_processes == 1:
        return signals.received or 0
    if not agreed:
        return 0
    import torch

    mine = torch.tensor([float(signals.received or 0)], device=accelerator.device)
    return int(accelerator.gather(mine).max())


def _read(
    losses: "list[torch.Tensor]", accelerator: "Accelerator", step: int, skipped: Mapping[int, Any]
) -> dict[int, float]:
    """The mean loss of each step since the last read, over all processes. Empties the list."""
    import torch

    values = accelerator.reduce(torch.stack(losses), reduction="sum").tolist()
    losses.clear()
    by_step = dict(zip(range(step - len(values) + 1, step + 1), values, strict=True))
    for number, value in by_step.items():
        if not math.isfinite(value) and number not in skipped:
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


def _short(scores: Mapping[str, float], best: str) -> str:
    ordered = [best, *(name for name in scores if name != best and "/" not in name)]
    return ", ".join(f"{name} {scores[name]:.4f}" for name in ordered)
