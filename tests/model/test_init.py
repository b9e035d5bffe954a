from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.init import init_weights
from hyena_dna.model.model import HyenaDNA

CONFIG = HyenaConfig(d_model=128, n_layer=8, max_length=1026)


def test_every_parameter_has_its_published_distribution() -> None:
    torch.manual_seed(0)
    for name, parameter in HyenaDNA(CONFIG).named_parameters():
        values = parameter.detach()
        if name.endswith("freq"):
            assert (values == 10).all(), name
        elif "norm" in name or "ln_f" in name:
            assert (values == (1 if name.endswith("weight") else 0)).all(), name
        elif "short_filter" in name:
            bound = 1 / math.sqrt(3)
            assert values.abs().max() <= bound, name
            assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1), name
        elif name.endswith("filter_fn.bias"):
            assert values.std().item() == pytest.approx(1, rel=0.25), name
        elif name.endswith("bias"):
            assert (values == 0).all(), name
        else:
            scaled = name.endswith(("mixer.out_proj.weight", "mlp.fc2.weight"))
            std = 0.02 / math.sqrt(16) if scaled else 0.02
            assert values.std().item() == pytest.approx(std, rel=0.15), name


def test_the_seed_decides() -> None:
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(HyenaDNA(HyenaConfig(d_model=8, n_layer=1, max_length=64)))
    same, again, other = (torch.cat([p.flatten() for p in model.parameters()]) for model in models)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_an_unknown_module_with_parameters_is_refused() -> None:
    with pytest.raises(TypeError, match="no initial value"):
        init_weights(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), CONFIG)
