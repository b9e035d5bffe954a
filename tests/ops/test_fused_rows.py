"""Fused norms, MLP and loss against PyTorch in float64; interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.ops.fused_rows import column_sums, fused_add_norm, fused_head_loss, fused_mlp
from hyena_dna.ops.losses import next_token_loss
from hyena_dna.ops.row_kernels import mlp_middle

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def leaves(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, device=DEVICE).to(dtype).requires_grad_() for shape in shapes]


def as_float64(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def close(found: list[torch.Tensor], expected: list[torch.Tensor], limit: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.double() - theirs).norm() <= limit * theirs.norm()


@pytest.mark.parametrize("width", [48, 128])
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("stream_counts", [False, True])
def test_add_norm(width: int, started: bool, stream_counts: bool) -> None:
    made = leaves((2, 37, width), (2, 37, width), (width,), (width,))
    exact = as_float64(made)
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
def test_head_loss(rows: int, width: int) -> None:
    hidden, weight = leaves((2, rows, width), (16, width))
    targets = torch.randint(0, 12, (2, rows), device=DEVICE, dtype=torch.uint8)
    share = torch.rand(2, rows, device=DEVICE)
    exact = as_float64([hidden, weight])
    found = fused_head_loss(hidden, weight, targets, share, 12)
    expected = next_token_loss(exact[0], exact[1], targets, share).loss_sum
    close([found], [expected], 1e-6)
    ours = torch.autograd.grad(found * 1e-3, [hidden, weight])
    close(list(ours), list(torch.autograd.grad(expected * 1e-3, exact)), 1e-5)
    assert not ours[1][12:].any()


@pytest.mark.parametrize(("rows", "width", "wide"), [(5, 24, 40), (130, 96, 160)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_mlp_middle(rows: int, width: int, wide: int, dtype: torch.dtype) -> None:
    made = leaves((rows, wide), (rows, width), (width, wide), dtype=dtype)
    exact = as_float64(made)
    expected = F.gelu(exact[0], approximate="tanh")
    (expected_d,) = torch.autograd.grad(F.linear(expected, exact[2]), exact[0], exact[1])
    inner, grad, weight2 = (value.detach() for value in made)
    d_inner = torch.full((rows, wide), torch.nan, device=DEVICE, dtype=dtype)
    partial = torch.full((-(-rows // 64), wide), torch.nan, device=DEVICE)
    mlp_middle[(len(partial) * -(-wide // 64),)](
        grad, weight2, inner, d_inner, partial, rows, width, wide, ROWS=64, COLUMNS=64, DEPTH=32
    )
    limit = 1e-5 if DEVICE.type == "cpu" and dtype == torch.float32 else 2e-3
    close([inner, d_inner, partial.sum(0)], [expected.detach(), expected_d, expected_d.sum(0)], limit)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="the fused linear layer with GELU is CUDA's")
def test_mlp() -> None:
    made = leaves((2, 700, 64), (256, 64), (256,), (64, 256), (64,), dtype=torch.bfloat16)
    exact = as_float64(made)
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
