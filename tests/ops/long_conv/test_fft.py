from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from hyena_dna.ops import workspace
from hyena_dna.ops.long_conv import transforms
from hyena_dna.ops.long_conv.fft import fft_long_conv
from hyena_dna.ops.long_conv.reference import reference_long_conv
from hyena_dna.ops.long_conv.transforms import RightAngleTransform

LENGTHS = [1, 2, 3, 63, 64, 65, 500, 1000, 1026]


def inputs(
    length: int, *, batch: int = 2, channels: int = 3, dtype: torch.dtype = torch.float64, grad: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(length)
    u, kernel, skip = (
        torch.randn(*shape, dtype=dtype, generator=generator).requires_grad_(grad)
        for shape in ((batch, channels, length), (channels, length), (channels,))
    )
    return u, kernel, skip


def relative_error(y: torch.Tensor, exact: torch.Tensor) -> float:
    return float((y.detach().double() - exact.detach()).norm() / exact.detach().norm())


@pytest.fixture
def tiny_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    """One channel at a time, so that chunk borders are crossed."""
    monkeypatch.setitem(workspace.WORKSPACE_BYTES, "cpu", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Memory from `torch.empty` holds NaN, so that an element that is never written shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("length", LENGTHS)
def test_float64_equals_the_definition(length: int) -> None:
    u, kernel, skip = inputs(length)
    exact = reference_long_conv(u, kernel, skip)
    assert relative_error(fft_long_conv(u, kernel, skip), exact) < 1e-13
    assert relative_error(fft_long_conv(u, kernel), reference_long_conv(u, kernel)) < 1e-13


@pytest.mark.parametrize("length", LENGTHS)
def test_the_right_angle_transform_equals_the_definition(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "RIGHT_ANGLE_LENGTH", 1)
    assert isinstance(transforms.choose_transform(length, torch.float64, torch.device("cpu")), RightAngleTransform)
    arguments = inputs(length, grad=True)
    y, exact = fft_long_conv(*arguments), reference_long_conv(*arguments)
    assert relative_error(y, exact) < 1e-13
    upstream = torch.randn(2, 3, length, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(result, arguments, upstream) for result in (y, exact))
    for gradient, expected in zip(ours, theirs, strict=True):
        assert relative_error(gradient, expected) < 1e-12
    low = fft_long_conv(*(x.detach().float() for x in arguments))
    assert relative_error(low, exact) < 2e-6
    assert leak_by_perturbation(length + 1, torch.float64) < 1e-12


@pytest.mark.parametrize("length", LENGTHS)
def test_float32_is_high_precision(length: int) -> None:
    u, kernel, skip = (x.float() for x in inputs(length))
    exact = reference_long_conv(u.double(), kernel.double(), skip.double())
    assert relative_error(fft_long_conv(u, kernel, skip), exact) < 2e-6


def test_float32_is_high_precision_at_a_million() -> None:
    u, kernel, skip = inputs(1_000_000, batch=1, channels=1, dtype=torch.float32)
    exact = fft_long_conv(u.double(), kernel.double(), skip.double())
    assert relative_error(fft_long_conv(u, kernel, skip), exact) < 2e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_input_is_computed_in_float32(dtype: torch.dtype) -> None:
    u, kernel, skip = (x.float() for x in inputs(500))
    low = u.to(dtype)
    y = fft_long_conv(low, kernel, skip)
    assert y.dtype == dtype
    # Nothing but the final rounding is lost.
    torch.testing.assert_close(y, fft_long_conv(low.float(), kernel, skip).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 16])
def test_gradients_once_and_twice(length: int) -> None:
    arguments = inputs(length, grad=True)
    assert gradcheck(fft_long_conv, arguments, atol=1e-6)
    assert gradgradcheck(fft_long_conv, arguments, atol=1e-6)
    assert gradcheck(fft_long_conv, arguments[:2], atol=1e-6)


@pytest.mark.parametrize("length", [63, 1000])
def test_gradients_equal_those_of_the_definition(length: int) -> None:
    arguments = inputs(length, grad=True)
    upstream = torch.randn(2, 3, length, dtype=torch.float64)
    ours = torch.autograd.grad(fft_long_conv(*arguments), arguments, upstream)
    theirs = torch.autograd.grad(reference_long_conv(*arguments), arguments, upstream)
    for gradient, exact in zip(ours, theirs, strict=True):
        assert relative_error(gradient, exact) < 1e-12


def test_gradients_have_the_dtypes_of_their_inputs() -> None:
    u, kernel, skip = inputs(64, dtype=torch.float32, grad=True)
    low = u.detach().bfloat16().requires_grad_()
    gradients = torch.autograd.grad(fft_long_conv(low, kernel, skip).sum(), (low, kernel, skip))
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float32, torch.float32]


@pytest.mark.parametrize("needed", [0, 1, 2])
def test_one_gradient_alone(needed: int) -> None:
    arguments = inputs(9)
    arguments[needed].requires_grad_()
    (ours,) = torch.autograd.grad(fft_long_conv(*arguments).square().sum(), arguments[needed])
    (theirs,) = torch.autograd.grad(reference_long_conv(*arguments).square().sum(), arguments[needed])
    torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("tiny_workspace", "poisoned_memory")
def test_channel_chunks_cover_everything_once() -> None:
    arguments = inputs(65, channels=5, grad=True)
    y = fft_long_conv(*arguments)
    exact = reference_long_conv(*arguments)
    torch.testing.assert_close(y, exact)
    for ours, theirs in zip(
        torch.autograd.grad(y.square().sum(), arguments),
        torch.autograd.grad(exact.square().sum(), arguments),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_takes_channels_that_are_not_contiguous() -> None:
    u, kernel, skip = inputs(65)
    strided = u.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    torch.testing.assert_close(fft_long_conv(strided, kernel, skip), fft_long_conv(u, kernel, skip))


def leak_by_perturbation(length: int, dtype: torch.dtype) -> float:
    """Largest change before the first changed position, relative to the largest output."""
    u, kernel, skip = inputs(length, dtype=dtype)
    changed = u.clone()
    edit = length // 2
    changed[..., edit:] += 10
    before, after = fft_long_conv(u, kernel, skip), fft_long_conv(changed, kernel, skip)
    return float((before - after)[..., :edit].abs().max() / after.abs().max())


def leak_by_gradient(length: int) -> float:
    """Largest derivative of an output with respect to a later input, relative to the largest derivative."""
    u, kernel, skip = inputs(length, batch=1, channels=1)
    matrix = torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
        lambda x: fft_long_conv(x, kernel, skip).flatten(), u
    ).view(length, length)
    return float(matrix.triu(1).abs().max() / matrix.abs().max())


@pytest.mark.parametrize("length", [2, 63, 64, 1000, 4096])
def test_the_future_never_leaks(length: int) -> None:
    assert leak_by_perturbation(length, torch.float64) < 1e-12
    assert leak_by_perturbation(length, torch.float32) < 5e-6


@pytest.mark.parametrize("length", [2, 63, 64])
def test_the_future_has_no_gradient(length: int) -> None:
    assert leak_by_gradient(length) < 1e-12


def test_the_causality_tests_catch_a_transform_of_the_sequence_length(monkeypatch: pytest.MonkeyPatch) -> None:
    # The classical mistake: without zero padding the end wraps around to the beginning, and the loss looks excellent.
    monkeypatch.setattr(transforms, "fast_fft_size", lambda minimum, **_: (minimum + 1) // 2)
    assert leak_by_perturbation(64, torch.float64) > 1e-2
    assert leak_by_gradient(64) > 1e-2


def test_one_point_less_than_needed_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "fast_fft_size", lambda minimum, **_: minimum - 1)
    assert leak_by_gradient(64) > 1e-4


def test_same_bits_every_time() -> None:
    arguments = inputs(1000, dtype=torch.float32)
    torch.testing.assert_close(fft_long_conv(*arguments), fft_long_conv(*arguments), rtol=0, atol=0)


def test_backward_uses_real_transforms_only() -> None:
    arguments = inputs(64, dtype=torch.float32, grad=True)
    y = fft_long_conv(*arguments).sum()
    with torch.profiler.profile() as profile:
        torch.autograd.grad(y, arguments)
    names = {event.key for event in profile.key_averages()}
    assert "aten::_fft_r2c" in names
    assert "aten::_fft_c2c" not in names
