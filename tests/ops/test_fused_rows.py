"""Fused norms and MLP against PyTorch in float64; interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.model import mlp as mlp_module
from hyena_dna.model.config import HyenaConfig
from hyena_dna.ops import fused_rows as module
from hyena_dna.ops.fused_rows import (
    add_bias,
    column_sums,
    fused_add_norm,
    fused_add_unit,
    fused_mlp,
)
from hyena_dna.ops.row_kernels import gelu_backward
from tests.leaves import DEVICE, close, leaves, wide


@pytest.fixture(params=["a block a program", "several blocks a program"])
def programs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many programs as a GPU gets, and so few that each of them sums over several blocks."""
    if request.param.startswith("several"):
        monkeypatch.setattr(module, "_PROGRAMS", 2)
        monkeypatch.setattr(module, "_ELEMENTS", 1024)


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("width", [48, 128])
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("stream_counts", [False, True])
@pytest.mark.parametrize("form", ["gain and offset", "unit", "unit with biases"])
# What the interpreter rounds to bfloat16 it cuts off, which is twice as far.
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.bfloat16, 8e-3)])
def test_add_norm(width: int, started: bool, stream_counts: bool, form: str, dtype: torch.dtype, limit: float) -> None:
    made = leaves((2, 37, width), (2, 37, width), (width,), (width,))
    exact = wide(made)
    grads = torch.randn(2, 2, 37, width, device=DEVICE)

    def run(values: list[torch.Tensor], single: bool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        branch, residual, *pair = values
        needed, (first, second) = [branch] + started * [residual], pair
        biased = form == "unit with biases"
        if form == "gain and offset":
            needed += pair
        elif biased:
            # The second is no part of the norm.
            needed += pair if stream_counts else [first]
        if not single:
            stream = branch + started * residual + biased * first
            gain, offset = pair if form == "gain and offset" else (None, None)
            normed, stream = F.layer_norm(stream, (width,), gain, offset, 1e-5), stream + biased * second
        elif form == "gain and offset":
            normed, stream = fused_add_norm(branch, residual if started else None, first, second, 1e-5, dtype)
        else:
            biases = (first, second) if biased else None
            normed, stream = fused_add_unit(branch, residual if started else None, 1e-5, dtype, biases)
        outputs = [normed, stream] if stream_counts else [normed]
        sent = [grad.to(out.dtype) for grad, out in zip(grads, outputs, strict=False)]
        return [normed, stream], list(torch.autograd.grad(outputs, needed, sent))

    found, expected = run(made, True), run(exact, False)
    close(found[0], expected[0], limit)
    close(found[1], expected[1], limit)
    # The stream has all its bits whatever the norm is rounded to.
    close(found[0][1:], expected[0][1:], 1e-6)


def test_add_norm_without_autograd() -> None:
    branch, residual, first, second = leaves((2, 37, 48), (2, 37, 48), (48,), (48,))

    def run() -> list[torch.Tensor]:
        norm = fused_add_norm(branch, residual, first, second, 1e-5, torch.bfloat16)
        return [*norm, *fused_add_unit(branch, residual, 1e-5, torch.bfloat16, (first, second))]

    expected = run()
    with torch.no_grad():
        found = run()
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert not any(value.requires_grad for value in found)


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


@pytest.mark.parametrize("share", [1, 1 << 40])
@pytest.mark.parametrize("rows", [None, 500])
@pytest.mark.parametrize("has_bias", [True, False])
def test_mlp(share: int, rows: int | None, has_bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = DEVICE.type == "cuda"
    if not on_gpu:
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=1 << 34))
    monkeypatch.setattr(module, "_KEPT_SHARE", share)
    if rows:
        monkeypatch.setattr(module, "_MLP_VALUES", 256 * rows)
    # A CPU's layer with GELU has not the tanh form, which is 2e-4 away.
    dtype, limit, limit_back = (torch.bfloat16, 6e-3, 1e-2) if on_gpu else (torch.float32, 1e-3, 1e-3)
    made = leaves((2, 700, 64), (256, 64), (256,), (64, 256), (64,), dtype=dtype)[: 5 if has_bias else 4]
    exact = wide(made)
    grad = torch.randn(2, 700, 64, device=DEVICE)
    x, weight1, bias1, weight2, *bias2 = made
    bias = bias2[0] if has_bias else None
    found = fused_mlp(x, weight1, bias1, weight2, bias)
    middle = F.gelu(F.linear(exact[0], exact[1], exact[2]), approximate="tanh")
    expected = F.linear(middle, exact[3], exact[4] if has_bias else None)
    close([found], [expected], limit)
    ours = torch.autograd.grad(found, made, grad.to(dtype))
    close(list(ours), list(torch.autograd.grad(expected, exact, grad.double())), limit_back)
    with torch.no_grad():
        assert torch.equal(fused_mlp(x, weight1, bias1, weight2, bias), found)


def test_hooks_inside_an_mlp_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlp_module, "is_fused", lambda _: True)
    mlp = mlp_module.Mlp(HyenaConfig(d_model=16, n_layer=1, max_length=64))
    calls: list[int] = []
    mlp.fc1.register_forward_hook(lambda *_: calls.append(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mlp(torch.randn(1, 10, 16))
        assert calls == [1]
        # So is what somebody has put in the place of a layer's own.
        mlp = mlp_module.Mlp(HyenaConfig(d_model=16, n_layer=1, max_length=64))
        mlp.fc2.forward = lambda x: calls.append(2) or x  # type: ignore[assignment, func-returns-value]
        mlp(torch.randn(1, 10, 16))
    assert calls == [1, 2]


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(("rows", "width"), [(1, 3), (700, 48), (1000, 256)])
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
