from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hyena_dna.ops.losses import next_token_loss


def problem(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(3, 50, 8, dtype=dtype, requires_grad=True)
    weight = torch.randn(16, 8, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, 12, (3, 50), dtype=torch.uint8)
    loss_weight = torch.rand(3, 50).round(decimals=1) * (torch.rand(3, 50) > 0.3)
    return hidden, weight, targets, loss_weight


def plain(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    logits = (hidden @ weight.T)[..., :12]
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten().long(), reduction="none")
    return (nats * share.flatten()).sum()


@pytest.mark.parametrize("chunk", [1, 7, 50, 150, 65_536])
def test_value_and_gradients_equal_plain_cross_entropy(chunk: int) -> None:
    hidden, weight, targets, share = problem(torch.float64)
    loss = next_token_loss(hidden, weight, targets, share, chunk=chunk)
    expected = plain(hidden, weight, targets, share)
    torch.testing.assert_close(loss.loss_sum, expected)
    torch.testing.assert_close(loss.weight_sum, share.double().sum())
    gradients = torch.autograd.grad(loss.loss_sum / loss.weight_sum, (hidden, weight))
    for ours, theirs in zip(
        gradients, torch.autograd.grad(expected / share.double().sum(), (hidden, weight)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_padded_rows_of_the_head_take_no_part() -> None:
    hidden, weight, targets, share = problem()
    loss = next_token_loss(hidden, weight, targets, share).loss_sum
    with torch.no_grad():
        weight[12:] = 100.0
    torch.testing.assert_close(next_token_loss(hidden, weight, targets, share).loss_sum, loss)
    assert plain(hidden, weight, targets, share).item() == pytest.approx(loss.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(next_token_loss(hidden, weight, targets, share).loss_sum, weight)
    assert (gradient[12:] == 0).all()
    # The naive loss over all 16 rows does change.
    naive = F.cross_entropy((hidden @ weight.T).flatten(0, 1), targets.flatten().long())
    assert naive > 2 * loss / share.sum()


def test_stays_in_float32_under_autocast() -> None:
    hidden, weight, targets, share = problem()
    expected = next_token_loss(hidden, weight, targets, share).loss_sum
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (hidden @ weight.T).dtype == torch.bfloat16
        torch.testing.assert_close(next_token_loss(hidden, weight, targets, share).loss_sum, expected)


def test_shapes_must_agree() -> None:
    hidden, weight, targets, share = problem()
    with pytest.raises(ValueError, match="do not agree"):
        next_token_loss(hidden, weight, targets[:, 1:], share)
