"""Forward passes without gradients: each row once, for any number of processes, in the rows' own order."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.batching import sorted_batches
from ..devices import ran_out_of_memory
from ..errors import OutOfMemoryError
from ..progress import Bar

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..data.fields import Batch
    from ..data.token_table import TokenTable
    from ..recipe import Recipe


ONE_AT_A_TIME = threading.RLock()
"""Held through a forward pass: what a packed model runs on is set beside the model, not handed to it, so that two
threads of a program that predicts in both would get each other's rows."""


@dataclass(frozen=True)
class RowOutputs:
    """What the model said of each row.

    `values` has one array a row, as the task's `collect` gave it, or a list of them where a row may be several
    examples; `losses` has each batch's loss summed over its targets and `weights` what the task makes of their number,
    both empty where the rows have no labels.
    """

    values: list[Any]
    losses: list[float]
    weights: list[float]


@contextlib.contextmanager
def kept_casts(device: str) -> Iterator[None]:
    """Inside, what autocast makes of a model's weights is kept from one forward pass to the next, not made anew.

    torch keeps it up to the end of the outermost context, which this one is if there is none yet; by itself it casts
    nothing.

    Args:
        device: its type, `cpu` or `cuda`.
    """
    import torch

    with contextlib.nullcontext() if torch.is_autocast_enabled(device) else torch.autocast(device, enabled=False):
        yield


def predict_table(
    recipe: "Recipe",
    model: Any,
    table: "TokenTable",
    accelerator: "Accelerator",
    batch_size: int,
    bar: Bar | None = None,
    only: np.ndarray | None = None,
    collect: "Callable[[Any, Batch], list[np.ndarray]] | None" = None,
) -> RowOutputs:
    """Run a model over a table, longest rows first; every process returns the outputs of all rows.

    The result is the same to the last digit on any number of processes: batches are made before they are shared out,
    and `mean_loss` rounds the sums over them once, so that their order plays no part.

    Args:
        model: on the accelerator's device; set to evaluation mode here.
        batch_size: rows per device in one forward pass.
        only: int[n], the rows to run, if not all; the outputs come in this order.
        collect: takes what is wanted of the outputs, in place of the task's own `collect`; then no loss is computed.

    Raises:
        OutOfMemoryError: a forward pass does not fit; since the longest rows come first, it says so at once.
    """
    import torch

    from ..modeling.attention_layout import ROUND_TO, Layout
    from ..modeling.padding_free import find
    from ..modeling.sharding import is_sharded

    runner = find(model)
    if model.training:  # going through all its modules takes longer than it seems
        model.eval()
    wanted = np.unique(table.rows_of(np.arange(len(table)))) if only is None else only
    chosen = table.examples_of(wanted)
    shares = sorted_batches(table.lengths[chosen], batch_size, accelerator.num_processes)
    mine = shares[accelerator.process_index]
    # A model in shards runs on all processes at once: one with fewer batches runs the shortest example again.
    sharded = accelerator.num_processes > 1 and is_sharded(model)
    idle = max(map(len, shares)) - len(mine) if sharded else 0
    filler = np.array([table.lengths[chosen].argmin()]) if idle else chosen[:0]
    rows: list[int] = []
    values: list[np.ndarray] = []
    losses: list[float] = []
    weights: list[float] = []
    # Not inference mode: in it torch casts the weights anew in every pass.
    with torch.no_grad(), kept_casts(accelerator.device.type):
        for number, part in enumerate([*mine, *[filler] * idle]):
            batch = recipe.batch(table, chosen[part])
            scored = collect is None and recipe.has_loss(batch.targets) and number < len(mine)
            if scored:
                weights.append(recipe.weigh(batch.targets))
            batch.to(accelerator.device)
            try:
                packed: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
                # A short row alone has no padding to be spared, and packed it would be filled up.
                short = len(batch.lengths) == 1 and batch.lengths[0] < ROUND_TO and accelerator.device.type == "cpu"
                if runner is not None and not short:
                    packed = runner.packed(Layout(batch.lengths, ROUND_TO))
                with ONE_AT_A_TIME, packed:
                    outputs = recipe.infer(model, batch)
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
                remedy = f"set batch.evaluation below {len(part)}" if len(part) > 1 else "lower tokenization.max_length"
                raise OutOfMemoryError(
                    f"{len(part)} rows of {int(batch.lengths.max())} tokens do not fit into memory in one forward pass "
                    f"({str(error).splitlines()[0]}); {remedy}"
                ) from error
            if number >= len(mine):
                continue
            if scored:
                losses.append(float(recipe.loss(outputs, batch.targets)))
            values += (collect or recipe.collect)(outputs, batch)
            rows += part.tolist()
            if bar is not None:
                # A row may be several examples, of which each batch has some.
                done = [len(wanted) * count // len(chosen) for count in (len(rows) - len(part), len(rows))]
                bar.advance((done[1] - done[0]) * accelerator.num_processes)
    gathered = _gather((rows, values, losses, weights), accelerator)
    ordered: list[Any] = [None] * len(chosen)
    for part_rows, part_values, _, _ in gathered:
        for row, value in zip(part_rows, part_values, strict=True):
            ordered[row] = value
    losses, weights = ([number for part in gathered for number in part[i]] for i in (2, 3))
    return RowOutputs(table.by_row(ordered, wanted), losses, weights)


def mean_loss(losses: Iterable[float], weights: Iterable[float]) -> float:
    """The mean over all targets, from the batches' sums in any order; NaN without any."""
    weight = math.fsum(weights)
    return math.fsum(losses) / weight if weight else math.nan


def _gather(mine: tuple[Any, ...], accelerator: "Accelerator") -> list[tuple[Any, ...]]:
    if accelerator.num_processes == 1:
        return [mine]
    from accelerate.utils import gather_object

    result: list[tuple[Any, ...]] = gather_object([mine])
    return result


def shared_from_main(value: Any, accelerator: "Accelerator") -> Any:
    """The main process's value on every process."""
    if accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    holder = [value]
    broadcast_object_list(holder)
    return holder[0]
