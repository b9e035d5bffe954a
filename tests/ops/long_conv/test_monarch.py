"""The Monarch convolution against float64: interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.ops.long_conv import monarch
from hyena_dna.ops.long_conv.fft import fft_long_conv
from hyena_dna.ops.long_conv.monarch import (
    convolve,
    convolve_backward,
    convolve_keeping,
    monarch_long_conv,
    monarch_spectrum,
)
from hyena_dna.ops.long_conv.monarch_plan import monarch_plan

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# What precision `fast` promises.
FAST = 2e-3
# A length for every way to split a transform: one kernel with equal and unequal radices, then three kernels.
SMALL = [(1, 2, 1), (3, 2, 200), (2, 3, 512), (5, 2, 1000), (2, 1, 2048), (1, 2, 4096), (2, 2, 5000)]
LARGE = [(1, 1, 16_000), (2, 1, 32_768), (1, 1, 70_000), (1, 1, 160_000), (1, 1, 450_000), (1, 1, 1_000_000)]

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def inputs(batch: int, channels: int, length: int, dtype: torch.dtype = torch.float32) -> Inputs:
    torch.manual_seed(length)
    decay = torch.exp(-5 * torch.arange(length) / length)
    made = (
        torch.randn(batch, channels, length).to(dtype),
        torch.randn(channels, length) * decay,
        torch.randn(channels),
        # The size of gradients of a mean loss, far below what float16 holds.
        (torch.randn(batch, channels, length) * 1e-6).to(dtype),
    )
    u, kernel, skip, grad = (tensor.to(DEVICE) for tensor in made)
    return u, kernel, skip, grad


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((found.double() - expected).norm() / expected.norm()).detach())


def compare(batch: int, channels: int, length: int, dtype: torch.dtype = torch.float32) -> None:
    *tensors, grad = inputs(batch, channels, length, dtype)
    expected = [tensor.double().requires_grad_() for tensor in tensors]
    wide = fft_long_conv(*expected)
    found = [tensor.clone().requires_grad_() for tensor in tensors]
    y = monarch_long_conv(found[0], found[1], found[2])
    # Storing in bfloat16 rounds by 1.7e-3 on its own, and by twice that in the interpreter, which cuts bits off.
    limit = FAST if dtype == torch.float32 else 4e-3
    assert y.dtype == dtype
    assert error(y, wide.detach()) <= limit
    gradients = torch.autograd.grad(wide, expected, grad.double())
    d_u, d_kernel, d_skip = torch.autograd.grad(y, found, grad)
    assert error(d_u, gradients[0]) <= limit
    assert error(d_kernel, gradients[1]) <= limit
    # The skip term's gradient is the kernel's at its first value, right to what is usual among its values.
    assert torch.equal(d_skip, d_kernel[:, 0])
    usual = gradients[1].square().mean().sqrt()
    assert (d_skip.double() - gradients[2]).square().mean().sqrt() <= limit * usual


@pytest.mark.parametrize(("batch", "channels", "length"), SMALL)
def test_outputs_and_gradients(batch: int, channels: int, length: int) -> None:
    compare(batch, channels, length)


@pytest.mark.parametrize(("batch", "channels"), [(2, 3), (1, 5)])
def test_programs_along_rows_take_several_sequences(batch: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Shares of four: the last is short, and a channel's sequences lie in two of them.
    monkeypatch.setattr(monarch, "_PROGRAMS", 1)
    monkeypatch.setattr(monarch, "_MOST_SEQUENCES", 4)
    compare(batch, channels, 5000)


@pytest.mark.parametrize("length", [300, 5000])
def test_kernels_that_want_no_gradient_cost_none(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    u, kernel, skip, grad = inputs(2, 2, length)
    u.requires_grad_()
    y = monarch_long_conv(u, kernel.requires_grad_(), skip.requires_grad_())
    (expected,) = torch.autograd.grad(y, [u], grad)

    def never(*_: object) -> torch.Tensor:
        raise AssertionError

    monkeypatch.setattr(monarch, "_d_kernel_of_tiles", never)
    monkeypatch.setattr(monarch, "_d_kernel_of_rows", never)
    frozen = monarch_long_conv(u, kernel.detach(), skip.detach())
    assert torch.equal(frozen, y)
    assert torch.equal(torch.autograd.grad(frozen, [u], grad)[0], expected)


@pytest.mark.parametrize("length", [300, 5000])
@pytest.mark.parametrize("where", ["everywhere", "one position"])
def test_gradients_of_kernels_in_half_the_bits(length: int, where: str) -> None:
    u, kernel, skip, grad = inputs(2, 2, length)
    if where == "one position":
        # As pooling by maxima gives it: far below what is possible at this length, so least is left of float16.
        grad[..., :-1] = 0
    spectrum = monarch_spectrum(kernel, skip)
    _, source = convolve_keeping(u, spectrum)
    d_u, exact = convolve_backward(grad, source, spectrum)
    same, found = convolve_backward(grad, source, spectrum, half=True)
    assert torch.equal(same, d_u)
    assert exact is not None
    assert found is not None
    assert found.values.dtype == torch.float16
    assert found.values.abs().max() <= 8192
    # Of values that a window has made twenty times smaller as well.
    rounded = (found.values / 20).double() * 20 * found.scale[:, None].double()
    assert error(rounded, exact.values.double()) <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "channels", "length"), LARGE)
def test_outputs_and_gradients_of_long_sequences(batch: int, channels: int, length: int) -> None:
    compare(batch, channels, length)


def test_bfloat16() -> None:
    compare(2, 2, 300, torch.bfloat16)


def test_values_of_any_size() -> None:
    u, kernel, skip, _ = inputs(2, 2, 300)
    for factor in (1e-20, 1e20):
        y = monarch_long_conv(u * factor, kernel)
        assert error(y / factor, fft_long_conv(u.double(), kernel.double())) <= FAST
    assert error(monarch_long_conv(u + 5, kernel.abs()), fft_long_conv(u.double() + 5, kernel.double().abs())) <= FAST
    assert not monarch_long_conv(torch.zeros_like(u), kernel, skip).any()
    assert not monarch_long_conv(u, torch.zeros_like(kernel)).any()


def test_strided_inputs_and_known_spectra() -> None:
    u, kernel, skip, _ = inputs(2, 4, 300)
    part, of_part, skip_part = u[:, 1:3], kernel[1:3], skip[1:3]
    y = monarch_long_conv(part, of_part, skip_part)
    assert error(y, fft_long_conv(part.double(), of_part.double(), skip_part.double())) <= FAST
    assert torch.equal(convolve(part, monarch_spectrum(of_part, skip_part)), y)
    transposed = u.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(monarch_long_conv(transposed, kernel, skip), monarch_long_conv(u, kernel, skip))


def test_rows_of_a_batch_do_not_touch() -> None:
    u, kernel, skip, _ = inputs(5, 2, 1000)
    louder = u.clone()
    louder[3] *= 1000
    keep = [0, 1, 2, 4]
    assert torch.equal(monarch_long_conv(u, kernel, skip)[keep], monarch_long_conv(louder, kernel, skip)[keep])


def test_it_is_deterministic() -> None:
    def gradients() -> list[torch.Tensor]:
        *tensors, grad = inputs(5, 2, 1000)
        leaves = [tensor.requires_grad_() for tensor in tensors]
        y = monarch_long_conv(leaves[0], leaves[1], leaves[2])
        return list(torch.autograd.grad(y, leaves, grad))

    assert all(torch.equal(first, second) for first, second in zip(gradients(), gradients(), strict=True))


@pytest.mark.parametrize(("batch", "length"), [(3, 200), (1, 5000)])
def test_every_value_is_written(batch: int, length: int) -> None:
    # In this mode PyTorch fills new memory with NaN, which would show wherever a kernel left it or read it.
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan().all()
        compare(batch, 2, length)
    finally:
        torch.use_deterministic_algorithms(False)


def test_too_long() -> None:
    with pytest.raises(ValueError, match="1,048,577"):
        monarch_plan((1 << 20) + 1, DEVICE)
