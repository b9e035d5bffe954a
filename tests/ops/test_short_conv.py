from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hyena_dna.ops.short_conv import short_conv
from tests.oracles import short_convolution


@pytest.mark.parametrize("taps", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 3, 17])
def test_equals_its_definition_and_conv1d(taps: int, length: int) -> None:
    torch.manual_seed(0)
    u, weight, bias = (torch.randn(*shape, dtype=torch.float64) for shape in ((2, 5, length), (5, 1, taps), (5,)))
    y = short_conv(u, weight, bias)
    torch.testing.assert_close(y, torch.from_numpy(short_convolution(u.numpy(), weight.numpy(), bias.numpy())))
    torch.testing.assert_close(y, F.conv1d(u, weight, bias, padding=taps - 1, groups=5)[..., :length])


@pytest.mark.parametrize("length", [1, 2, 7])
def test_gradients(length: int) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((2, 3, length), (3, 1, 3), (3,))]
    assert torch.autograd.gradcheck(short_conv, inputs)


def test_keeps_the_dtype_of_the_input_under_mixed_precision() -> None:
    u = torch.randn(2, 4, 100)
    weight, bias = torch.randn(4, 1, 3), torch.randn(4)
    low = short_conv(u.bfloat16(), weight, bias)
    assert low.dtype == torch.bfloat16
    exact = short_conv(u, weight, bias)
    assert (low.float() - exact).norm() / exact.norm() < 1e-2
