from __future__ import annotations

import pytest
import torch

from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.config import OptimConfig
from hyena_dna.training.optim import build_optimizer, clip_coefficient, is_filter, set_lr_scale


@pytest.fixture
def model() -> HyenaDNA:
    return HyenaDNA(HyenaConfig(d_model=8, n_layer=2, max_length=34, filter_order=8))


def test_every_parameter_is_in_exactly_one_group(model: HyenaDNA) -> None:
    groups = build_optimizer(model, OptimConfig(duration="1 step")).param_groups
    names = [name for group in groups for name in group["names"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert [len(group["names"]) == len(group["params"]) for group in groups] == [True] * len(groups)


def test_only_projections_mlps_and_short_filters_are_decayed(model: HyenaDNA) -> None:
    config = OptimConfig(duration="1 step", weight_decay=0.1)
    decay = {
        name: group["weight_decay"] for group in build_optimizer(model, config).param_groups for name in group["names"]
    }
    suffixes = ("in_proj.weight", "out_proj.weight", "short_filter.weight", "fc1.weight", "fc2.weight")
    for name, value in decay.items():
        assert value == (0.1 if name.endswith(suffixes) else 0.0), name
    # The trap: matrices of the filter network are two-dimensional too.
    assert decay["backbone.layers.0.mixer.filter_fn.implicit_filter.2.weight"] == 0.0
    assert decay["backbone.embeddings.word_embeddings.weight"] == 0.0


def test_filters_have_a_learning_rate_of_their_own(model: HyenaDNA) -> None:
    optimizer = build_optimizer(model, OptimConfig(duration="1 step", lr=1e-3, filter_lr=1e-4))
    set_lr_scale(optimizer, 0.5)
    for group in optimizer.param_groups:
        wanted = 5e-5 if any(is_filter(name) for name in group["names"]) else 5e-4
        assert group["lr"] == pytest.approx(wanted)


@pytest.mark.parametrize("limit", [0.01, 1.0, 1e6])
def test_clipping_equals_that_of_torch(limit: float) -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(5, 3), torch.randn(7)]
    factor = torch.tensor(2.5)
    norm, coefficient = clip_coefficient(gradients, factor, limit)
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient * factor
    expected = torch.nn.utils.clip_grad_norm_(parameters, limit)
    torch.testing.assert_close(norm, expected)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(gradient * coefficient, parameter.grad)
