"""Sums over long sequences against float64: interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.ops.long_conv.sequence_sums import magnitudes, pair_sums

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("sequences", "length"), [(1, 1), (3, 4097), (700, 50), (2, 20_000)])
def test_magnitudes(sequences: int, length: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(sequences, length, device=DEVICE)
    x[0] = 0
    largest, total = magnitudes(x)
    assert torch.equal(largest, x.abs().amax(1))
    torch.testing.assert_close(total.double(), x.double().abs().sum(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("batch", "channels", "length"), [(1, 1, 1), (2, 3, 4097), (1, 2, 20_000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pair_sums(batch: int, channels: int, length: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    # Channels of a wider tensor, as the groups of a projection are.
    x = torch.randn(batch, 2 * channels, length, device=DEVICE).to(dtype)[:, channels:]
    y = torch.randn(batch, channels, length, device=DEVICE).to(dtype)
    x_largest, y_largest, products = pair_sums(x, y)
    assert torch.equal(x_largest, x.abs().amax(2).float())
    assert torch.equal(y_largest, y.abs().amax(2).float())
    exact = x.double() * y.double()
    error = (products.double() - exact.sum(2)).abs()
    assert (error <= 1e-6 * exact.abs().sum(2)).all()
