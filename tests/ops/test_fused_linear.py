"""Linear layers of split operands against PyTorch in float64; interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.ops.fused_linear import TILES, Tiles, fused_linear, row_moments, split_linear

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BOUND = 2e-6
"""Largest relative error, as a ratio of norms; operands of 11 bits alone give about 3e-4."""

WHOLE_SUMS = Tiles(rows=32, outputs=64, depth=32, apart=False, warps=4, stages=2)


def made(outputs: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.nn.LayerNorm]:
    torch.manual_seed(outputs)
    norm = torch.nn.LayerNorm(width, eps=1e-5, device=DEVICE)
    torch.nn.init.normal_(norm.weight, mean=1.0, std=0.3)
    torch.nn.init.normal_(norm.bias)
    return torch.randn(outputs, width, device=DEVICE) / 8, torch.randn(outputs, device=DEVICE), norm


def expected(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, norm: torch.nn.LayerNorm | None, gelu: bool
) -> torch.Tensor:
    x = x.double()
    if norm is not None:
        x = F.layer_norm(x, (x.shape[-1],), norm.weight.double(), norm.bias.double(), norm.eps)
    y = F.linear(x, weight.double(), bias.double())
    return F.gelu(y, approximate="tanh") if gelu else y


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


def poisoned(*shape: int) -> torch.Tensor:
    return torch.full(shape, torch.nan, device=DEVICE)


@pytest.mark.parametrize(("outputs", "width"), [(96, 128), (256, 96), (130, 24), (12, 256)])
@pytest.mark.parametrize(("tiles", "half"), [(TILES, False), (TILES, True), (WHOLE_SUMS, True)])
def test_all_that_may_surround_a_layer(outputs: int, width: int, tiles: Tiles, half: bool) -> None:
    weight, bias, norm = made(outputs, width)
    x = torch.randn(2, 77, width, device=DEVICE) * 3 + 5
    moments = row_moments(x, norm.eps)
    for normed, gelu, add in itertools.product((False, True), repeat=3):
        bound = (width**0.5 if normed else float(x.abs().max())) if half else None
        layer = split_linear(weight, bias, norm if normed else None, bound=bound)
        out, wanted = poisoned(2, 77, outputs), expected(x, weight, bias, norm if normed else None, gelu)
        if add:
            out.normal_()
            wanted = wanted + out.double()
        given = moments if normed else None
        found = fused_linear(x, layer, moments=given, gelu=gelu, out=out, add=add, tiles=tiles)
        assert found is out
        assert error(found, wanted) <= BOUND


def test_weights_are_split_exactly() -> None:
    weight, bias, _ = made(64, 48)
    layer = split_linear(weight, bias)
    assert ((layer.high.view(torch.int32) & 0x1FFF) == 0).all()
    assert ((layer.low.view(torch.int32) & 0x1FFF) == 0).all()
    assert (layer.high.double() + layer.low.double() - weight.double()).abs().max() <= 2.0**-22 * weight.abs().max()
    half = split_linear(weight, bias, bound=5.0)
    assert half.high.dtype == half.low.dtype == torch.float16
    assert half.high.isfinite().all()
    rebuilt = (half.high.double() + half.low.double()) * (half.x_scale * half.y_scale)
    assert (rebuilt - weight.double()).abs().max() <= 2.0**-22 * weight.abs().max()
    # Without the low part this is one product, and the bound of the tests above would see it.
    x = torch.randn(1, 50, 48, device=DEVICE).clamp(-5, 5)
    wanted = expected(x, weight, bias, None, False)
    for whole in (layer, half):
        assert error(fused_linear(x, whole._replace(low=torch.zeros_like(whole.low))), wanted) > 10 * BOUND
        assert error(fused_linear(x, whole), wanted) <= BOUND


def test_normalised_rows_far_from_zero_and_narrower_than_a_tile() -> None:
    weight, bias, norm = made(40, 20)
    x = torch.randn(1, 30, 20, device=DEVICE) / 100 + 50
    moments = row_moments(x, norm.eps)
    # What is computed is compared from the moments on: those of such rows lose digits in float32.
    normed = (x.double() - moments.mean.double()[..., None]) * moments.rstd.double()[..., None]
    wanted = expected(normed * norm.weight.double() + norm.bias.double(), weight, bias, None, False)
    for bound in (None, 20**0.5):
        found = fused_linear(x, split_linear(weight, bias, norm, bound=bound), moments=moments)
        assert error(found, wanted) <= 1e-4


@pytest.mark.parametrize("size", [1e-12, 1e-4, 1.0, 1e5, 1e12])
def test_numbers_of_any_size(size: float) -> None:
    weight, bias, _ = made(40, 64)
    x = torch.randn(1, 30, 64, device=DEVICE) * size
    for factor in (1.0, 1e-4, 1e4):
        wanted = expected(x, weight * factor, bias * 0, None, False)
        for bound in (None, float(x.abs().max())):
            layer = split_linear(weight * factor, bias * 0, bound=bound)
            assert error(fused_linear(x, layer), wanted) <= BOUND


def test_channels_first_in_and_out() -> None:
    weight, bias, norm = made(80, 64)
    layer = split_linear(weight, bias, norm)
    base = torch.randn(3, 50, 64, device=DEVICE)
    x = base[:, 3:41]
    room = poisoned(3, 80, 48)
    out = room[..., :38]
    fused_linear(x, layer, moments=row_moments(x, norm.eps), with_bias=False, out=out.transpose(1, 2))
    wanted = expected(x, weight, bias, norm, False) - layer.bias.double()
    assert error(out, wanted.transpose(1, 2)) <= BOUND
    assert room[..., 38:].isnan().all()

    back, no_bias, _ = made(64, 80)
    stream = base.clone()
    fused_linear(out.transpose(1, 2), split_linear(back, no_bias), out=stream[:, 3:41], add=True)
    wanted = base[:, 3:41].double() + expected(out.transpose(1, 2), back, no_bias, None, False)
    assert error(stream[:, 3:41], wanted) <= BOUND
    assert torch.equal(stream[:, :3], base[:, :3])
    assert torch.equal(stream[:, 41:], base[:, 41:])


def test_parts_of_the_outputs() -> None:
    weight, bias, _ = made(96, 32)
    layer, x = split_linear(weight, bias), torch.randn(1, 33, 32, device=DEVICE)
    whole = fused_linear(x, layer)
    assert error(fused_linear(x, layer.outputs(slice(32, 64))), whole[..., 32:64].double()) <= BOUND


def test_moments_of_rows_far_from_zero() -> None:
    x = torch.randn(2, 40, 100, device=DEVICE)[:, 5:30] + 1000
    mean, rstd = row_moments(x, 1e-5)
    wide = x.double()
    torch.testing.assert_close(mean.double(), wide.mean(-1), rtol=1e-6, atol=0)
    torch.testing.assert_close(rstd.double(), (wide.var(-1, correction=0) + 1e-5).rsqrt(), rtol=1e-6, atol=0)


def test_an_input_that_is_not_a_number_stays_in_its_row() -> None:
    weight, bias, _ = made(40, 32)
    x = torch.randn(1, 20, 32, device=DEVICE)
    x[0, 7, 3] = torch.nan
    found = fused_linear(x, split_linear(weight, bias))
    assert found[0, 7].isnan().all()
    assert not found[0, :7].isnan().any()
    assert not found[0, 8:].isnan().any()


@pytest.mark.parametrize("change", ["width", "out", "dtype", "add", "stride"])
def test_what_does_not_fit_is_refused(change: str) -> None:
    weight, bias, _ = made(40, 32)
    layer, x = split_linear(weight, bias), torch.randn(1, 20, 32, device=DEVICE)
    wrong: dict[str, Callable[[], object]] = {
        "width": lambda: fused_linear(x[..., :31], layer),
        "out": lambda: fused_linear(x, layer, out=poisoned(1, 20, 41)),
        "dtype": lambda: fused_linear(x.double(), layer),
        "add": lambda: fused_linear(x, layer, add=True),
        "stride": lambda: row_moments(x.transpose(1, 2), 1e-5),
    }
    with pytest.raises(ValueError):
        wrong[change]()
