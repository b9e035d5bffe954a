"""Fused embedding and loss against PyTorch in float64; interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.model import backbone
from hyena_dna.model.backbone import Embeddings
from hyena_dna.model.config import HyenaConfig
from hyena_dna.ops import fused_tokens as module
from hyena_dna.ops.fused_tokens import fused_embedding, fused_head_loss
from hyena_dna.ops.losses import next_token_loss
from tests.leaves import DEVICE, close, leaves, wide


@pytest.fixture(params=["a block a program", "several blocks a program"])
def programs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many programs as a GPU gets, and so few that each of them sums over several blocks."""
    if request.param.startswith("several"):
        monkeypatch.setattr(module, "_PROGRAMS", 2)


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(("rows", "width", "tokens"), [(1, 3, 16), (37, 24, 12), (700, 128, 16)])
@pytest.mark.parametrize("factor", [1.0, 1e-12])
def test_embedding(rows: int, width: int, tokens: int, factor: float) -> None:
    weight, grad = leaves((tokens, width), (2, rows, width))
    # Not every token is there.
    ids = torch.randint(4, tokens, (2, rows), device=DEVICE, dtype=torch.int32)
    grad = grad.detach() * factor
    exact = wide([weight])
    expected = F.embedding(ids, exact[0])
    found = fused_embedding(ids, weight)
    assert torch.equal(found, F.embedding(ids, weight))
    (ours,) = torch.autograd.grad(found, [weight], grad)
    close([ours], list(torch.autograd.grad(expected, exact, grad.double())), 1e-6)
    assert not ours[:4].any()


def test_only_a_table_that_is_trained_and_watched_by_none_is_summed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Embeddings(HyenaConfig(d_model=8, n_layer=1, max_length=20)).to(DEVICE)
    table = made.word_embeddings
    ids = torch.randint(0, 12, (2, 9), device=DEVICE, dtype=torch.uint8)
    calls = []

    def counted(*arguments: torch.Tensor) -> torch.Tensor:
        calls.append(arguments)
        return fused_embedding(*arguments)

    monkeypatch.setattr(backbone, "is_fused", lambda _: True)
    monkeypatch.setattr(module, "fused_embedding", counted)
    made(ids).square().sum().backward()
    assert len(calls) == 1
    assert table.weight.grad is not None
    expected = table.weight.detach().double() * 2 * torch.bincount(ids.flatten().int(), minlength=16)[:, None]
    close([table.weight.grad], [expected], 1e-6)
    with torch.no_grad():
        made(ids)
    handle = table.register_forward_hook(lambda *_: None)
    made(ids)
    handle.remove()
    made.requires_grad_(False)(ids)
    assert len(calls) == 1


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(("rows", "width"), [(37, 24), (300, 128)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_head_loss(rows: int, width: int, dtype: torch.dtype) -> None:
    hidden, weight = leaves((2, rows, width), (16, width))
    hidden = hidden.detach().to(dtype).requires_grad_()
    targets = torch.randint(0, 12, (2, rows), device=DEVICE, dtype=torch.uint8)
    share = torch.rand(2, rows, device=DEVICE)
    exact = wide([hidden, weight])
    found = fused_head_loss(hidden, weight, targets, share, 12)
    expected = next_token_loss(exact[0], exact[1], targets, share).loss_sum
    close([found], [expected], 1e-6)
    # The size of a mean over many tokens, less than float16 holds.
    factor = 1e-3 if dtype == torch.float16 else 1e-8
    ours = torch.autograd.grad(found * factor, [hidden, weight])
    theirs = torch.autograd.grad(expected * factor, exact)
    # Storing in bfloat16 rounds by 1.7e-3, and by twice that in the interpreter, which cuts bits off.
    close([ours[0]], [theirs[0]], 1e-5 if dtype == torch.float32 else 5e-3)
    close([ours[1]], [theirs[1]], 2e-5)
    assert not ours[1][12:].any()
