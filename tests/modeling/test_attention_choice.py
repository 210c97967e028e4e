"""Which attention runs on a GPU, decided on a CPU from what such a GPU says of itself; and what the kernel is asked for."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.attention.varlen

from nlp_pipeline.modeling import attention
from nlp_pipeline.modeling.attention import attend
from nlp_pipeline.modeling.attention_layout import Layout

HALVES = (torch.bfloat16, torch.float16)
LENGTHS = (5, 1, 9, 3)


class OnCuda(torch.Tensor):
    """Numbers of the CPU that say that they are on a GPU."""

    is_cuda = True


class OfCuda(OnCuda):
    """The same, of their device too."""

    device = torch.device("cuda", 0)


def tensors(kind, dtype, key_heads=4):
    """Query, key and value of all rows."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(sum(LENGTHS), heads, 16) for heads in (4, key_heads, key_heads)]
    return [torch.randn(shape, generator=generator).to(dtype).as_subclass(kind) for shape in shapes]


@pytest.fixture
def chosen(monkeypatch):
    """The names of the implementations that were called, with the type that each was given."""
    calls = []

    def note(name):
        def called(query, key, value, *_):
            assert query.dtype == key.dtype == value.dtype
            calls.append((name, query.dtype))
            return query

        return called

    for name in ("_flash", "_flash_with_dropout", "_grouped_sdpa"):
        monkeypatch.setattr(attention, name, note(name))
    for name in ("_GroupedAttention", "NativeAttention"):
        monkeypatch.setattr(getattr(attention, name), "apply", note(name))
    return calls


def gpu(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0), (12, 0)])
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_on_ampere_and_later_takes_the_kernel(monkeypatch, chosen, dtype, capability, causal):
    gpu(monkeypatch, capability)
    attend(*tensors(OfCuda, dtype), Layout(LENGTHS), 0.25, causal=causal)
    assert chosen == [("_flash", dtype)]


@pytest.mark.parametrize(
    ("dtype", "capability", "dropout"),
    [
        (torch.float32, (9, 0), 0.0),  # no kernel for this type
        (torch.float64, (9, 0), 0.0),
        (torch.float16, (7, 5), 0.0),  # none for GPUs before Ampere
        (torch.bfloat16, (7, 0), 0.0),
        (torch.bfloat16, (9, 0), 0.1),  # it drops nothing out
        (torch.float16, (8, 0), 0.1),
    ],
)
def test_anything_else_on_a_gpu_goes_in_padded_groups(monkeypatch, chosen, dtype, capability, dropout):
    gpu(monkeypatch, capability)
    attend(*tensors(OfCuda, dtype), Layout(LENGTHS), 0.25, dropout)
    assert chosen == [("_grouped_sdpa", dtype)]


@pytest.mark.parametrize(
    ("dtype", "capability", "wanted"),
    [
        (torch.bfloat16, (8, 0), "_flash_with_dropout"),
        (torch.float16, (9, 0), "_flash_with_dropout"),
        (torch.float16, (7, 5), "_grouped_sdpa"),
        (torch.float32, (9, 0), "_grouped_sdpa"),
    ],
)
def test_with_flash_attn_installed_dropout_takes_its_kernel(monkeypatch, chosen, dtype, capability, wanted):
    gpu(monkeypatch, capability)
    monkeypatch.setattr(attention, "flash_with_dropout", lambda: pytest.fail)
    attend(*tensors(OfCuda, dtype), Layout(LENGTHS), 0.25, 0.1)
    assert chosen == [(wanted, dtype)]


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_a_cpu_asks_no_gpu_and_takes_its_own(monkeypatch, chosen, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: pytest.fail("there is no GPU"))
    for there in (True, False):
        monkeypatch.setattr(attention, "usable", lambda query, layout, there=there: there)
        attend(*tensors(torch.Tensor, dtype), Layout(LENGTHS), 0.25)
    assert chosen == [("NativeAttention", dtype), ("_GroupedAttention", dtype)]


def test_in_mixed_precision_float32_queries_take_the_kernel_in_its_type(monkeypatch, chosen):
    """As rotary positions leave them."""
    gpu(monkeypatch, (9, 0))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: torch.bfloat16)
    query, key, value = tensors(OfCuda, torch.float32)
    attend(query, key, value.to(torch.bfloat16), Layout(LENGTHS), 0.25)
    assert chosen == [("_flash", torch.bfloat16)]


def varlen(query, key, value, begins, key_begins, longest, key_longest, *, scale, window_size, enable_gqa):
    """torch's varlen_attn by its documentation: (left, right) keys are seen, -1 for all."""
    assert torch.equal(begins, key_begins)
    assert begins.dtype == torch.int32
    assert longest == key_longest == int(begins.diff().max())
    assert enable_gqa or query.shape[1] == key.shape[1]
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    found = []
    for begin, end in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
        q, k, v = (x[begin:end].transpose(0, 1).float() for x in (query, key, value))
        ahead = np.arange(end - begin) - np.arange(end - begin)[:, None]
        left, right = (np.inf if reach < 0 else reach for reach in window_size)
        seen = torch.from_numpy((-ahead <= left) & (ahead <= right))
        weights = (q @ k.mT * scale).masked_fill(~seen, -torch.inf).softmax(-1)
        found.append((weights @ v).transpose(0, 1))
    return torch.cat(found).to(query.dtype)


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_the_kernel_is_asked_for_what_a_cpu_computes(monkeypatch, key_heads, causal, window):
    gpu(monkeypatch, (9, 0))
    calls = []
    monkeypatch.setattr(
        torch.nn.attention.varlen, "varlen_attn", lambda *given, **named: calls.append(1) or varlen(*given, **named)
    )
    given = {"layout": Layout(LENGTHS, 8), "scale": 0.3, "causal": causal, "window": window}
    filled = given["layout"].tokens - sum(LENGTHS)
    assert filled > 0
    parts = [torch.cat([x, x[:filled]]) for x in tensors(torch.Tensor, torch.bfloat16, key_heads)]
    wanted = attend(*parts, **given)
    assert calls == []
    found = attend(*(x.as_subclass(OnCuda) for x in parts), **given).as_subclass(torch.Tensor)
    assert calls == [1]
    real = slice(sum(LENGTHS))
    torch.testing.assert_close(found[real], wanted[real], atol=0.02, rtol=0.02)


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_flash_attn_is_asked_for_the_same(monkeypatch, key_heads, causal, window):
    drops = []

    def documented(*tensors_and_lengths, dropout_p, softmax_scale, causal, window_size, deterministic):
        """flash_attn_varlen_func, which drops nothing here."""
        drops.append(dropout_p)
        left, right = window_size
        reach = (left, 0 if causal else right)
        return varlen(*tensors_and_lengths, scale=softmax_scale, window_size=reach, enable_gqa=True)

    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=documented))
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: True)
    attention.flash_with_dropout.cache_clear()
    parts, layout = tensors(torch.Tensor, torch.float32, key_heads), Layout(LENGTHS, 1)
    found = attention._flash_with_dropout(*parts, layout, 0.3, 0.25, causal, window)
    attention.flash_with_dropout.cache_clear()
    assert drops == [0.25]
    wanted = attend(*parts, layout, 0.3, causal=causal, window=window)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_flash_attn_that_cant_be_loaded_counts_as_none(monkeypatch):
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: True)
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    attention.flash_with_dropout.cache_clear()
    assert attention.flash_with_dropout() is None
    attention.flash_with_dropout.cache_clear()
