from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.filter import ImplicitFilter, decay_rates, positional_features
from hyena_dna.model.init import init_weights
from hyena_dna.ops import workspace
from tests.oracles import filters


def make_filter(std: float = 0.02, dtype: torch.dtype = torch.float32, **changes: object) -> ImplicitFilter:
    config = HyenaConfig.model_validate(
        {"d_model": 6, "n_layer": 1, "max_length": 1026, "initializer_range": std, **changes}
    )
    torch.manual_seed(0)
    module = ImplicitFilter(config)
    init_weights(module, config)
    return module.to(dtype)


def config_of(max_length: int, **changes: Any) -> HyenaConfig:
    return HyenaConfig(d_model=8, n_layer=1, max_length=max_length, **changes)


def published_features(max_length: int) -> torch.Tensor:
    """The buffers that published checkpoints carry, as published code computes them (complex exponentials)."""
    time = torch.linspace(0, 1, max_length)[:, None]
    w = 2 * math.pi * torch.linspace(0, max_length - 1, max_length)[:, None] / max_length
    turns = torch.exp(-1j * torch.linspace(1e-4, 1, 2) * w)
    return torch.cat([time, turns.real, turns.imag], dim=-1)


@pytest.mark.parametrize("max_length", [258, 1026, 32_770, 1_000_002])
def test_features_agree_with_the_published_buffers(max_length: int) -> None:
    features = positional_features(torch.arange(max_length, dtype=torch.float32), config_of(max_length))
    assert (features - published_features(max_length)).abs().max() < 2e-6


def test_every_one_of_a_million_positions_is_distinct() -> None:
    features = positional_features(torch.arange(1_000_002, dtype=torch.float32), config_of(1_000_002))
    assert len(torch.unique(features[:, 0])) == 1_000_002
    # bfloat16 would merge them: this is why the filter never runs in it.
    assert len(torch.unique(features[:, 0].bfloat16())) < 3_000


def test_octaves_are_exact_at_far_positions() -> None:
    config = config_of(1_000_002, filter_waves="octaves", filter_emb_dim=21)
    positions = torch.arange(999_000, 1_000_002)
    features = positional_features(positions.float(), config)
    exact = positional_features(positions.double(), config)
    assert (features[:, 1:] - exact[:, 1:]).abs().max() < 1e-6
    # The period of the fastest wave is 4 bp, that of the slowest the first power of two that covers the filter.
    four, whole = features[:, 10], exact[:, 1]
    torch.testing.assert_close(four, (positions % 4 * torch.pi / 2).cos(), rtol=0, atol=1e-6)
    torch.testing.assert_close(whole, (2 * torch.pi * positions.double() / 2**20).cos(), rtol=0, atol=1e-9)


def test_geometric_rates_have_the_same_ends() -> None:
    linear, geometric = config_of(1026), config_of(1026, modulation_rates="geometric")
    one, other = (decay_rates(c, dtype=torch.float64, device=torch.device("cpu")) for c in (linear, geometric))
    torch.testing.assert_close(one[[0, -1]], other[[0, -1]])
    ratios = other[1:] / other[:-1]
    torch.testing.assert_close(ratios, ratios[0].expand(len(ratios)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"order": 3},
        {"leading_conv": True, "order": 3},
        {"filter_emb_dim": 7},
        {"filter_emb_dim": 17, "filter_waves": "octaves"},
        {"modulation_rates": "geometric"},
    ],
)
@pytest.mark.parametrize("inner", [0, 2])
def test_equals_the_formula(changes: dict[str, object], inner: int) -> None:
    module = make_filter(0.2, torch.float64, filter_num_inner_mlps=inner, **changes)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    expected = torch.from_numpy(filters(module.config, weights, 20))
    torch.testing.assert_close(module(20).detach(), expected, rtol=1e-10, atol=1e-12)


def test_a_shorter_input_sees_the_beginning_of_the_same_filter() -> None:
    module = make_filter(0.2)
    torch.testing.assert_close(module(100), module(1026)[..., :100])
    # Positions are absolute: a model with another max_length has other filters.
    assert (module(100) - make_filter(0.2, max_length=1024)(100)).abs().max() > 1e-5


def test_longest_positions_are_right() -> None:
    module = make_filter(0.2, max_length=160_002, order=2)
    exact = make_filter(0.2, torch.float64, max_length=160_002, order=2)
    with torch.no_grad():
        kernel, wide = module(160_002), exact(160_002)
    # The sines of frequency 10 amplify float32 rounding about 300-fold; bfloat16 would be wrong by more than 10 %.
    assert (kernel - wide).norm() / wide.norm() < 1e-4
    assert (kernel - wide)[..., -1000:].norm() / wide[..., -1000:].norm() < 1e-4


def test_chunks_of_positions_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_filter(0.2)
    whole = module(1000).detach()
    monkeypatch.setitem(workspace.WORKSPACE_BYTES, "cpu", 100_000)
    with torch.no_grad():
        torch.testing.assert_close(module(1000), whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stays_in_float32_under_autocast(dtype: torch.dtype) -> None:
    module = make_filter(0.2)
    exact = module(1026).detach()
    with torch.autocast("cpu", dtype=dtype):
        kernel = module(1026).detach()
    assert kernel.dtype == torch.float32
    torch.testing.assert_close(kernel, exact, rtol=0, atol=0)
    # What it protects from: the same network under autocast is wrong by tens of percent.
    features = positional_features(torch.arange(1026.0), module.config)
    layers = module.implicit_filter
    sine = layers["1"]
    plain = layers["6"](sine(layers["4"](sine(layers["2"](sine(layers["0"](features)))))))
    with torch.autocast("cpu", dtype=dtype):
        naive = layers["6"](sine(layers["4"](sine(layers["2"](sine(layers["0"](features)))))))
    assert (naive - plain).norm() / plain.norm() > 1e-2


def test_weights_in_half_precision_are_computed_in_float32() -> None:
    module = make_filter(0.2).bfloat16()
    kernel = module(200)
    assert kernel.dtype == torch.float32
    torch.testing.assert_close(kernel, module.float()(200))


def test_holds_the_shared_sine_once_and_no_tables() -> None:
    assert list(make_filter().state_dict()) == [
        "bias",
        "implicit_filter.0.weight",
        "implicit_filter.0.bias",
        "implicit_filter.1.freq",
        "implicit_filter.2.weight",
        "implicit_filter.2.bias",
        "implicit_filter.4.weight",
        "implicit_filter.4.bias",
        "implicit_filter.6.weight",
    ]


def test_a_model_of_length_one_has_finite_filters() -> None:
    assert make_filter(max_length=1)(1).isfinite().all()
