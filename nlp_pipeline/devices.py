"""Which devices and which arithmetic: `accelerate launch` decides; without it, what the machine has."""

import gc
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator

USE_FSDP, USE_DEEPSPEED = "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"
"""Variables by which the launcher asks for a model in shards."""

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's mallopt (malloc.h); it takes an mmap threshold of 32 MiB at most."""
FSDP_REFUSED = {
    "FSDP_OFFLOAD_PARAMS": "fsdp_offload_params: set it to false; shards stay on their devices",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "fsdp_cpu_ram_efficient_loading: set it to false, it is true by default; every "
    "process reads the model",
    "FSDP_ACTIVATION_CHECKPOINTING": "fsdp_activation_checkpointing: set it to false, and "
    "training.gradient_checkpointing=true in the recipe",
    "FSDP_IGNORED_MODULES": "fsdp_ignored_modules: leave it out; training.freeze keeps parameters from training",
}
"""Launcher variables that would change how a model is sharded in ways that are not built, and what to do instead."""


@dataclass(frozen=True)
class Sharding:
    """How the launcher wants the model cut; `reshard_after_forward`: a layer gives its whole weights back at once."""

    reshard_after_forward: bool = True


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

    if precision == "auto":
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION")
        mixed = launched or ("bf16" if has_bf16() else "no")
    else:
        mixed = "no" if precision == "fp32" else precision
    if problems := sharding_problems(mixed):
        raise ConfigError(problems)
    # Accelerate keeps one state for the whole program; a notebook may run one recipe in bf16 and the next in fp32.
    AcceleratorState._reset_state()
    group = InitProcessGroupKwargs(timeout=None if peer_timeout is None else timedelta(minutes=peer_timeout))
    with _unseen(USE_FSDP):  # the model is cut by modeling.sharding
        accelerator = Accelerator(mixed_precision=mixed, cpu=_without_accelerator(), kwargs_handlers=[group])
    if accelerator.device.type == "cpu":
        if mixed == "fp16":  # which accelerate leaves out there, without a word
            raise ConfigError(
                "training.precision: found fp16, which a CPU doesn't train in; expected bf16, fp32 or auto"
            )
        keep_freed_memory()
    return accelerator


def launched_sharding() -> Sharding | None:
    """What the launcher says of a model in shards; None when every process is to hold the whole of it."""
    if not _is_on(USE_FSDP) or launched_processes() == 1:
        return None
    return Sharding(os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() not in ("false", "0"))


def sharding_problems(precision: str) -> list[str]:
    """Everything that the launcher asks of a model in shards and can't have.

    Args:
        precision: accelerate's name of the arithmetic: `no`, `bf16`, `fp16`.
    """
    if _is_on(USE_DEEPSPEED):
        return [
            "accelerate launch: found DeepSpeed, which is not supported; FSDP shards weights, gradients and optimizer "
            "state as its ZeRO stage 3 does: use accelerate_configs/fsdp.yaml"
        ]
    if not _is_on(USE_FSDP):
        return []
    problems = [f"accelerate launch: {advice}" for variable, advice in FSDP_REFUSED.items() if _is_on(variable)]
    if (version := os.environ.get("FSDP_VERSION", "1")) != "2":
        problems.append(f"accelerate launch: found fsdp_version {version}, expected 2; set fsdp_version: 2")
    if precision == "fp16":
        problems.append("training.precision: fp16 is not supported under FSDP; use bf16 or fp32")
    return problems


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in ("", "false", "0", "none")


@contextmanager
def _unseen(variable: str) -> Iterator[None]:
    """Without an environment variable inside."""
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value


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


def give_memory_back() -> None:
    """Let the C library return what it keeps of freed memory, where the next that is needed won't come from it."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


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
        _let_go(sys.exc_info()[1])
        torch.distributed.destroy_process_group()


def _let_go(error: BaseException | None) -> None:
    """Free what the frames of an error hold: a DDP model that outlives its process group can end in a deadlock.

    Its reducer would then be the last to hold the group, and wait, holding Python's lock, for a thread that wants it.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    gc.collect()


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


def arithmetic(device: str) -> dict[str, Any]:
    """What the last bit of a result depends on besides versions, precision and processes.

    Args:
        device: its type, `cpu` or `cuda`.
    """
    import torch

    found: dict[str, Any] = {"threads": torch.get_num_threads()}
    found |= {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    if device == "cpu":
        from .modeling import native

        found["instructions"] = torch.backends.cpu.get_cpu_capability()
        found["native_kernels"] = native.library() is not None
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
