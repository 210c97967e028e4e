"""Which devices and which arithmetic: `accelerate launch` decides; without it, what the machine has."""

import os
import sys
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator

SHARDING = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}
"""Variables by which the launcher asks for a model in shards."""

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's mallopt (malloc.h); it takes an mmap threshold of 32 MiB at most."""


def launched_rank() -> int:
    """This process's number under a launcher, 0 without one. Known before torch is imported."""
    return int(os.environ.get("RANK", "0") or 0)


def make_accelerator(precision: str = "auto", peer_timeout: float | None = None) -> "Accelerator":
    """An Accelerator in the wanted precision.

    Args:
        precision: `fp32`, `bf16`, `fp16`; `auto` takes the launcher's setting, else bf16 where the device has it.
        peer_timeout: minutes that a process waits for the others; None leaves it to torch (10 or 30).
    """
    from datetime import timedelta

    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import InitProcessGroupKwargs

    for variable, name in SHARDING.items():
        if os.environ.get(variable, "").lower() in ("true", "1"):
            raise ConfigError(
                f"accelerate launch: {name} is not supported: every device holds the whole model here. Use "
                "accelerate_configs/multi_gpu.yaml; for a model too large for that, training.lora and "
                "training.gradient_checkpointing=true save most of the memory"
            )
    if precision == "auto":
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION")
        mixed = launched or ("bf16" if has_bf16() else "no")
    else:
        mixed = "no" if precision == "fp32" else precision
    # Accelerate keeps one state for the whole program; a notebook may run one recipe in bf16 and the next in fp32.
    AcceleratorState._reset_state()
    group = InitProcessGroupKwargs(timeout=None if peer_timeout is None else timedelta(minutes=peer_timeout))
    accelerator = Accelerator(mixed_precision=mixed, cpu=_without_accelerator(), kwargs_handlers=[group])
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


def keep_freed_memory() -> bool:
    """Have the C library keep the memory that tensors give back, for the next ones. Returns whether it does now.

    By default glibc hands every freed block above its threshold back to the system: each step then faults in tens of
    thousands of zeroed pages for the same gradients and activations, which took a tenth of a training step. The
    process holds no more than its peak either way. What the user has set by environment variables stands.
    """
    import ctypes

    if os.name != "posix" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library than glibc
        return False
    settings = {M_MMAP_THRESHOLD: 2**25, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}
    return 0 not in [mallopt(name, value) for name, value in settings.items()]


def launched_processes() -> int:
    """How many processes a launcher started, 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1)


def _without_accelerator() -> bool:
    """Several processes and no accelerator: unless told so, Accelerate would let each of them train alone."""
    import torch

    return launched_processes() > 1 and not torch.accelerator.is_available()


def leave_processes() -> None:
    """Leave the group of processes, if there is one: a process that just exits can abort the others."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def has_bf16() -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.mps.is_available():
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_DYNAMIC", "MKL_NUM_THREADS", "MKL_CBWR", "CUBLAS_WORKSPACE_CONFIG")
"""Variables by which libraries choose how to split and order their sums."""


def arithmetic(device: str, packed: bool) -> dict[str, Any]:
    """What the last bit of a result depends on besides versions, precision and processes.

    Args:
        device: its type, `cpu` or `cuda`.
        packed: whether the model runs without padding, so that the attention kernel in C may serve.
    """
    import torch

    found: dict[str, Any] = {"threads": torch.get_num_threads()}
    found |= {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    if device == "cpu":
        from .modeling import native

        found["instructions"] = torch.backends.cpu.get_cpu_capability()
        found["native_attention"] = packed and native.library() is not None
    else:
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return found


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether this is a device, the CPU or Python saying that there is no memory left."""
    import torch

    # torch's allocator for the CPU has no error type of its own.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def device_name() -> str:
    """The device in words."""
    import platform

    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
