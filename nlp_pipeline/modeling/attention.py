"""Attention over packed rows, [tokens, heads, features]: each token sees its own row only.

On CUDA a variable-length flash kernel does the work (torch's own, which has no dropout, or the one of the package
flash-attn where that is installed, which has), on a CPU with a C compiler one of our own, at every length.
Elsewhere rows of similar length are gathered into a few padded groups: attention is a small part of the arithmetic on
short rows, and everything around it runs without padding.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from transformers.utils.import_utils import is_flash_attn_2_available

from .attention_layout import Layout
from .dropout import drop_rate, keep_bits, masked
from .native_attention import NativeAttention, usable

FUSED_FROM = 320
"""Longest row of a batch from which torch's fused kernel trains faster than grouped products on a CPU without our own,
and keeps no weights of the size length x length, where attention has no dropout. Measured: alike at 300 tokens, up to
three times as fast at 1,000."""


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    dropout: float = 0.0,
    causal: bool = False,
    window: int | None = None,
) -> torch.Tensor:
    """Attention within each row.

    Args:
        query: [tokens, heads, features]; `key` and `value` may have fewer heads, each serving several of the query's.
        scale: factor of the products.
        dropout: share of attention weights dropped.
        causal: a token sees no later ones.
        window: largest distance between tokens that see each other.

    Returns:
        [tokens, heads, features].
    """
    query, key, value = _alike(query, key, value)
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and _has_flash(query.device):
        if not dropout:
            return _flash(query, key, value, layout, scale, causal, window)
        if flash_with_dropout() is not None:
            return _flash_with_dropout(query, key, value, layout, scale, dropout, causal, window)
    if usable(query, layout):
        with torch.autocast(query.device.type, enabled=False):
            native: torch.Tensor = NativeAttention.apply(query, key, value, layout, scale, dropout, causal, window)
        return native
    repeat = query.shape[1] // key.shape[1]
    if repeat > 1:
        key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    fused = not dropout and (not torch.is_grad_enabled() or layout.longest >= FUSED_FROM)
    if query.is_cuda or fused:
        return _grouped_sdpa(query, key, value, layout, scale, dropout, causal, window)
    result: torch.Tensor = _GroupedAttention.apply(query, key, value, layout, scale, dropout, causal, window)
    return result


def _has_flash(device: torch.device) -> bool:
    """Whether the variable-length kernel runs on a GPU: those before Ampere, where one trains in fp16, lack it."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def _alike(*tensors: torch.Tensor) -> Iterator[torch.Tensor]:
    """In mixed precision all in its type, as torch's own attention has them.

    Rotary positions and norms leave queries and keys in float32 beside values in bfloat16.
    """
    device = tensors[0].device.type
    wanted = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return (x if wanted is None else x.to(wanted) for x in tensors)


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    rows, reach = _rows_and_reach(query, layout, causal, window)
    gqa = query.shape[1] != key.shape[1]
    result = varlen_attn(query, key, value, *rows, scale=scale, window_size=reach, enable_gqa=gqa)
    assert isinstance(result, torch.Tensor)  # a tuple only when more is asked for
    return result


@functools.cache
def flash_with_dropout() -> Callable[..., Any] | None:
    """The kernel of the package flash-attn, None where it isn't installed or was built for another torch."""
    if not is_flash_attn_2_available():
        return None
    try:
        from flash_attn import flash_attn_varlen_func
    except (ImportError, OSError):
        return None
    function: Callable[..., Any] = flash_attn_varlen_func
    return function


def _flash_with_dropout(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    dropout: float,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    rows, reach = _rows_and_reach(query, layout, causal, window)
    kernel = flash_with_dropout()
    assert kernel is not None
    result: torch.Tensor = kernel(
        query, key, value, *rows, dropout_p=dropout, softmax_scale=scale, causal=causal, window_size=reach,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )  # fmt: skip
    return result


def _rows_and_reach(
    query: torch.Tensor, layout: Layout, causal: bool, window: int | None
) -> tuple[tuple[torch.Tensor, torch.Tensor, int, int], tuple[int, int]]:
    """As the flash kernels take them: where rows begin and the longest, of queries and of keys; how far a token sees to
    the left and right, -1 for all the way."""
    offsets, longest = layout.on(query.device, "offsets"), int(layout.lengths.max())
    reach = -1 if window is None else window
    return (offsets, offsets, longest, longest), (reach, 0 if causal else reach)


def _padded_groups(x: torch.Tensor, layout: Layout, into: torch.Tensor) -> list[torch.Tensor]:
    """[rows × heads, longest, features] of each group, as views of one gathered tensor."""
    _, heads, features = x.shape
    flat = x.reshape(-1, features).index_select(0, into)
    groups, at = [], 0
    for group in layout.groups:
        size = len(group.rows) * heads * group.longest
        groups.append(flat[at : at + size].view(len(group.rows) * heads, group.longest, features))
        at += size
    return groups


def _grouped_sdpa(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    dropout: float,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    heads, device = query.shape[1], query.device
    into, back = layout.gather(heads, device)
    parts = []
    padded = [_padded_groups(x, layout, into) for x in (query, key, value)]
    for group, q, k, v in zip(layout.groups, *padded, strict=True):
        plain_causal = causal and window is None
        hidden = None if plain_causal else layout.hidden(group, causal, window)
        mask = None
        if hidden is not None:
            shape = (len(group.rows), 1, group.longest, group.longest)
            mask = torch.from_numpy(~hidden[:, None]).to(device).expand(shape)
        q, k, v = (x.view(len(group.rows), heads, group.longest, -1) for x in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=plain_causal, scale=scale
        )
        parts.append(out.reshape(-1, out.shape[-1]))
    return torch.cat(parts).index_select(0, back).view(-1, heads, parts[0].shape[-1])


class _GroupedAttention(torch.autograd.Function):
    """Attention for training on the CPU, where torch's fused kernel has no dropout and is slow on short rows.

    Forward and backward written out: products in the arithmetic of the inputs, softmax in float32 (in bfloat16 it is
    four times slower there).
    """

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
        _, heads, features = query.shape
        dtype = query.dtype
        into, back = layout.gather(heads, query.device)
        queries, keys, values = (_padded_groups(x, layout, into) for x in (query, key, value))
        drops = 0 < drop_rate(dropout) < 1
        sizes = [len(g.rows) * heads * g.longest * g.longest for g in layout.groups]
        keeps = keep_bits(sum(sizes), dropout).split(sizes) if drops else [query.new_empty(0)] * len(sizes)
        grown = 1 / (1 - drop_rate(dropout)) if drops else 1.0
        biases = layout.biases(causal, window)
        saved, outs = [], []
        with torch.autocast(query.device.type, enabled=False):
            for group, bias, keep, q, k, v in zip(layout.groups, biases, keeps, queries, keys, values, strict=True):
                scores = torch.bmm(q, k.mT).float()
                if bias is None:
                    scores = scores * scale
                else:
                    shape = (len(group.rows), heads, group.longest, group.longest)
                    scores = torch.add(bias, scores.view(shape), alpha=scale).view_as(scores)
                weights = torch._softmax(scores, -1, False)
                used = weights.to(dtype)
                saved += [q, k, v, used, keep]
                if drops:
                    used = masked(weights.mul(grown).to(dtype), keep.view(used.shape))
                outs.append(torch.bmm(used, v).view(-1, features))
        ctx.save_for_backward(*saved)
        ctx.layout, ctx.scale, ctx.grown, ctx.drops = layout, scale, grown, drops
        return torch.cat(outs).index_select(0, back).view(query.shape)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        layout, shape, dtype = ctx.layout, gradient.shape, gradient.dtype
        heads, features = shape[1:]
        into, back = layout.gather(heads, gradient.device)
        parts: tuple[list[torch.Tensor], ...] = ([], [], [])
        saved = ctx.saved_tensors  # once: reading them again would recompute them under gradient checkpointing
        with torch.autocast(gradient.device.type, enabled=False):
            for number, (group, d_out) in enumerate(
                zip(layout.groups, _padded_groups(gradient, layout, into), strict=True)
            ):
                q, k, v, used, keep = saved[5 * number : 5 * number + 5]
                lengths = layout.lengths[group.rows]
                if (lengths < group.longest).any():  # what a padded query was given goes nowhere
                    real = torch.from_numpy(np.arange(group.longest) < lengths[:, None])[:, None, :, None]
                    padded = (len(group.rows), heads, group.longest, features)
                    d_out = torch.where(real, d_out.view(padded), 0).view_as(d_out)
                weights = used.float()
                d_weights = torch.bmm(d_out, v.mT)
                if ctx.drops:
                    keep = keep.view(used.shape)
                    used = masked(weights.mul(ctx.grown).to(dtype), keep)
                    d_weights = masked(d_weights, keep)
                d_scores = torch._softmax_backward_data(d_weights.float(), weights, -1, torch.float32)
                d_scores = d_scores.mul_(ctx.grown * ctx.scale).to(dtype)
                values = (torch.bmm(d_scores, k), torch.bmm(d_scores.mT, q), torch.bmm(used.mT, d_out))
                for part, found in zip(parts, values, strict=True):
                    part.append(found.view(-1, features))
        return *(torch.cat(part).index_select(0, back).view(shape) for part in parts), *[None] * 5
