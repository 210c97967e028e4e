"""Training in which memory runs out: `late` or `at-once`, [RANK:STEP:WHERE,…], then the words of `nlp-pipeline train`.

WHERE is `first` or `last`, of the forward passes of a step (from 1), or `loss` or `layer`, where the last backward pass
begins or in the middle of it. Each happens once.
"""

import functools
import sys

import torch

from nlp_pipeline.cli import main
from nlp_pipeline.devices import launched_rank
from nlp_pipeline.task_contract import TaskContract
from nlp_pipeline.tasks.sentence_embedding import SentenceEmbedding
from nlp_pipeline.training.step import Stepper


def run_out(*_):
    raise torch.OutOfMemoryError("no memory")


def run_out_in_backward(module, inputs, output):
    """A forward hook that puts another one on what comes out."""
    (output if isinstance(output, torch.Tensor) else output[0]).register_hook(run_out)


def inject(faults, late):
    """Have them happen in this process."""
    mine = {(int(step), where) for rank, step, where in faults if int(rank) == launched_rank()}
    at = {}
    accumulate, prepare = Stepper._accumulate, Stepper.__post_init__

    def accumulated(self, given, passes, *pulls):
        at.update(step=given.number + 1, passes=len(passes), done=0)
        return accumulate(self, given, passes, *pulls)

    def prepared(self):
        prepare(self)
        self.late_check = late

    def meets(*wheres):
        found = {(at["step"], where) for where in wheres} & mine
        mine.difference_update(found)
        return [where for _, where in found]

    def faulty(forward):
        def passing(self, model, batch):
            if not torch.is_grad_enabled():
                return forward(self, model, batch)
            at["done"] += 1
            last = at["done"] == at["passes"]
            if meets(*["first"] * (at["done"] == 1), *["last"] * last):
                run_out()
            if not (last and (where := meets("layer", "loss"))):
                return forward(self, model, batch)
            name = "encoder.layer.0" if where == ["layer"] else "encoder"
            inner = next(m for n, m in model.named_modules() if n.endswith(name))
            hook = inner.register_forward_hook(run_out_in_backward)
            try:
                return forward(self, model, batch)
            finally:
                hook.remove()

        return passing

    Stepper._accumulate, Stepper.__post_init__ = accumulated, prepared
    for task in (TaskContract, SentenceEmbedding):
        task.forward = faulty(task.forward)
    # Many buckets, so that some gradients are on their way before the rest is there.
    wrapper = torch.nn.parallel.DistributedDataParallel
    wrapper.__init__ = functools.partialmethod(wrapper.__init__, bucket_cap_mb=0.01)
    return mine


if __name__ == "__main__":
    left = inject([fault.split(":") for fault in sys.argv[2].split(",")], sys.argv[1] == "late")
    del sys.argv[1:3]
    try:
        main(["train", *sys.argv[1:]])
    finally:
        print(f"process {launched_rank()} has not met: {sorted(left)}")
