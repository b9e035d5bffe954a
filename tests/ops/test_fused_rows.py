"""Fused norms, MLP and loss against PyTorch in float64; interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.model import backbone
from hyena_dna.model.backbone import Embeddings
from hyena_dna.model.config import HyenaConfig
from hyena_dna.ops import fused_rows as module
from hyena_dna.ops.fused_rows import (
    add_bias,
    column_sums,
    fused_add_norm,
    fused_embedding,
    fused_head_loss,
    fused_mlp,
)
from hyena_dna.ops.losses import next_token_loss
from hyena_dna.ops.row_kernels import gelu_backward

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def leaves(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, device=DEVICE).to(dtype).requires_grad_() for shape in shapes]


def wide(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def close(found: list[torch.Tensor], expected: list[torch.Tensor], limit: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.double() - theirs).norm() <= limit * theirs.norm()


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


@pytest.mark.parametrize("width", [48, 128])
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("stream_counts", [False, True])
def test_add_norm(width: int, started: bool, stream_counts: bool) -> None:
    made = leaves((2, 37, width), (2, 37, width), (width,), (width,))
    exact = wide(made)
    grads = torch.randn(2, 2, 37, width, device=DEVICE)

    def run(values: list[torch.Tensor], single: bool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        branch, residual, weight, bias = values
        if single:
            normed, stream = fused_add_norm(branch, residual if started else None, weight, bias, 1e-5, torch.float32)
        else:
            stream = branch + residual if started else branch
            normed = F.layer_norm(stream, (width,), weight, bias, 1e-5)
        needed = values if started else [branch, weight, bias]
        outputs = [normed, stream] if stream_counts else [normed]
        sent = [grad.to(out.dtype) for grad, out in zip(grads, outputs, strict=False)]
        return [normed, stream], list(torch.autograd.grad(outputs, needed, sent))

    found, expected = run(made, True), run(exact, False)
    close(found[0], expected[0], 1e-6)
    close(found[1], expected[1], 1e-6)


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


@pytest.mark.parametrize(("rows", "width"), [(5, 24), (130, 96)])
@pytest.mark.parametrize("again", [False, True])
def test_gelu_backward(rows: int, width: int, again: bool) -> None:
    inner, grad = (value.detach() * 3 for value in leaves((rows, width), (rows, width)))
    exact = inner.double().requires_grad_()
    expected = F.gelu(exact, approximate="tanh")
    (d_inner,) = torch.autograd.grad(expected, exact, grad.double())
    partial = torch.empty((-(-rows // 64), width), device=DEVICE)
    gelu_backward[(len(partial), -(-width // 64))](inner, grad, partial, rows, width, ROWS=64, COLUMNS=64, AGAIN=again)
    close([grad, partial.sum(0)], [d_inner, d_inner.sum(0)], 1e-5)
    close([inner], [expected.detach() if again else exact.detach()], 1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="the fused linear layer with GELU is CUDA's")
@pytest.mark.parametrize("share", [1, 1 << 40])
def test_mlp(share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_SHARE", share)
    made = leaves((2, 700, 64), (256, 64), (256,), (64, 256), (64,), dtype=torch.bfloat16)
    exact = wide(made)
    grad = torch.randn(2, 700, 64, device=DEVICE)
    found = fused_mlp(made[0], made[1], made[2], made[3], made[4])
    middle = F.gelu(F.linear(exact[0], exact[1], exact[2]), approximate="tanh")
    expected = F.linear(middle, exact[3], exact[4])
    close([found], [expected], 6e-3)
    ours = torch.autograd.grad(found, made, grad.bfloat16())
    close(list(ours), list(torch.autograd.grad(expected, exact, grad.double())), 1e-2)


@pytest.mark.parametrize(("rows", "width"), [(1, 3), (700, 48), (5000, 256)])
def test_column_sums(rows: int, width: int) -> None:
    x = torch.randn(2, rows, width, device=DEVICE).to(torch.bfloat16)
    expected = x.double().sum((0, 1))
    assert (column_sums(x) - expected).norm() <= 1e-5 * expected.norm()
    turned = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(column_sums(turned), column_sums(x))


@pytest.mark.parametrize(("rows", "width"), [(1, 3), (700, 48), (50, 256)])
def test_add_bias(rows: int, width: int) -> None:
    x, bias = (value.detach() for value in leaves((2, rows, width), (width,)))
    expected = x + bias
    assert add_bias(x, bias) is x
    assert torch.equal(x, expected)
