"""How many tokens one forward pass can hold: looked for once on a device with memory of its own, then remembered."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.tokenization import cache_root
from ..devices import device_name, ran_out_of_memory
from ..run_directory import write_text

if TYPE_CHECKING:
    from ..data.token_table import TokenTable
    from ..recipe import Recipe
    from .step import Stepper

CPU_TOKENS = 8_192
"""Most tokens of one forward pass on a CPU. More only take memory and leave the caches: measured with rows of 550
tokens, batches of 17,700 tokens in one pass made 8.3 rows/s in 3,262 MiB, in passes of 4,400 tokens 8.8 rows/s in
2,175 MiB, in passes of 1,100 tokens 8.1."""

MARGIN = 0.9
"""Share of the largest pass that fitted which is used: fragmentation differs from step to step."""


def largest_that_fits(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest power-of-two multiple of `low`, up to `high`, for which `fits` is true; `low` if none is.

    Tried in growing order: on an accelerator a pass that fails costs more than one that fits.
    """
    best, size = low, low
    while size <= high and fits(size):
        best, size = size, size * 2
    return best


def micro_tokens(recipe: "Recipe", stepper: "Stepper", table: "TokenTable", share_tokens: int, default: int) -> int:
    """Tokens of one forward pass on this device.

    The search runs the longest rows, forward and backward, and is kept in the cache by model, longest row, precision
    and device. Without CUDA there is nothing to find: `default`, and at most CPU_TOKENS; nor for a model in shards,
    whose processes could not each run out of memory for themselves.

    Args:
        share_tokens: tokens of this process's share of an optimizer step; more is never needed.
    """
    import torch

    if not torch.cuda.is_available():
        return min(default, CPU_TOKENS)
    if stepper.sharded:
        return default
    most = max(default, share_tokens)
    file = _file(recipe, stepper, int(table.lengths.max()), most)
    if file.exists():
        return int(json.loads(file.read_text())["tokens"])
    longest = np.argsort(-table.lengths, kind="stable")

    def fits(tokens: int) -> bool:
        rows = longest[: int(np.searchsorted(np.cumsum(table.lengths[longest]), tokens)) + 1]  # as many, or a few more
        try:
            _pass(recipe, stepper, table, rows)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            return False
        finally:
            stepper.model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
        return True

    # The optimizer's two moments aren't there yet, and will be when the run needs the memory.
    moments = torch.empty(2 * _trained(stepper), device=stepper.accelerator.device)
    found = largest_that_fits(fits, default // 16, most)
    del moments
    tokens = max(1, int(found * MARGIN)) if found < share_tokens else found
    if int(table.lengths.sum()) < found:  # fewer rows than were asked for: it says nothing of a run with more
        return tokens
    write_text(file, json.dumps({"tokens": tokens, "device": device_name(), "model": recipe.config.model.name}))
    recipe.reporter.say(f"memory: one forward pass holds {tokens:,} tokens on this device (found once, kept in {file})")
    return tokens


def _pass(recipe: "Recipe", stepper: "Stepper", table: "TokenTable", rows: np.ndarray) -> None:
    batch = recipe.batch(table, rows, 0).to(stepper.accelerator.device)
    with stepper.accelerator.no_sync(stepper.model), stepper.packed(batch):
        outputs, apart = stepper.forward(batch)
        stepper.accelerator.backward(recipe.training_loss(outputs, batch.targets) + apart)


def _trained(stepper: "Stepper") -> int:
    """Numbers that train."""
    return sum(parameter.numel() for parameter in stepper.model.parameters() if parameter.requires_grad)


def _file(recipe: "Recipe", stepper: "Stepper", longest: int, most: int) -> Path:
    from ..modeling.attention import flash_with_dropout

    config: Any = recipe.config
    key = {
        "model": config.model.model_dump(mode="json"),
        "task": recipe.task,
        "longest": longest,
        "most": most,
        "trained": _trained(stepper),
        "compiled": config.training.compile,
        "device": device_name(),
        "precision": str(recipe.accelerator.mixed_precision),
        "recompute": config.training.gradient_checkpointing,
        "packed": recipe.padded_because is None,
        "flash_dropout": flash_with_dropout() is not None,
        "search": 2,  # an earlier one ran a row less than it promised
        "teacher": stepper.teacher is not None and config.teacher.name,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    return cache_root(config.tokenization.cache_dir).parent / "memory" / f"{name}.json"
