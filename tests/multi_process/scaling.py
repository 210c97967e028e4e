"""Steps of two processes with a gradient scaler, in which one of them meets bad numbers: MODEL FOLDER [RANK:STEP:WHAT,…].

Each writes what it saw to FOLDER/RANK.json. WHAT is `gradient`, too large in that process alone; `once`, a loss that is
no number at first; or `always`, one that never is. accelerate has no fp16 on a CPU: torch's scaler for it stands for
the one that fp16 brings.
"""

import gc
import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate.optimizer import AcceleratedOptimizer

from nlp_pipeline import TextClassification
from nlp_pipeline.modeling.loading import load_model
from nlp_pipeline.training.inputs import InputMaker
from nlp_pipeline.training.optimization import make_optimizer
from nlp_pipeline.training.step import Stepper

ROWS = [{"id": f"row-{i}", "text": f"the card {i} is late", "label": "ab"[i % 2]} for i in range(8)]
STEPS = 5


def scaled(recipe, bare):
    """A stepper with a scaler, as accelerate makes one under fp16."""
    accelerator = recipe.accelerator
    model = accelerator.prepare(bare)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10**6)
    optimizer = AcceleratedOptimizer(make_optimizer(bare, recipe.config.training), scaler=accelerator.scaler)
    accelerator._optimizers.append(optimizer)
    accelerator.native_amp, accelerator.state._mixed_precision = True, "fp16"  # else it unscales nothing
    return Stepper(recipe, model, optimizer, accelerator, recipe.tables["train"], recipe.config.training)


class Faults:
    """Has what was asked for happen in this process."""

    def __init__(self, asked, recipe, model):
        self.mine = {int(step): what for rank, step, what in asked if int(rank) == recipe.accelerator.process_index}
        self.now, loss = None, recipe.loss
        recipe.loss = lambda *given: loss(*given) * (math.nan if self.meets("once", "always") else 1.0)
        next(model.parameters()).register_hook(lambda g: g * math.inf if self.meets("gradient") else g)

    def meets(self, *whats):
        found = self.now in whats
        if found and self.now != "always":
            self.now = None
        return found


def main(model_folder, folder, asked):
    """All steps, on all rows each."""
    training = {"precision": "fp32", "learning_rate": 1e-3, "on_non_finite": "skip"}
    recipe = TextClassification(model=model_folder, train=ROWS, training=training, dir=str(folder / "run"))
    recipe.tokenize()
    torch.manual_seed(0)
    bare = load_model(recipe.config.model, recipe.auto_model, recipe.model_settings()).eval()
    stepper = scaled(recipe, bare)
    accelerator, table = recipe.accelerator, recipe.tables["train"]
    faults = Faults(asked, recipe, bare)
    make = InputMaker(recipe, table, accelerator.process_index, accelerator.num_processes, 2, 10**6, True, STEPS)
    steps = []
    for number in range(STEPS):
        faults.now = faults.mine.get(number + 1)
        loss = float(stepper.step(make((number, np.arange(len(ROWS))))))
        weights = b"".join(p.detach().numpy().tobytes() for p in bare.parameters())
        digest = hashlib.sha256(weights).hexdigest()
        steps.append({"finite": math.isfinite(loss), "scale": accelerator.scaler.get_scale(), "weights": digest})
    seen = {"steps": steps, "overflows": stepper.overflows, "skipped": stepper.skipped}
    (folder / f"{accelerator.process_index}.json").write_text(json.dumps(seen))
    accelerator.wait_for_everyone()
    accelerator.free_memory()  # see test_exact_gradients.py: the reducer must not be the last to hold the group
    del stepper
    gc.collect()
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [fault.split(":") for fault in sys.argv[3].split(",")])
