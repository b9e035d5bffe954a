"""A block through fused kernels against the block in float64; interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.model import block as block_module
from hyena_dna.model.block import Block
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.operator import HyenaOperator
from hyena_dna.ops import fused_rows
from tests.leaves import DEVICE, close


def make_block(dropout: float = 0.0, *, residual_in_fp32: bool = True) -> Block:
    torch.manual_seed(0)
    config = HyenaConfig(
        d_model=16, n_layer=1, max_length=64, filter_order=16, resid_dropout=dropout, residual_in_fp32=residual_in_fp32
    )
    block = Block(config, first=False)
    for name, parameter in block.named_parameters():
        # Gains and offsets too, for what takes them over would not show otherwise.
        nn.init.normal_(parameter, std=0.3 if parameter.dim() > 1 or "norm" in name else 0.1)
        if name.endswith("freq"):
            nn.init.ones_(parameter)
    return block.to(DEVICE)


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast's dtype, so that nothing is rounded; and an MLP that runs on a CPU."""
    dtype_on = torch.get_autocast_dtype
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda d: torch.float32 if d == "cuda" else dtype_on(d))

    def mlp(x: torch.Tensor, *weights: torch.Tensor | None) -> torch.Tensor:
        weight1, bias1, weight2, bias2 = weights
        assert weight1 is not None
        assert weight2 is not None
        return F.linear(F.gelu(F.linear(x, weight1, bias1), approximate="tanh"), weight2, bias2)

    if DEVICE.type == "cpu":
        monkeypatch.setattr(fused_rows, "fused_mlp", mlp)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("started", [False, True])
def test_outputs_and_all_gradients(started: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Block, "_is_fused", lambda block, *_: next(block.parameters()).dtype == torch.float32)
    made = make_block()
    exact = Block(made.mixer.config, first=False).to(DEVICE).double()  # type: ignore[arg-type]
    exact.load_state_dict(made.state_dict())
    hidden, residual, grad = torch.randn(3, 2, 40, 16, device=DEVICE)
    padding = torch.arange(40, device=DEVICE) >= torch.tensor([[40], [25]], device=DEVICE)
    grad = grad.masked_fill(padding[..., None], 0)
    found = [hidden.clone().requires_grad_(), residual.clone().requires_grad_()]
    wide = [hidden.double().requires_grad_(), residual.double().requires_grad_()]
    out, stream = made(found[0], found[1] if started else None, padding)
    expected_out, expected_stream = exact(wide[0], wide[1] if started else None, padding)
    # The stream has the bias of the branch that is yet to be added.
    bias, inside = exact.mlp.fc2.bias.detach(), ~padding
    close([(out.double() + bias)[inside]], [expected_out[inside]], 3e-3)
    close([stream[inside]], [(expected_stream + bias)[inside]], 3e-3)
    leaves = [*made.parameters(), *found[: 1 + started]]
    exact_leaves = [*exact.parameters(), *wide[: 1 + started]]
    gradients = torch.autograd.grad(((out + stream) * grad).sum(), leaves)
    expected = torch.autograd.grad(((expected_out + expected_stream) * grad).sum(), exact_leaves)
    close(list(gradients), list(expected), 3e-3 if DEVICE.type == "cpu" else 1e-2)


def test_where_it_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HyenaOperator, "is_fused", lambda *_: True)
    monkeypatch.setattr(block_module, "is_fused", lambda _: True)
    hidden = torch.randn(1, 5, 16, device=DEVICE)
    assert not make_block(dropout=0.1)._is_fused(hidden, None)
    assert not make_block(residual_in_fp32=False)._is_fused(hidden, None)
    block = make_block()
    assert block._is_fused(hidden, None)
    with torch.no_grad():
        assert not block._is_fused(hidden, None)
    assert not block._is_fused(hidden.double(), None)
    for handle in (
        block.norm2.register_forward_hook(lambda *_: None),
        block.mlp.fc1.register_forward_pre_hook(lambda *_: None),
        block.mixer.register_full_backward_hook(lambda *_: None),
        block.dropout2.register_full_backward_pre_hook(lambda *_: None),
    ):
        assert not block._is_fused(hidden, None)
        handle.remove()
    assert block._is_fused(hidden, None)

    class Other(type(block.mlp)):  # type: ignore[misc]
        pass

    block.mlp = Other(block.mixer.config)
    assert not block._is_fused(hidden, None)
