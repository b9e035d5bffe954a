"""The fused filter network against `ImplicitFilter` in float64; interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.filter import ImplicitFilter, Sine
from hyena_dna.ops import fused_filter as module
from hyena_dna.ops.fused_filter import FilterNetwork, fused_filter, fused_filter_backward, is_supported
from hyena_dna.ops.scaled_kernel import ScaledKernel

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def network(
    d_model: int, order: int, max_length: int, width: int, features: int, inner: int, **changes: Any
) -> ImplicitFilter:
    torch.manual_seed(inner)
    config = HyenaConfig(
        d_model=d_model, n_layer=1, max_length=max_length, order=order, filter_order=width, filter_emb_dim=features,
        filter_num_inner_mlps=inner, **changes,
    )  # fmt: skip
    made = ImplicitFilter(config)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        # As large as the frequencies that models start from, where rounding of angles shows.
        sine(made).freq.add_(10)
    return made.to(DEVICE)


def sine(made: ImplicitFilter) -> Sine:
    found = made.implicit_filter["1"]
    assert isinstance(found, Sine)
    return found


def network_of(made: ImplicitFilter, length: int) -> FilterNetwork:
    found = made.network(length)
    assert found is not None
    return found


def names(made: ImplicitFilter) -> list[str]:
    """Of the network's weights, in its order."""
    by_address = {parameter.data_ptr(): name for name, parameter in made.named_parameters()}
    return [by_address[weight.data_ptr()] for weight in network_of(made, 1).weights]


def fused(made: ImplicitFilter, length: int, grad: torch.Tensor) -> dict[str, torch.Tensor]:
    """Filters, and the gradients of the weights for such a gradient of the filters."""
    given = network_of(made, length)
    values, scale = fused_filter(given)
    assert values.dtype == torch.float16
    # As convolutions give it: channels of any size.
    largest = grad.abs().amax(1)
    found = fused_filter_backward(given, ScaledKernel((grad / largest[:, None]).half(), largest))
    return {"output": values * scale[:, None], **dict(zip(names(made), found, strict=True))}


def gradients(model: ImplicitFilter) -> dict[str, torch.Tensor]:
    found = {}
    for name, parameter in model.named_parameters():
        # The skip weights are kept beside the network, which does not read them.
        if name != "bias":
            assert parameter.grad is not None
            found[name] = parameter.grad.clone()
    return found


# Few programs: each sums over several blocks of positions.
@pytest.mark.parametrize("programs", [module._PROGRAMS, 2])
@pytest.mark.parametrize("waves", ["linear", "octaves"])
@pytest.mark.parametrize(
    ("length", "max_length", "d_model", "order", "width", "features", "inner"),
    [
        (100, 130, 20, 2, 16, 5, 2), (193, 1026, 8, 3, 32, 7, 1), (64, 64, 4, 2, 16, 3, 0),
        (70, 1_000_002, 70, 2, 16, 5, 3), (1, 1, 4, 2, 16, 5, 2), (90, 32_770, 20, 2, 32, 31, 2),
    ],
)  # fmt: skip
def test_outputs_and_all_gradients(
    length: int,
    max_length: int,
    d_model: int,
    order: int,
    width: int,
    features: int,
    inner: int,
    waves: str,
    programs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PROGRAMS", programs)
    made = network(d_model, order, max_length, width, features, inner, filter_waves=waves)
    exact, single = (copy.deepcopy(made).to(dtype) for dtype in (torch.float64, torch.float32))
    channels = made.config.n_filters * d_model
    grad = torch.randn(channels, length, device=DEVICE) * torch.logspace(-9, -6, channels, device=DEVICE)[:, None]
    outputs = {"ours": fused(made, length, grad)}
    for name, model in (("PyTorch", single), ("exact", exact)):
        found = model._evaluate(0, length)
        torch.autograd.backward([found], [grad.to(found.dtype)])
        outputs[name] = {"output": found, **gradients(model)}
    for name, expected in outputs["exact"].items():
        expected = expected.detach()
        # Frequencies of ten amplify rounding, PyTorch's own float32 included. Gradients are chains of products that a
        # GPU cuts off at ten bits.
        errors = [float((outputs[who][name].detach().double() - expected).norm()) for who in ("ours", "PyTorch")]
        limit = 1e-3 if name == "output" or DEVICE.type == "cpu" else 1e-2
        assert errors[0] <= 8 * errors[1] + limit * float(expected.norm()), name


def test_every_value_is_written() -> None:
    made = network(12, 2, 300, 16, 5, 2)
    grad = torch.randn(12, 130, device=DEVICE)
    expected = fused(made, 130, grad)
    # In this mode PyTorch fills new memory with NaN, which would show wherever a kernel left it or read it.
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan().all()
        for name, found in fused(made, 130, grad).items():
            assert torch.equal(found, expected[name]), name
    finally:
        torch.use_deterministic_algorithms(False)


def test_which_networks_are_supported() -> None:
    assert is_supported(64, 5, 0.05)
    assert not is_supported(48, 5, 0.05)
    assert is_supported(64, 31, 0.05)
    assert not is_supported(64, 33, 0.05)
    assert not is_supported(64, 5, 7.0)
    assert network(4, 2, 70, 16, 5, 2, modulation_shift=7.0).network(50) is None
