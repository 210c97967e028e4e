"""Forward passes without gradients: each row once, for any number of processes, in the rows' own order."""

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.batching import sorted_batches
from ..progress import Bar

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..data.token_table import TokenTable
    from ..recipe import Recipe


@dataclass(frozen=True)
class RowOutputs:
    """What the model said of each row.

    `values` has one array a row, as the task's `collect` gave it, or a list of them where a row may be several
    examples; `loss_sum` is the loss summed over all targets and `weight` what the task makes of their number, 0 where
    the rows have no labels.
    """

    values: list[Any]
    loss_sum: float
    weight: float

    @property
    def loss(self) -> float:
        """The mean loss over all targets, NaN without any."""
        return self.loss_sum / self.weight if self.weight else float("nan")


def predict_table(
    recipe: "Recipe",
    model: Any,
    table: "TokenTable",
    accelerator: "Accelerator",
    batch_size: int,
    bar: Bar | None = None,
    only: np.ndarray | None = None,
) -> RowOutputs:
    """Run a model over a table, longest rows first; every process returns the outputs of all rows.

    Args:
        model: on the accelerator's device; set to evaluation mode here.
        batch_size: rows per device in one forward pass.
        only: int[n], the rows to run, if not all; the outputs come in this order.
    """
    import torch

    from ..modeling.attention_layout import ROUND_TO, Layout
    from ..modeling.padding_free import find

    runner = find(model)
    model.eval()
    wanted = np.unique(table.rows_of(np.arange(len(table)))) if only is None else only
    chosen = table.examples_of(wanted)
    mine = sorted_batches(table.lengths[chosen], batch_size, accelerator.num_processes)[accelerator.process_index]
    rows: list[int] = []
    values: list[np.ndarray] = []
    loss = weight = 0.0
    with torch.inference_mode():
        for part in mine:
            batch = recipe.batch(table, chosen[part])
            scored = recipe.has_loss(batch.targets)
            if scored:
                weight += recipe.weigh(batch.targets)
            batch.to(accelerator.device)
            with runner.packed(Layout(batch.lengths, ROUND_TO)) if runner else contextlib.nullcontext():
                outputs = recipe.infer(model, batch)
            if scored:
                loss += float(recipe.loss(outputs, batch.targets))
            values += recipe.collect(outputs, batch)
            rows += part.tolist()
            if bar is not None:
                # A row may be several examples, of which each batch has some.
                share = [len(wanted) * done // len(chosen) for done in (len(rows) - len(part), len(rows))]
                bar.advance((share[1] - share[0]) * accelerator.num_processes)
    gathered = _gather((rows, values, loss, weight), accelerator)
    ordered: list[Any] = [None] * len(chosen)
    for part_rows, part_values, _, _ in gathered:
        for row, value in zip(part_rows, part_values, strict=True):
            ordered[row] = value
    return RowOutputs(
        table.by_row(ordered, wanted), sum(part[2] for part in gathered), sum(part[3] for part in gathered)
    )


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
