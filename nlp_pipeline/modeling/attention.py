"""Attention over packed rows, [tokens, heads, features]: each token sees its own row only.

On CUDA a variable-length flash kernel does the work. Elsewhere, and where dropout or a window asks for it, rows of
similar length are gathered into a few padded groups: attention is a small part of the arithmetic on short rows, and
everything around it runs without padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from .dropout import drop_rate, keep_bits, masked

GROUP_RATIO = 0.6
"""A row shorter than this share of its group's longest opens the next group. Measured on short texts, where fewer
groups cost padding and more of them cost calls: 0.5 to 0.7 are alike."""


@dataclass(frozen=True)
class Group:
    """Rows that attend together, padded to the longest of them: `rows` positions in the batch, `longest` tokens."""

    rows: np.ndarray
    longest: int


class Layout:
    """Where each row's tokens lie in a packed batch.

    Args:
        lengths: int[rows], tokens a row; at least 1 each.
    """

    def __init__(self, lengths: "Sequence[int] | np.ndarray") -> None:
        self.lengths = np.asarray(lengths, np.int64)
        self.ends = np.cumsum(self.lengths)
        self.starts = self.ends - self.lengths
        self.tokens = int(self.ends[-1])
        self.longest = int(self.lengths.max())
        self._indices: dict[tuple[int, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}
        self._device: dict[tuple[str, torch.device], torch.Tensor] = {}
        self._biases: dict[tuple[bool, int | None], list[torch.Tensor | None]] = {}

    @cached_property
    def positions(self) -> np.ndarray:
        """int64[tokens], each token's place in its row."""
        return np.arange(self.tokens) - np.repeat(self.starts, self.lengths)

    @cached_property
    def padded(self) -> np.ndarray:
        """int64[tokens], each token's place in the flattened [rows, longest]."""
        return self.positions + np.repeat(np.arange(len(self.lengths)) * self.longest, self.lengths)

    @cached_property
    def groups(self) -> list[Group]:
        """Rows by similar length, longest first."""
        order = np.argsort(-self.lengths, kind="stable")
        groups, first = [], 0
        for i, row in enumerate(order):
            if self.lengths[row] < GROUP_RATIO * self.lengths[order[first]]:
                groups.append(Group(order[first:i], int(self.lengths[order[first]])))
                first = i
        return [*groups, Group(order[first:], int(self.lengths[order[first]]))]

    def on(self, device: torch.device, name: str) -> torch.Tensor:
        """`positions`, `padded`, `starts` or `offsets` (int32[rows + 1]) as a tensor there, moved once."""
        key = (name, device)
        if key not in self._device:
            array = np.append(0, self.ends).astype(np.int32) if name == "offsets" else getattr(self, name)
            self._device[key] = torch.from_numpy(array).to(device, non_blocking=True)
        return self._device[key]

    def gather(self, heads: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices between packed [tokens × heads] and all groups' [rows × heads × longest], one after the other.

        Returns:
            (into, back): `into` int64[padded elements] names the packed one for each (a row's first where it is
            padding); `back` int64[tokens × heads] is the way home.
        """
        key = (heads, device)
        if key not in self._indices:
            into, back = [], np.empty((self.tokens, heads), np.int64)
            at = 0
            for group in self.groups:
                places = np.arange(group.longest)
                real = places < self.lengths[group.rows, None]
                token = self.starts[group.rows, None] + np.where(real, places, 0)
                into.append((token[:, None, :] * heads + np.arange(heads)[:, None]).ravel())
                slots = at + np.arange(into[-1].size).reshape(len(group.rows), heads, group.longest)
                back[token[real]] = slots.transpose(0, 2, 1)[real]
                at += into[-1].size
            pair = (torch.from_numpy(np.concatenate(into)), torch.from_numpy(back.ravel()))
            self._indices[key] = (pair[0].to(device), pair[1].to(device))
        return self._indices[key]

    def hidden(self, group: Group, causal: bool, window: int | None) -> np.ndarray | None:
        """bool[rows or 1, longest or 1, longest], true where a query must not see a key; None when it may see all.

        Padding lies behind every real token, so that a causal mask alone hides it.
        """
        places = np.arange(group.longest)
        distance = places[:, None] - places[None, :]
        mask = np.zeros((1, 1, group.longest), bool)
        if causal:
            mask = mask | (distance < 0)
        elif (self.lengths[group.rows] < group.longest).any():
            mask = mask | (places >= self.lengths[group.rows, None, None])
        if window is not None:
            # Also a padded query sees something, itself: a softmax over nothing is not a number.
            mask = (mask | (np.abs(distance) > window)) & (distance != 0)
        return mask if mask.any() else None

    def biases(self, causal: bool, window: int | None) -> list[torch.Tensor | None]:
        """For each group what is added to its scores [rows, heads, longest, longest]; made once for all layers."""
        key = (causal, window)
        if key not in self._biases:
            hidden = [self.hidden(group, causal, window) for group in self.groups]
            self._biases[key] = [
                None if h is None else torch.from_numpy(h[:, None].astype(np.float32) * np.finfo(np.float32).min)
                for h in hidden
            ]
        return self._biases[key]


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
    if query.is_cuda and not dropout and query.dtype in (torch.bfloat16, torch.float16):
        return _flash(query, key, value, layout, scale, causal, window)
    repeat = query.shape[1] // key.shape[1]
    if repeat > 1:
        key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    if query.is_cuda or not (dropout or torch.is_grad_enabled()):
        return _grouped_sdpa(query, key, value, layout, scale, dropout, causal, window)
    result: torch.Tensor = _GroupedAttention.apply(query, key, value, layout, scale, dropout, causal, window)
    return result


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

    offsets = layout.on(query.device, "offsets")
    reach = -1 if window is None else window
    result = varlen_attn(
        query, key, value, offsets, offsets, layout.longest, layout.longest,
        scale=scale, window_size=(reach, 0 if causal else reach), enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    assert isinstance(result, torch.Tensor)  # a tuple only when more is asked for
    return result


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
    """Attention for training on the CPU, where torch's fused kernel has no dropout and a slow backward pass.

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
