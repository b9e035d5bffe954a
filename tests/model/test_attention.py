from __future__ import annotations

import torch

from hyena_dna.model.attention import Attention, rotate
from hyena_dna.model.config import HyenaConfig


def make_attention() -> Attention:
    torch.manual_seed(0)
    config = HyenaConfig(d_model=16, n_layer=1, max_length=40, mixer="attention", num_heads=2)
    return Attention(config).double()


def test_equals_softmax_of_scores_over_the_past() -> None:
    module = make_attention()
    u = torch.randn(2, 9, 16, dtype=torch.float64)
    query, key, value = module.in_proj(u).chunk(3, dim=-1)
    outputs = []
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        scores = rotate(query[..., part]) @ rotate(key[..., part]).mT / 8**0.5
        future = torch.ones(9, 9).triu(1).bool()
        outputs.append(scores.masked_fill(future, -torch.inf).softmax(-1) @ value[..., part])
    torch.testing.assert_close(module(u), module.out_proj(torch.cat(outputs, dim=-1)))


def test_the_future_never_leaks() -> None:
    module = make_attention()
    u = torch.randn(1, 33, 16, dtype=torch.float64)
    changed = u.clone()
    changed[:, 17:] += 3
    torch.testing.assert_close(module(changed)[:, :17], module(u)[:, :17], rtol=0, atol=1e-12)
    assert (module(changed)[:, 17:] - module(u)[:, 17:]).abs().max() > 1e-3


def test_rotation_keeps_lengths_and_sees_relative_positions_only() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    rotated_query, rotated_key = rotate(query.expand(20, 8)), rotate(key.expand(20, 8))
    torch.testing.assert_close(rotated_query.norm(dim=-1), query.norm().expand(20))
    scores = rotated_query @ rotated_key.T
    for offset in range(-5, 6):
        diagonal = scores.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert scores[0].std() > 1e-2


def test_padding_that_is_not_a_number_does_not_spread() -> None:
    module = make_attention()
    u = torch.randn(2, 12, 16, dtype=torch.float64)
    alone = module(u[1:, :5])
    u[1, 5:] = torch.nan
    padding = torch.arange(12) >= torch.tensor([[12], [5]])
    torch.testing.assert_close(module(u, padding)[1, :5], alone[0])
