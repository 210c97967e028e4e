"""Attention over packed rows by the kernel in C (attention.c)."""

import ctypes
from typing import Any

import torch

from .attention_layout import Layout
from .native import library


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
