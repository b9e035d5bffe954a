from __future__ import annotations

import pytest
import torch

from hyena_dna.model.block import Block, add_norm
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.init import init_weights

CONFIG = HyenaConfig(d_model=8, n_layer=2, max_length=64, embed_dropout=0.5, resid_dropout=0.25)


def make_block(*, first: bool = True) -> Block:
    torch.manual_seed(0)
    block = Block(CONFIG, first=first)
    init_weights(block, CONFIG)
    return block


def test_order_of_operations() -> None:
    block = make_block().eval()
    hidden, residual = torch.randn(2, 10, 8), torch.randn(2, 10, 8)
    out, stream = block(hidden, residual)
    first = hidden + residual
    second = first + block.mixer(block.norm1(first))
    torch.testing.assert_close(stream, second)
    torch.testing.assert_close(out, block.mlp(block.norm2(second)))


@pytest.mark.parametrize(("first", "probability"), [(True, 0.5), (False, 0.25)])
def test_the_first_block_drops_embeddings_and_others_branches(first: bool, probability: float) -> None:
    block = make_block(first=first)
    assert block.dropout1.p == probability
    assert block.dropout2.p == 0.25


@pytest.mark.parametrize(
    ("in_fp32", "dtype", "expected"),
    [
        (True, torch.bfloat16, torch.float32),
        (False, torch.bfloat16, torch.bfloat16),
        (True, torch.float32, torch.float32),
        (True, torch.float64, torch.float64),
    ],
)
def test_precision_of_the_residual_stream(in_fp32: bool, dtype: torch.dtype, expected: torch.dtype) -> None:
    branch, norm = torch.randn(2, 3, 4, dtype=dtype), torch.nn.LayerNorm(4)
    assert add_norm(branch, None, norm, in_fp32)[1].dtype == expected
    assert add_norm(branch, branch, norm, in_fp32)[1].dtype == expected


def test_the_stream_keeps_what_bfloat16_would_swallow() -> None:
    residual, branch = torch.full((1, 1, 1), 256.0), torch.full((1, 1, 1), 0.5).bfloat16()
    assert add_norm(branch, residual, torch.nn.LayerNorm(1), True)[1].item() == 256.5
    assert (residual.bfloat16() + branch).item() == 256.0
