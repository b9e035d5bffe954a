from __future__ import annotations

import pytest
import torch

from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.init import init_weights
from hyena_dna.model.operator import HyenaOperator
from hyena_dna.ops import workspace
from hyena_dna.ops.long_conv import Implementation, dispatch, fft, transforms
from tests.oracles import hyena

FORMS = [(False, 2), (False, 3), (False, 4), (True, 1), (True, 2), (True, 3), (True, 4)]


def make_operator(order: int = 2, leading_conv: bool = False, dtype: torch.dtype = torch.float64) -> HyenaOperator:
    config = HyenaConfig(
        d_model=4,
        n_layer=1,
        max_length=40,
        order=order,
        leading_conv=leading_conv,
        filter_order=8,
        initializer_range=0.5,
    )
    torch.manual_seed(order)
    module = HyenaOperator(config)
    init_weights(module, config)
    with torch.no_grad():
        module.in_proj.bias.normal_()
        module.out_proj.bias.normal_()
    return module.to(dtype)


@pytest.mark.parametrize("impl", ["fft", "reference"])
@pytest.mark.parametrize("length", [1, 2, 11])
@pytest.mark.parametrize(("leading_conv", "order"), FORMS)
def test_equals_the_product_of_diagonal_and_toeplitz_matrices(
    leading_conv: bool, order: int, length: int, impl: Implementation
) -> None:
    module = make_operator(order, leading_conv)
    module.impl = impl
    u = torch.randn(2, length, 4, dtype=torch.float64)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    expected = torch.from_numpy(hyena(module.config, weights, u.numpy()))
    torch.testing.assert_close(module(u).detach(), expected, rtol=1e-9, atol=1e-10)


def test_the_two_forms_differ() -> None:
    # Guards the oracle test against a switch that does nothing: same weights, order and input, other operator.
    paper = make_operator(2, leading_conv=True)
    published = make_operator(2)
    state = paper.state_dict()
    channels = 4
    state["filter_fn.bias"] = state["filter_fn.bias"][:channels]
    state["filter_fn.implicit_filter.6.weight"] = state["filter_fn.implicit_filter.6.weight"][:channels]
    published.load_state_dict(state)
    u = torch.randn(1, 11, 4, dtype=torch.float64)
    assert (paper(u) - published(u)).abs().max() > 1e-2


@pytest.mark.parametrize(("leading_conv", "order"), [(False, 2), (False, 3), (True, 1), (True, 2)])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_gradients_of_input_and_parameters(leading_conv: bool, order: int, length: int) -> None:
    module = make_operator(order, leading_conv)
    u = torch.randn(2, length, 4, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in module.named_parameters()]
    values = [value.detach().clone().requires_grad_() for value in module.parameters()]

    def run(u: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (u,))
        return y

    assert torch.autograd.gradcheck(run, (u, *values), atol=1e-6, fast_mode=True)


def leak(module: HyenaOperator, length: int = 33, edit: int = 17) -> float:
    u = torch.randn(1, length, 4, dtype=module.out_proj.weight.dtype)
    changed = u.clone()
    changed[:, edit:] += 3
    before, after = module(u), module(changed)
    return float((before - after)[:, :edit].abs().max() / after.abs().max())


@pytest.mark.parametrize(("leading_conv", "order"), FORMS)
def test_the_future_never_leaks(leading_conv: bool, order: int) -> None:
    assert leak(make_operator(order, leading_conv)) < 1e-12
    assert leak(make_operator(order, leading_conv, torch.float32)) < 5e-6


@pytest.mark.parametrize(("leading_conv", "order"), FORMS)
def test_the_future_has_no_gradient(leading_conv: bool, order: int) -> None:
    module = make_operator(order, leading_conv)
    u = torch.randn(1, 9, 4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
        lambda x: module(x)[0].sum(-1), u
    )[:, 0]
    jacobian = jacobian.abs().sum(-1)
    assert jacobian.shape == (9, 9)
    assert jacobian.triu(1).max() < 1e-12 * jacobian.max()
    assert (jacobian.tril().diagonal() > 0).all()


def test_the_causality_tests_catch_a_transform_of_the_sequence_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "fast_fft_size", lambda minimum, **_: (minimum + 1) // 2 + 1)
    monkeypatch.setattr(dispatch, "FEW_VALUES", {})
    assert leak(make_operator()) > 1e-4


@pytest.mark.parametrize(("leading_conv", "order"), FORMS)
def test_padding_is_zeroed_before_every_long_convolution(
    leading_conv: bool, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_operator(order, leading_conv)
    seen: list[torch.Tensor] = []
    inner = fft.fft_long_conv

    def spy(u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        seen.append(u.detach().clone())
        return inner(u, kernel, skip)

    monkeypatch.setattr(dispatch, "FEW_VALUES", {})
    monkeypatch.setattr(dispatch, "fft_long_conv", spy)
    padding = torch.arange(12) >= torch.tensor([[12], [5]])
    u = torch.randn(2, 12, 4, dtype=torch.float64)
    y = module(u, padding)
    assert len(seen) == module.config.n_filters
    assert all((z[1, :, 5:] == 0).all() and (z[1, :, :5] != 0).all() and (z[0] != 0).all() for z in seen)
    # What stands in the padding never matters, not even where it is not a number.
    hostile = u.clone()
    hostile[1, 5:] = torch.nan
    torch.testing.assert_close(module(hostile, padding)[1, :5], y[1, :5], rtol=0, atol=0)


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def small_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 5 positions of 4 channels in float64."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)
    monkeypatch.setitem(workspace.WORKSPACE_BYTES, "cpu", 5 * 16 * 4 * 8)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("length", [1, 2, 5, 6, 11, 23])
@pytest.mark.parametrize(("leading_conv", "order"), FORMS)
def test_tiles_equal_the_path_with_gradients(leading_conv: bool, order: int, length: int) -> None:
    module = make_operator(order, leading_conv)
    u = torch.randn(3, length, 4, dtype=torch.float64)
    padding = torch.arange(length) >= torch.tensor([[length], [max(1, length // 2)], [1]])
    whole, padded = module(u), module(u, padding)
    with torch.no_grad():
        assert module.is_tiled(u)
        torch.testing.assert_close(module(u), whole, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(module(u, padding)[~padding], padded[~padding], rtol=1e-9, atol=1e-10)
        # What stands in the padding never matters, not even where it is not a number.
        hostile = u.masked_fill(padding[..., None], torch.nan)
        torch.testing.assert_close(module(hostile, padding)[~padding], padded[~padding], rtol=1e-9, atol=1e-10)
        assert leak(module) < 1e-12


def test_tiles_serve_what_they_compute_alike() -> None:
    module = make_operator(dtype=torch.float32)
    u = torch.randn(1, 9, 4)
    assert not module.is_tiled(u)
    with torch.no_grad():
        assert module.is_tiled(u)
        assert not module.is_tiled(u.bfloat16())
        assert not module.is_tiled(u.double())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not module.is_tiled(u)
        module.impl = "reference"
        assert not module.is_tiled(u)
