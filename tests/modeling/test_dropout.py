"""Dropout: the right share, scaled, from torch's seed, the same mask forward and backward."""

import numpy as np
import pytest
import torch

from nlp_pipeline.modeling import dropout
from nlp_pipeline.modeling.attention import attend
from nlp_pipeline.modeling.attention_layout import Layout
from nlp_pipeline.modeling.dropout import FastDropout, drop_rate, keep_bits, use_fast_dropout


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_the_share_is_right(p):
    torch.manual_seed(0)
    keep = keep_bits(400_003, p)
    assert set(keep.unique().tolist()) == {-1, 0}
    assert float((keep == 0).float().mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / 400_003) ** 0.5)
    assert drop_rate(p) == pytest.approx(p, abs=2e-5)


@pytest.fixture(params=["kernel", "without"])
def way(request, monkeypatch):
    """Each of the two ways; the first needs a C compiler."""
    if request.param == "without":
        monkeypatch.setattr(dropout, "library", lambda: None)
    elif dropout.library() is None:
        pytest.skip("needs a C compiler")
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_forward_and_backward_share_one_mask(way, dtype):
    module = FastDropout(0.25)
    x = torch.rand(50, 41, dtype=dtype) + 1
    x.requires_grad_()
    y = module(x)
    y.sum().backward()
    kept = y != 0
    torch.testing.assert_close(y[kept], (x * (1 / 0.75)).to(dtype)[kept])
    assert torch.equal(x.grad != 0, kept)
    assert module.eval()(x) is x


def test_torchs_seed_decides(way):
    def draw(seed):
        torch.manual_seed(seed)
        return FastDropout(0.5)(torch.ones(1000)), FastDropout(0.5)(torch.ones(1000))

    assert all(torch.equal(a, b) for a, b in zip(draw(1), draw(1), strict=True))
    assert not torch.equal(*draw(1))
    assert not torch.equal(draw(1)[0], draw(2)[0])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_elements_are_kept_independently(way, p):
    """Neighbours, and the two elements that one random number serves, know nothing of each other."""
    count = 400_003
    torch.manual_seed(3)
    kept = (FastDropout(p)(torch.ones(count)) != 0).double().numpy()
    assert 1 - kept.mean() == pytest.approx(p, abs=4 * (p * (1 - p) / count) ** 0.5)
    for lag in (1, 2, 8, 16, 17, 32, 64, 16_384):
        assert abs(np.corrcoef(kept[:-lag], kept[lag:])[0, 1]) < 4.5 / count**0.5


def test_the_kernel_draws_by_place_whatever_type_and_threads():
    if dropout.library() is None:
        pytest.skip("needs a C compiler")
    threads, masks = torch.get_num_threads(), []
    try:
        for dtype, size, used in [
            (torch.float32, 100_003, 1),
            (torch.bfloat16, 100_003, 2),
            (torch.float32, 70_017, 2),
        ]:
            torch.set_num_threads(used)
            torch.manual_seed(5)
            masks.append(FastDropout(0.3)(torch.ones(size, dtype=dtype)) != 0)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0][:70_017], masks[2])


def test_what_is_no_number_is_passed_on(way):
    x = torch.tensor([float("nan"), float("inf")] * 500)
    y = FastDropout(0.5)(x)
    assert set(map(str, y.tolist())) == {"nan", "inf", "0.0"}


def test_recomputed_activations_have_the_same_mask(way):
    from torch.utils.checkpoint import checkpoint

    x = torch.ones(500, requires_grad=True)
    torch.manual_seed(0)
    y = checkpoint(lambda v: FastDropout(0.5)(v * 1.0), x, use_reentrant=False)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_modules_turn_fast_and_back():
    model = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Sequential(torch.nn.Dropout(0.2)))
    use_fast_dropout(model)
    assert [type(m) for m in model.modules() if isinstance(m, torch.nn.Dropout)] == [FastDropout] * 2
    use_fast_dropout(model, False)
    assert not any(isinstance(m, FastDropout) for m in model.modules())


@pytest.mark.parametrize("features", [4, 16])
def test_dropped_attention_weights_have_the_right_mean_and_gradient(features):
    """With 16 features in the kernel in C, with 4 without it."""
    torch.manual_seed(0)
    layout = Layout([3, 5, 2])
    inputs = [torch.randn(10, 2, features, requires_grad=True) for _ in range(3)]
    plain = attend(*inputs, layout, 0.25).detach()
    mean = torch.stack([attend(*inputs, layout, 0.25, dropout=0.2).detach() for _ in range(3000)]).mean(0)
    assert float((mean - plain).abs().max()) < 0.08

    def once(*values):
        torch.manual_seed(7)
        return attend(*values, layout, 0.25, dropout=0.2)

    assert torch.equal(once(*inputs), once(*inputs))
    probe = torch.randn(10, 2, features)
    gradients = torch.autograd.grad((once(*inputs) * probe).sum(), inputs)
    for number, gradient in enumerate(gradients):
        step = torch.randn_like(inputs[number]) * 1e-2
        up = [x + step if i == number else x for i, x in enumerate(inputs)]
        down = [x - step if i == number else x for i, x in enumerate(inputs)]
        slope = float(((once(*up) - once(*down)) * probe).sum().detach()) / 2
        assert slope == pytest.approx(float((gradient * step).sum()), rel=2e-2, abs=2e-4)
