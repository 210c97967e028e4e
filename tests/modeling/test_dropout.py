"""Dropout: the right share, scaled, from torch's seed, the same mask forward and backward."""

import pytest
import torch

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_forward_and_backward_share_one_mask(dtype):
    module = FastDropout(0.25)
    x = torch.rand(50, 40, dtype=dtype) + 1
    x.requires_grad_()
    y = module(x)
    y.sum().backward()
    kept = y != 0
    torch.testing.assert_close(y[kept], (x * (1 / 0.75)).to(dtype)[kept])
    assert torch.equal(x.grad != 0, kept)
    assert module.eval()(x) is x


def test_torchs_seed_decides():
    def draw(seed):
        torch.manual_seed(seed)
        return FastDropout(0.5)(torch.ones(1000)), FastDropout(0.5)(torch.ones(1000))

    assert all(torch.equal(a, b) for a, b in zip(draw(1), draw(1), strict=True))
    assert not torch.equal(*draw(1))
    assert not torch.equal(draw(1)[0], draw(2)[0])


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
