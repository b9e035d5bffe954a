"""Gates of scoring against short convolutions and products in float64; interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.ops.fused_gate import Projection, ReferenceCut, fused_change, fused_gate
from hyena_dna.ops.short_conv import short_conv

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCH, CHANNELS = 6, 3


def projection(seed: int, positions: int, taps: int) -> Projection:
    torch.manual_seed(seed)
    # A part of a larger tensor, NaN around it.
    room = torch.full((BATCH, CHANNELS + 2, positions + 5), torch.nan, device=DEVICE)
    values = room[:, 1:-1, :positions].normal_()
    in_bias, bias = torch.randn(2, CHANNELS, device=DEVICE)
    return Projection(values, in_bias, torch.randn(CHANNELS, taps, device=DEVICE), bias)


def short(p: Projection, outside: torch.Tensor | None = None) -> torch.Tensor:
    x = p.values.double() + p.in_bias.double()[:, None]
    if outside is not None:
        x = x.masked_fill(torch.arange(x.shape[-1], device=DEVICE) < outside[:, None, None], 0)
    return short_conv(x, p.taps.double()[:, None], p.bias.double())


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (found.double() - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize(("positions", "taps"), [(1, 3), (37, 1), (1030, 3), (64, 7)])
def test_whole_sequences(positions: int, taps: int) -> None:
    a, b = projection(0, positions, taps), projection(1, positions, taps)
    values = torch.full((BATCH, CHANNELS, positions + 3), torch.nan, device=DEVICE)[..., :positions].normal_()
    close(fused_gate(a, None), short(a))
    close(fused_gate(a, b), short(a) * short(b))
    close(fused_gate(a, values), short(a) * values.double())


@pytest.mark.parametrize(("columns", "taps"), [(1, 3), (50, 4), (1025, 3), (20, 1)])
@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("alleles", [1, 3])
def test_changes(columns: int, taps: int, subtract: bool, alleles: int) -> None:
    past, kept = taps - 1, columns + 9
    a, b = projection(2, past + columns, taps), projection(3, past + columns, taps)
    result, source = torch.randn(2, 2, CHANNELS, kept, device=DEVICE)
    window = torch.arange(BATCH // alleles, device=DEVICE) % 2
    start = torch.arange(BATCH // alleles, device=DEVICE) * 7 % 9
    outside = (torch.arange(BATCH // alleles, device=DEVICE) % taps).clamp_max(past)
    cut = ReferenceCut(window, start, outside, alleles)

    def of_reference(x: torch.Tensor) -> torch.Tensor:
        cuts = [x[w, :, s : s + columns] for w, s in zip(window.tolist(), start.tolist(), strict=True)]
        return torch.stack(cuts).repeat_interleave(alleles, 0).double()

    rows = outside.repeat_interleave(alleles)
    first, second = short(a, rows)[..., past:], short(b, rows)[..., past:]
    change = torch.randn(BATCH, CHANNELS, columns + 4, device=DEVICE)[..., :columns]
    cases = [(None, first), (b, first * second), (change, first * (change.double() + of_reference(result)))]
    for other, expected in cases:
        room = torch.full((BATCH, CHANNELS, columns + 6), torch.nan, device=DEVICE)
        out = room[..., :columns]
        fused_change(
            a, other, cut, out, result=result if other is change else None, source=source if subtract else None
        )
        close(out, expected - of_reference(source) if subtract else expected)
        assert room[..., columns:].isnan().all()


def test_a_change_needs_its_result() -> None:
    a = projection(4, 12, 3)
    where = torch.zeros(BATCH, dtype=torch.int64, device=DEVICE)
    out = torch.empty(BATCH, CHANNELS, 10, device=DEVICE)
    with pytest.raises(ValueError, match="result"):
        fused_change(a, torch.zeros_like(out), ReferenceCut(where, where, where, 1), out)
