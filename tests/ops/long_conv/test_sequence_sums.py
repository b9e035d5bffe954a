"""Sums over long sequences against float64: interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.ops.long_conv import sequence_sums
from hyena_dna.ops.long_conv.sequence_sums import magnitudes

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("sequences", "length"), [(1, 1), (3, 4097), (700, 50), (2, 20_000)])
@pytest.mark.parametrize("programs", [sequence_sums._PROGRAMS, 2])
def test_magnitudes(sequences: int, length: int, programs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Few programs: each takes several blocks of a sequence.
    monkeypatch.setattr(sequence_sums, "_PROGRAMS", programs)
    torch.manual_seed(0)
    x = torch.randn(sequences, length, device=DEVICE)
    x[0] = 0
    largest, total = magnitudes(x)
    assert torch.equal(largest, x.abs().amax(1))
    torch.testing.assert_close(total.double(), x.double().abs().sum(1), rtol=1e-6, atol=0)
