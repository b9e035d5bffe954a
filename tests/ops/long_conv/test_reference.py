from __future__ import annotations

import pytest
import torch

from hyena_dna.ops.long_conv.reference import reference_long_conv
from tests.oracles import causal_convolution, toeplitz


@pytest.mark.parametrize("length", [1, 2, 9])
def test_equals_nested_loops_and_the_toeplitz_matrix(length: int) -> None:
    torch.manual_seed(0)
    u, kernel, skip = (torch.randn(*shape, dtype=torch.float64) for shape in ((2, 3, length), (3, length), (3,)))
    y = reference_long_conv(u, kernel, skip)
    torch.testing.assert_close(y, torch.from_numpy(causal_convolution(u.numpy(), kernel.numpy(), skip.numpy())))
    for channel in range(3):
        matrix = torch.from_numpy(toeplitz(kernel[channel].numpy(), skip[channel].item()))
        torch.testing.assert_close(y[:, channel], u[:, channel] @ matrix.T)


def test_sums_in_float64_whatever_the_input() -> None:
    torch.manual_seed(0)
    u, kernel = torch.randn(1, 2, 300).bfloat16(), torch.randn(2, 300)
    y = reference_long_conv(u, kernel)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, reference_long_conv(u.double(), kernel.double()).bfloat16(), rtol=0, atol=0)
