"""What the package flash-attn is asked for, by a stand-in that does on the CPU what its documentation says."""

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from nlp_pipeline.modeling import attention
from nlp_pipeline.modeling.attention_layout import Layout

LENGTHS = np.array([1, 9, 4, 17])


def documented(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    deterministic: bool = False,
) -> torch.Tensor:
    """flash_attn_varlen_func: a query sees keys from i - window_size[0] to i + window_size[1], -1 being without end."""
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert max_seqlen_q == max_seqlen_k == int(cu_seqlens_q.diff().max())
    outs = []
    for begin, end in zip(cu_seqlens_q[:-1].tolist(), cu_seqlens_q[1:].tolist(), strict=True):
        places = torch.arange(end - begin)
        behind = places[:, None] - places[None]
        seen = torch.ones_like(behind, dtype=torch.bool)
        left, right = window_size
        seen &= (behind <= left) | torch.tensor(left < 0)
        seen &= (-behind <= (0 if causal else right)) | torch.tensor(right < 0 and not causal)
        parts = (x[begin:end].transpose(0, 1) for x in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(
            *parts, attn_mask=seen, dropout_p=dropout_p, scale=softmax_scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        outs.append(out.transpose(0, 1))
    return torch.cat(outs)


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package's stand-in."""
    made: Any = ModuleType("flash_attn")
    made.flash_attn_varlen_func = documented
    monkeypatch.setitem(sys.modules, "flash_attn", made)
    return made


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_it_attends_as_the_other_kernels_do(causal: bool, window: int | None, key_heads: int) -> None:
    torch.manual_seed(0)
    layout, tokens = Layout(LENGTHS, 1), int(LENGTHS.sum())
    query, key, value = (torch.randn(tokens, heads, 8) for heads in (4, key_heads, key_heads))
    found = attention._flash_with_dropout(query, key, value, layout, 0.3, 0.0, causal, window)
    wanted = attention.attend(query, key, value, layout, 0.3, 0.0, causal, window)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_it_is_told_how_much_to_drop(package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def kept(*args: Any, **named: Any) -> torch.Tensor:
        given.update(named)
        return documented(*args, **named)

    monkeypatch.setattr(package, "flash_attn_varlen_func", kept)
    query, key, value = torch.randn(3, int(LENGTHS.sum()), 2, 8).unbind()
    attention._flash_with_dropout(query, key, value, Layout(LENGTHS, 1), 0.3, 0.25, False, None)
    assert given["dropout_p"] == 0.25
    assert given["softmax_scale"] == 0.3
