"""The attention kernel in C: compiled once for this machine's processor where there is a compiler, else absent."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from .attention_layout import Layout

logger = logging.getLogger(__name__)

COMPILERS = ("gcc", "clang")
SOURCE = Path(__file__).with_name("attention.c")
# Not -ffast-math: a library linked with it makes the whole process flush small numbers to zero.
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC", "-std=gnu11")


class _Job(ctypes.Structure):
    """`Job` of attention.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "gradient")),
        *((name, ctypes.c_void_p) for name in ("out", "d_query", "d_key", "d_value", "starts", "lengths")),
        *((name, ctypes.c_int64) for name in ("rows", "heads", "key_heads", "features", "window")),
        *((name, ctypes.c_int32) for name in ("causal", "is_bf16", "backward")),
        *((name, ctypes.c_float) for name in ("scale", "keep_scale")),
        ("threshold", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
    )


def usable(query: torch.Tensor, layout: Layout) -> bool:
    """Whether the kernel is there and made for such inputs."""
    return (
        query.device.type == "cpu"
        and query.shape[-1] % 16 == 0
        and query.shape[-1] <= 128
        and query.dtype in (torch.float32, torch.bfloat16)
        and library() is not None
    )


@functools.cache
def library() -> Any | None:
    """The compiled kernel, from the cache or made now; None without a compiler, or with NLP_PIPELINE_NATIVE=0."""
    compiler = (
        shlex.split(os.environ.get("CC", "")) or [found for name in COMPILERS if (found := shutil.which(name))][:1]
    )
    if os.environ.get("NLP_PIPELINE_NATIVE") == "0" or not compiler or os.name != "posix":
        return None
    try:
        return _load(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("no attention kernel, rows attend more slowly in PyTorch's own operations: %s", error)
        return None


def _load(compiler: list[str]) -> Any:
    """The kernel from the cache, else compiled into it.

    Raises:
        OSError, subprocess.SubprocessError: there is no such compiler, or it fails.
    """
    from ..data.tokenization import cache_root

    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout
    about = [SOURCE.read_text(), version, " ".join(FLAGS), _processor(), str(_openmp())]
    name = hashlib.sha256("\0".join(about).encode()).hexdigest()[:24]
    path = cache_root().parent / "native" / f"attention-{name}.so"
    if not path.exists():
        _compile(compiler, path)
    found = ctypes.CDLL(str(path))
    found.packed_attention.argtypes = [ctypes.POINTER(_Job)]
    return found


def _compile(compiler: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / path.name
        # torch's own OpenMP: a second one would fight it for the cores.
        more = [str(_openmp())] if _openmp() else []
        command = [*compiler, *FLAGS, str(SOURCE), "-o", str(made), *more, "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        made.replace(path)


@functools.cache
def _openmp() -> Path | None:
    """The OpenMP library that came with torch."""
    folder = Path(torch.__file__).parent
    found = [*folder.glob("lib/libgomp*.so*"), *folder.parent.glob("torch.libs/libgomp*.so*")]
    return found[0] if found else None


def _processor() -> str:
    """What -march=native depends on: a cache folder may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _run(
    layout: Layout, scale: float, dropout: float, causal: bool, window: int | None, seed: int, **data: Any
) -> None:
    query, key = data["query"], data["key"]
    if any(tensor.dtype != query.dtype for tensor in data.values()):  # it would read beyond their ends
        types = {name: str(tensor.dtype) for name, tensor in data.items()}
        raise TypeError(f"attention: one type expected, found {types}")
    dropped = min(2**32 - 1, round(dropout * 2**32))
    job = _Job(
        rows=len(layout.lengths),
        heads=query.shape[1],
        key_heads=key.shape[1],
        features=query.shape[2],
        window=-1 if window is None else window,
        causal=causal,
        is_bf16=query.dtype == torch.bfloat16,
        backward="gradient" in data,
        scale=scale,
        keep_scale=1 / (1 - dropped / 2**32),
        threshold=dropped,
        seed=seed,
        starts=layout.starts.ctypes.data,
        lengths=layout.lengths.ctypes.data,
        **{name: tensor.data_ptr() for name, tensor in data.items()},
    )
    found = library()
    assert found is not None
    if found.packed_attention(ctypes.byref(job)):
        raise MemoryError("attention: no memory for a working space")


class NativeAttention(torch.autograd.Function):
    """Attention by the kernel; dropout is seeded from torch's generator."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: Layout,
        scale: float,
        dropout: float,
        causal: bool,
        window: int | None,
    ) -> torch.Tensor:
        """[tokens, heads, features], as `attend` in attention.py."""
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        seed = int(torch.randint(2**62, ())) if dropout else 0
        out = torch.empty_like(query)
        ctx.settings = (layout, scale, dropout, causal, window, seed)
        _run(*ctx.settings, query=query, key=key, value=value, out=out)
        ctx.save_for_backward(query, key, value)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """Gradients of query, key and value."""
        query, key, value = ctx.saved_tensors
        found = [torch.empty_like(x) for x in (query, key, value)]
        d_query, d_key, d_value = found
        _run(
            *ctx.settings, query=query, key=key, value=value, gradient=gradient.to(query.dtype).contiguous(),
            d_query=d_query, d_key=d_key, d_value=d_value,
        )  # fmt: skip
        return *found, *[None] * 5
