"""Dropout with cheap random bits on the CPU, where torch's own generator takes a tenth of a training step.

torch draws every element through a serial Mersenne twister. Where there is a C compiler a kernel (dropout.c) gives 16
bits an element out of a counter, 25 times as fast, and draws the same ones again in the backward pass in place of
keeping them. Elsewhere SFC64 (Doty-Humphrey 2010, PractRand; as in numpy) does, at a fifth of that. Both are
seeded from torch's generator: `torch.manual_seed` still decides every mask, and gradient checkpointing, which restores
torch's generator, recomputes the same ones.
"""

from typing import Any

import numpy as np
import torch

from .native import library

BITS = 15
"""Bits that a probability is given to: a sixteenth keeps the comparison below within int16."""


def keep_bits(count: int, p: float) -> torch.Tensor:
    """int16[count]: 0 where an element is dropped, with probability `drop_rate(p)`, and -1 (all bits set) elsewhere."""
    seed = int(torch.randint(2**62, ()))
    raw = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.int16)[:count]
    bits = torch.from_numpy(raw)
    # In 15 bits the difference can't overflow; its sign, spread over all bits, is the mask.
    return bits.bitwise_and_(2**BITS - 1).neg_().add_(round(p * 2**BITS) - 1).bitwise_right_shift_(BITS)


def drop_rate(p: float) -> float:
    """The probability that `keep_bits` really drops with: `p` to 15 bits."""
    return float(round(p * 2**BITS) / 2**BITS)


def masked(x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """A copy of contiguous `x` with zeros where `keep` is 0: a bitwise and, several times faster than a product."""
    if x.element_size() == 2:
        return (x.view(torch.int16) & keep).view(x.dtype)
    return (x.view(torch.int32) & keep.to(torch.int32)).view(x.dtype)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float) -> torch.Tensor:
        x = x.contiguous()
        keep = keep_bits(x.numel(), p).view(x.shape)
        ctx.save_for_backward(keep)
        ctx.scale = 1 / (1 - drop_rate(p))
        return masked(x, keep).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (keep,) = ctx.saved_tensors
        return masked(gradient.contiguous(), keep).mul_(ctx.scale), None


class _NativeDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float) -> torch.Tensor:
        ctx.p, ctx.seed = p, int(torch.randint(2**62, ()))
        return _native(x, p, ctx.seed)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _native(gradient, ctx.p, ctx.seed), None


def _native(x: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    x = x.contiguous()
    out, rate = torch.empty_like(x), drop_rate(p)
    kernels = library()
    assert kernels is not None
    is_bf16, threshold = x.dtype == torch.bfloat16, round(rate * 2**16)
    kernels.dropout(x.data_ptr(), out.data_ptr(), x.numel(), is_bf16, threshold, 1 / (1 - rate), seed)
    return out


class FastDropout(torch.nn.Dropout):
    """nn.Dropout, its masks drawn as described above."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` in evaluation, else with elements dropped and the rest scaled up."""
        if not self.training or not 0 < drop_rate(self.p) < 1 or x.element_size() not in (2, 4):
            return super().forward(x)
        native = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and library() is not None
        result: torch.Tensor = (_NativeDropout if native else _Dropout).apply(x, self.p)
        return result


def use_fast_dropout(model: torch.nn.Module, use: bool = True) -> None:
    """Turn a model's dropout modules into fast ones in place, or back. Nothing else of them changes."""
    before, after = (torch.nn.Dropout, FastDropout) if use else (FastDropout, torch.nn.Dropout)
    for module in model.modules():
        if type(module) is before:
            module.__class__ = after
