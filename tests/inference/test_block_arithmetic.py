"""Products of float16 halves are as accurate as float32, at the scales that models have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hyena_dna.errors import InputError
from hyena_dna.inference.block_arithmetic import PlainProducts, SplitLinear, SplitProducts, block_products
from hyena_dna.model.block import Block
from hyena_dna.model.model import HyenaDNA

BOUND = 1e-6


def relative(value: torch.Tensor, exact: torch.Tensor) -> float:
    return float((value.cpu().double() - exact).norm() / exact.norm())


def check(device: str, size: float, weight_size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 50, 256, generator=generator) * size
    weight = torch.randn(96, 256, generator=generator) * weight_size
    exact = x.double() @ weight.double().T
    linear = SplitLinear(weight.to(device))
    assert relative(linear(x.flatten(0, 1).to(device)), exact.flatten(0, 1)) < BOUND
    assert relative(linear.channels_first(x.to(device)), exact.transpose(1, 2)) < BOUND
    # What a single float16 product gives, so that the bound is known to tell the two apart.
    assert relative(x.half().float() @ weight.half().float().T, exact) > 100 * BOUND


@pytest.mark.parametrize("size", [0.2, 1.0, 100.0])
@pytest.mark.parametrize("weight_size", [0.02, 0.3])
def test_split_products(size: float, weight_size: float) -> None:
    check("cpu", size, weight_size)


@pytest.mark.gpu
@pytest.mark.parametrize("size", [0.2, 1.0, 100.0])
def test_split_products_on_a_gpu(size: float) -> None:
    check("cuda", size, 0.02)


def test_a_block_gives_the_same(make_model: Callable[..., HyenaDNA]) -> None:
    block = make_model(d_model=64).backbone.layers[0]
    assert isinstance(block, Block)
    plain, split = block_products(block, "plain"), block_products(block, "split")
    assert isinstance(plain, PlainProducts)
    assert isinstance(split, SplitProducts)
    x = torch.randn(2, 30, 64)
    with torch.inference_mode():
        assert relative(split.project(x), plain.project(x).double()) < BOUND
        assert relative(split.mlp(x), plain.mlp(x).double()) < BOUND


def test_refusals(make_model: Callable[..., HyenaDNA]) -> None:
    block = make_model().double().backbone.layers[0]
    assert isinstance(block, Block)
    with pytest.raises(InputError, match="float32 models"):
        block_products(block, "split")
    with pytest.raises(InputError, match="plain or split"):
        block_products(block, "fast")  # type: ignore[arg-type]
