"""The fused mixer against the operator in float64, all forms; interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.model import operator as operator_module
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.operator import HyenaOperator
from hyena_dna.ops import fused_mixer as module
from hyena_dna.ops import projected_groups
from hyena_dna.ops.fused_filter import fused_filter
from hyena_dna.ops.fused_mixer import MixerWeights, fused_mixer
from hyena_dna.ops.long_conv import dispatch
from hyena_dna.ops.short_conv import MOST_FUSED_TAPS
from hyena_dna.ops.tier import is_fused

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def operator(order: int, leading_conv: bool, length: int, taps: int = 3) -> HyenaOperator:
    torch.manual_seed(order)
    config = HyenaConfig(
        d_model=4, n_layer=1, max_length=length + 2, order=order, leading_conv=leading_conv, short_filter_length=taps
    )
    made = HyenaOperator(config)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3 if parameter.dim() > 1 else 0.1)
    sine = made.filter_fn.implicit_filter["1"].freq
    assert isinstance(sine, torch.nn.Parameter)
    torch.nn.init.ones_(sine)
    return made.to(DEVICE)


def fused(
    made: HyenaOperator, u: torch.Tensor, padding: torch.Tensor | None, *, evaluated: bool = False
) -> torch.Tensor:
    """Filters through the fused kernels, or evaluated by PyTorch, as those of networks that the kernels do not take."""
    short, config = made.short_filter, made.config
    assert short.bias is not None
    weights = MixerWeights(
        made.in_proj.weight, made.in_proj.bias, short.weight, short.bias, made.out_proj.weight, made.out_proj.bias
    )
    skips = made.filter_fn.skips
    kernels = made.filter_fn.network(u.shape[1])
    if evaluated or kernels is None:
        kernels = made.filter_fn(u.shape[1])
    return fused_mixer(u, weights, kernels, skips, leading_conv=config.leading_conv, padding=padding)


def make_filters_fused(exact: HyenaOperator, made: HyenaOperator) -> None:
    """Give an operator in float64 the filters that the kernels make.

    Those are right to less than a convolution is, but their errors are alike at many positions: sums over positions
    would show them many times larger, as an error of the mixer.
    """
    evaluate = exact.filter_fn.forward

    def forward(length: int) -> torch.Tensor:
        network = made.filter_fn.network(length)
        assert network is not None
        values, scale = fused_filter(network)
        kernel = evaluate(length)
        # Their values, and the gradients of exact ones.
        return kernel + ((values * scale[:, None]).view_as(kernel) - kernel).detach()

    exact.filter_fn.forward = forward  # type: ignore[method-assign]


def compare(
    pairs: dict[str, tuple[torch.Tensor | None, torch.Tensor | None]],
    made: HyenaOperator,
    exact: HyenaOperator,
    limit: float,
) -> None:
    """Relative errors of named pairs, and of the gradients of all parameters."""
    for (name, ours), theirs in zip(made.named_parameters(), exact.parameters(), strict=True):
        pairs[name] = (ours.grad, theirs.grad)
    for name, (found, expected) in pairs.items():
        assert found is not None
        assert expected is not None
        # Gradients of hidden layers of filters are chains of products that a GPU cuts off at ten bits.
        cut = DEVICE.type == "cuda" and "implicit_filter" in name
        assert (found.double() - expected).norm() <= (1e-2 if cut else limit) * expected.norm(), name


@pytest.mark.parametrize(
    ("order", "leading_conv", "batch", "length", "padded", "taps", "evaluated"),
    [
        (2, False, 2, 100, False, 3, False),
        (3, False, 2, 65, True, 3, False),
        (1, True, 1, 40, False, 4, False),
        (2, True, 2, 33, True, 1, False),
        (2, True, 2, 33, True, 1, True),
        # Too long for one kernel a sequence.
        (3, False, 2, 4100, True, 3, False),
        (2, False, 1, 4100, False, 3, True),
    ],
)
def test_outputs_and_all_gradients(
    order: int, leading_conv: bool, batch: int, length: int, padded: bool, taps: int, evaluated: bool
) -> None:
    made = operator(order, leading_conv, length, taps)
    exact = HyenaOperator(made.config).to(DEVICE).double()
    exact.load_state_dict(made.state_dict())
    u, grad = torch.randn(2, batch, length, 4, device=DEVICE)
    padding = None
    if padded:
        lengths = torch.tensor([length] + [length // 2] * (batch - 1), device=DEVICE)
        padding = torch.arange(length, device=DEVICE) >= lengths[:, None]
        grad = grad.masked_fill(padding[..., None], 0)
    wide, single = u.double().requires_grad_(), u.clone().requires_grad_()
    if not evaluated:
        make_filters_fused(exact, made)
    expected, found = exact(wide, padding), fused(made, single, padding, evaluated=evaluated)
    torch.autograd.backward([expected], [grad.double()])
    torch.autograd.backward([found], [grad])
    if padding is not None:
        expected, found = (value.masked_fill(padding[..., None], 0) for value in (expected, found))
    pairs = {"output": (found, expected), "input": (single.grad, wide.grad)}
    # As much as one convolution may be off by, for each of them.
    compare(pairs, made, exact, 2e-3 * made.config.n_filters)


@pytest.mark.parametrize("frozen", ["filter_fn", "implicit_filter"])
@pytest.mark.parametrize("evaluated", [False, True])
def test_frozen_filters(frozen: str, evaluated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made, u = operator(3, False, 40), torch.randn(2, 40, 4, device=DEVICE)
    trained = [parameter for name, parameter in made.named_parameters() if frozen not in name]
    grad = torch.randn_like(u)
    expected = torch.autograd.grad(fused(made, u, None, evaluated=evaluated), trained, grad)
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(frozen not in name)

    def never(*_: object) -> list[torch.Tensor]:
        raise AssertionError

    monkeypatch.setattr(module, "fused_filter_backward", never)
    found = torch.autograd.grad(fused(made, u, None, evaluated=evaluated), trained, grad)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize(("order", "leading_conv"), [(2, False), (3, False), (2, True)])
def test_spectra_in_place_of_kernels(order: int, leading_conv: bool) -> None:
    made = operator(order, leading_conv, 50).eval()
    short = made.short_filter
    assert short.bias is not None
    weights = MixerWeights(
        made.in_proj.weight, made.in_proj.bias, short.weight, short.bias, made.out_proj.weight, made.out_proj.bias
    )
    skips = made.filter_fn.skips
    u = torch.randn(2, 50, 4, device=DEVICE)
    with torch.no_grad():
        network, spectra = made.filter_fn.network(50), made.filter_fn.spectra(50)
        assert network is not None
        again = made.filter_fn.spectra(50)
        assert [part.values.data_ptr() for part in spectra] == [part.values.data_ptr() for part in again]
        given = [fused_mixer(u, weights, value, skips, leading_conv=leading_conv) for value in (network, spectra)]
        assert torch.equal(*given)
        made.filter_fn.bias.mul_(2)
        assert made.filter_fn.spectra(50)[0].values.data_ptr() != spectra[0].values.data_ptr()
    made.train()
    with torch.no_grad():
        first, second = made.filter_fn.spectra(50), made.filter_fn.spectra(50)
    assert first[0].values.data_ptr() != second[0].values.data_ptr()


def test_a_frozen_output_projection_keeps_no_product() -> None:
    made, u = operator(2, False, 40), torch.randn(2, 40, 4, device=DEVICE)
    grad = torch.randn_like(u)
    trained = [made.in_proj.weight, made.filter_fn.bias]
    expected = torch.autograd.grad(fused(made, u, None), trained, grad)

    def kept() -> int:
        sizes: list[int] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = fused(made, u, None)
        found = torch.autograd.grad(y, trained, grad)
        # Products on a CPU differ by where their operands lie.
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        return sum(sizes)

    whole = kept()
    made.out_proj.weight.requires_grad_(False)
    assert kept() == whole - u.numel()


def test_long_sequences_have_products_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made, u = operator(2, False, 40), torch.randn(3, 40, 4, device=DEVICE)
    expected = fused(made, u, None)
    monkeypatch.setattr(module, "_OWN_PRODUCT", 1)
    torch.testing.assert_close(fused(made, u, None), expected, rtol=1e-5, atol=1e-6)


def test_programs_of_the_gates_take_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    made, u = operator(2, False, 40), torch.randn(3, 40, 4, device=DEVICE)
    grad = torch.randn_like(u)

    def gradients() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(fused(made, u, None), list(made.parameters()), grad)

    expected = gradients()
    # Three blocks in each of three sequences, four a program: shares end within sequences, and the last is short.
    monkeypatch.setattr(projected_groups, "_BLOCK", 16)
    monkeypatch.setattr(projected_groups, "_MOST_BLOCKS", 4)
    monkeypatch.setattr(projected_groups, "_PROGRAMS", 1)
    for found, exact in zip(gradients(), expected, strict=True):
        assert (found - exact).norm() <= 1e-5 * exact.norm()


class OnGpu(torch.Tensor):
    """A tensor of the CPU that says it is on a GPU; what is computed from it is an ordinary one."""

    device = torch.device("cuda")
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


@pytest.fixture
def autocast(monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[object]:
    """A GPU's autocast, or what the operator sees of one; in the latter nothing is rounded."""
    if DEVICE.type == "cuda":
        # The check at first use is no call of the operator's.
        assert is_fused(DEVICE)
        return torch.autocast("cuda", torch.float16)
    dtype_on = torch.get_autocast_dtype
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda d: torch.float32 if d == "cuda" else dtype_on(d))
    monkeypatch.setattr(dispatch, "is_fused", lambda _: True)
    return nullcontext()


def mix(made: HyenaOperator, u: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = made(u if u.is_cuda else u.as_subclass(OnGpu))
    return found


@pytest.mark.parametrize("leading_conv", [False, True])
@pytest.mark.parametrize("taps", [MOST_FUSED_TAPS, MOST_FUSED_TAPS + 1, 11])
def test_only_short_filters_of_few_taps_are_fused(
    taps: int, leading_conv: bool, autocast: AbstractContextManager[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = operator(2, leading_conv, 40, taps)
    exact = HyenaOperator(made.config).to(DEVICE).double()
    exact.load_state_dict(made.state_dict())
    u, grad = torch.randn(2, 2, 40, 4, device=DEVICE)
    wide, single = u.double().requires_grad_(), u.clone().requires_grad_()
    expected = exact(wide)
    calls = []

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(arguments)
        return fused_mixer(*arguments, **options)

    monkeypatch.setattr(module, "fused_mixer", counted)
    with autocast:
        found = mix(made, single)
    assert len(calls) == (taps <= MOST_FUSED_TAPS)
    torch.autograd.backward([expected], [grad.double()])
    torch.autograd.backward([found], [grad.to(found.dtype)])
    pairs = {"output": (found, expected), "input": (single.grad, wide.grad)}
    compare(pairs, made, exact, 2e-3 if u.device.type == "cpu" else 1e-2)


def test_more_taps_are_refused_because_kernels_would_be_wrong(
    autocast: AbstractContextManager[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, u = operator(2, False, 40, MOST_FUSED_TAPS + 1), torch.randn(2, 40, 4, device=DEVICE)
    monkeypatch.setattr(operator_module, "MOST_FUSED_TAPS", 99)
    with autocast, pytest.raises(ValueError, match="up to 5 taps, not 6"):
        mix(made, u)
    monkeypatch.setattr(module, "MOST_FUSED_TAPS", 99)
    with torch.no_grad():
        expected = made.double()(u.double())
        found = fused(made.float(), u, None)
    assert (found - expected).norm() > 0.02 * expected.norm()
