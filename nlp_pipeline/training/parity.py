"""A check for those who doubt it: does the model without padding compute what the padded one does?"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from ..progress import Reporter

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from ..data.token_table import TokenTable
    from ..recipe import Recipe

TOLERANCE = 1e-4
"""Largest difference of loss and gradient, relative to their size, in float32."""
CANCELLED = 1e-2
"""Share of the largest gradient anywhere below which a parameter's counts as so large."""


def verify_parity(
    recipe: "Recipe",
    model: "torch.nn.Module",
    table: "TokenTable",
    rows: np.ndarray,
    accelerator: "Accelerator",
    reporter: Reporter,
) -> None:
    """Compare loss and gradient of one batch, without dropout and in float32, with those of the padded eager model.

    Raises:
        ModelError: they differ.
    """
    from ..modeling.attention_layout import ROUND_TO, Layout
    from ..modeling.padding_free import find

    runner = find(model)
    if runner is None:
        reporter.say("parity: the model runs padded, there is nothing to compare")
        return
    batch = recipe.batch(table, rows, 0).to(next(model.parameters()).device)
    training = model.training
    model.eval()
    found = []
    for layout in (None, Layout(batch.lengths, ROUND_TO)):
        with runner.packed(layout), runner.eager(layout is None):
            loss = recipe.training_loss(recipe.forward(model, batch), batch.targets) / max(
                recipe.weigh(batch.targets), 1e-12
            )
            loss.backward()
        gradient = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append((float(loss.detach()), gradient))
        model.zero_grad(set_to_none=True)
    model.train(training)
    (padded_loss, padded), (packed_loss, packed) = found
    # A gradient far below the others is what was left after they cancelled: its rounding is theirs.
    least = max(1e-6, CANCELLED * max(float(gradient.abs().max()) for gradient in padded.values()))
    worst, name = max((_difference(packed[name], padded[name], least), name) for name in padded)
    apart = abs(packed_loss - padded_loss) / max(abs(padded_loss), 1e-6)
    text = f"loss {padded_loss:.6f} padded, {packed_loss:.6f} packed; largest gradient difference {worst:.1e} ({name})"
    if not max(worst, apart) < TOLERANCE:
        raise ModelError(
            f"parity: {text}, expected below {TOLERANCE:.0e}; set batch.padding_free=false and report this"
        )
    reporter.say(f"parity: {text}")


def _difference(found: Any, wanted: Any, least: float) -> float:
    """Largest difference, relative to the largest entry, or to `least` where that is larger."""
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=least))
