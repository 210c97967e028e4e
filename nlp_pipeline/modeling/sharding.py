"""A model in shards: each process keeps a part of every parameter and gathers the whole of a layer while it runs.

torch's `fully_shard` (FSDP2; Zhao et al. 2023, arXiv:2304.11277, after ZeRO, Rajbhandari et al. 2020,
arXiv:1910.02054). It is called here and not by accelerate, which shards on accelerators only: so the tests on the CPU
run what a GPU runs.
"""

from typing import TYPE_CHECKING, Any

from ..devices import Sharding
from .parameters import is_layer

if TYPE_CHECKING:
    from accelerate import Accelerator


def shard(model: Any, sharding: Sharding, accelerator: "Accelerator") -> None:
    """Cut a model into shards in place, over all processes: its layers, its input embedding, and what is left.

    Args:
        model: in float32, the same on every process, on the CPU or the device. The shards stay in float32, and so do
            gradients, their sums and the optimizer's state; under bf16 the layers compute in bfloat16.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mixed = torch.bfloat16 if str(accelerator.mixed_precision) == "bf16" else None
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    # Gradients are summed in float32: many processes lose little then.
    inner = MixedPrecisionPolicy(param_dtype=mixed, reduce_dtype=torch.float32)
    outer = MixedPrecisionPolicy(param_dtype=mixed, reduce_dtype=torch.float32, output_dtype=torch.float32)
    parts = [module for name, module in model.named_modules() if is_layer(name)]
    embedding = model.get_input_embeddings()
    owners = [m for m in model.modules() if any(p is embedding.weight for p in m.parameters(recurse=False))]
    if len(owners) == 1:  # a table that the output layer shares belongs to both
        parts.append(embedding)
    for part in parts:
        fully_shard(part, mesh=mesh, mp_policy=inner, reshard_after_forward=sharding.reshard_after_forward)
    fully_shard(model, mesh=mesh, mp_policy=outer)


def reshard(model: Any) -> None:
    """Have every part of a model in shards give back what it gathered for a forward pass without a backward one.

    Its parameters are the shards again then, and can be saved.
    """
    if not is_sharded(model):
        return
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def is_sharded(model: Any) -> bool:
    """Whether `shard` cut this model. Its forward and backward passes then need all processes at once."""
    import torch

    if not torch.distributed.is_available():
        return False
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)
