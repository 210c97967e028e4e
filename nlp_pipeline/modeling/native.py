"""The kernels in C: compiled once for this machine's processor where there is a compiler, else absent."""

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

logger = logging.getLogger(__name__)

COMPILERS = ("gcc", "clang")
SOURCES = tuple(Path(__file__).with_name(name) for name in ("attention.c", "dropout.c"))
HEADER = Path(__file__).with_name("vectors.h")
# Not -ffast-math: a library linked with it makes the whole process flush small numbers to zero.
FLAGS = (
    "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-strict-aliasing", "-fopenmp", "-shared",
    "-fPIC", "-std=gnu11",
)  # fmt: skip


@functools.cache
def library() -> Any | None:
    """The compiled kernels, from the cache or made now; None without a compiler, or with NLP_PIPELINE_NATIVE=0."""
    compiler = (
        shlex.split(os.environ.get("CC", "")) or [found for name in COMPILERS if (found := shutil.which(name))][:1]
    )
    if os.environ.get("NLP_PIPELINE_NATIVE") == "0" or not compiler or os.name != "posix":
        return None
    try:
        return _load(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning(
            "no kernels of our own, attention and dropout run more slowly in PyTorch's operations: %s", error
        )
        return None


def _load(compiler: list[str]) -> Any:
    """The kernels from the cache, else compiled into it.

    Raises:
        OSError, subprocess.SubprocessError: there is no such compiler, or it fails.
    """
    from ..data.tokenization import cache_root

    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout
    texts = [source.read_text() for source in (*SOURCES, HEADER)]
    about = [*texts, version, " ".join(FLAGS), _processor(), str(_openmp())]
    name = hashlib.sha256("\0".join(about).encode()).hexdigest()[:24]
    path = cache_root().parent / "native" / f"kernels-{name}.so"
    if not path.exists():
        _compile(compiler, path)
    found = ctypes.CDLL(str(path))
    found.packed_attention.argtypes = [ctypes.c_void_p]
    numbers = (ctypes.c_int64, ctypes.c_int32, ctypes.c_uint32, ctypes.c_float, ctypes.c_uint64)
    found.dropout.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *numbers]
    found.dropout.restype = None
    return found


def _compile(compiler: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / path.name
        # torch's own OpenMP: a second one would fight it for the cores.
        more = [str(_openmp())] if _openmp() else []
        command = [*compiler, *FLAGS, *map(str, SOURCES), "-o", str(made), *more, "-lm"]
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
