"""Going on from a checkpoint, and which one ends as the model."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import START_ANEW, ConfigError
from ..progress import Reporter
from ..run_directory import RunDirectory
from .checkpoint import load_checkpoint
from .checkpoint_folder import find_checkpoint, remove_after, verify
from .plan import Plan
from .train_state import TrainState, name_of

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..recipe import Recipe


def resume(
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
    _agree(path.name if path else None, run, accelerator)
    state = TrainState()
    if path is not None:
        state = load_checkpoint(path, model, optimizer)
        if state.step > plan.total_steps:
            raise ConfigError(
                f"{plan.length_setting}: {run.path} has trained {state.step:,} steps already, more than the "
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
        run.rewind_log(state.step if path is not None else -1, state.log_size, state.evaluations)
        remove_after(run.checkpoints, state.step)
    return state


def best_checkpoint(run: RunDirectory, state: TrainState, reporter: Reporter) -> Path | None:
    """Where the best weights are, unless they are the last; what can't be read any more is said, and the last stay."""
    if state.best_step is None or state.best_step == state.step:
        return None
    best = run.checkpoints / name_of(state.best_step)
    problem = verify(best)
    if problem is None:
        return best
    reporter.say(f"{best}, which held the best weights, can't be used: {problem}; those of the last step are kept")
    state.best_step = state.best_score = None
    return None


def _agree(found: str | None, run: RunDirectory, accelerator: "Accelerator") -> None:
    """Refuse to go on from different checkpoints, before any process touches one.

    Raises:
        ConfigError: a process sees another newest checkpoint than the main one, as on a disk of its own.
    """
    if accelerator.num_processes == 1:
        return
    from accelerate.utils import gather_object

    names = gather_object([found])
    if len(set(names)) > 1:
        each = ", ".join(f"process {number}: {name or 'none'}" for number, name in enumerate(names))
        raise ConfigError(
            f"output.dir: the processes find different checkpoints in {run.path} ({each}); expected a folder that all "
            "of them share, and that nothing else changes"
        )


def scaler_state(accelerator: "Accelerator") -> dict[str, float]:
    """What a checkpoint keeps of the loss scaler of fp16; empty without one."""
    scaler = getattr(accelerator, "scaler", None)
    return {k: float(v) for k, v in scaler.state_dict().items()} if scaler is not None else {}


def memory_settings(recipe: "Recipe") -> str:
    """What decides how much memory a forward pass takes, of what may change where a run goes on."""
    config = recipe.config
    return f"{recipe.accelerator.device.type} {config.batch.micro} {config.training.gradient_checkpointing}"


def splits_of(state: TrainState, accelerator: "Accelerator", under: str) -> int:
    """How often memory ran out in this process before; among another number of processes, in the one it did most.

    Args:
        under: `memory_settings` now; under others it may not run out.
    """
    if state.splits_under != under:
        return 0
    if len(state.splits) == accelerator.num_processes:
        return state.splits[accelerator.process_index]
    return max(state.splits, default=0)
