"""Linear layers through both libraries of a CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional as F

from hyena_dna.ops import cpu_linear
from hyena_dna.ops.cpu_linear import linear, linear_channels_first


@pytest.fixture(params=["onednn", "mkl"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "onednn" and not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("PyTorch was built without oneDNN")
    monkeypatch.setattr(cpu_linear, "has_faster_onednn", lambda: name == "onednn")
    return name


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes that oneDNN is given."""
    shapes: list[torch.Size] = []
    onednn = cpu_linear._onednn

    def noting(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, gelu: bool = False) -> torch.Tensor:
        shapes.append(x.shape)
        return onednn(x, weight, bias, gelu=gelu)

    monkeypatch.setattr(cpu_linear, "_onednn", noting)
    return shapes


def inputs(rows: int, batch: int = 2) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(rows)
    return torch.randn(batch, rows, 24), torch.randn(40, 24), torch.randn(40)


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("rows", [0, 1, 16, 100])
@pytest.mark.parametrize("turned", [False, True])
def test_against_float64(batch: int, rows: int, turned: bool, library: str, used: list[torch.Size]) -> None:
    x, weight, bias = inputs(rows, batch)
    if turned:
        # As gated products come, and as tiles of positions are cut.
        x = torch.cat([x, x], 1).transpose(1, 2).contiguous().transpose(1, 2)[:, :rows]
    exact = F.linear(x.double(), weight.double(), bias.double())
    for found, expected in (
        (linear(x, weight, bias), exact),
        (linear(x, weight, bias, gelu=True), F.gelu(exact, approximate="tanh")),
        (linear_channels_first(x, weight, bias), exact.transpose(1, 2)),
        (linear_channels_first(x, weight), (exact - bias).transpose(1, 2)),
    ):
        assert found.shape == expected.shape
        assert (found - expected).norm() <= 1e-6 * expected.norm()
    assert len(used) == (4 if library == "onednn" and batch * rows >= 32 else 0)


def laid_out(x: torch.Tensor, columns: bool) -> torch.Tensor:
    """The same (batch, rows, width), as rows or with every channel adjacent along batch and rows."""
    return x.permute(2, 0, 1).contiguous().permute(1, 2, 0) if columns else x


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("columns_of_grad", [False, True])
@pytest.mark.parametrize("outputs", [12, 24, 96])
@pytest.mark.parametrize("form", ["rows", "gelu", "channels first", "channels first without bias"])
def test_gradients_against_float64(
    form: str, outputs: int, columns: bool, columns_of_grad: bool, library: str, used: list[torch.Size]
) -> None:
    torch.manual_seed(outputs)
    x = laid_out(torch.randn(2, 50, 24), columns).requires_grad_()
    weight, bias = torch.randn(outputs, 24, requires_grad=True), torch.randn(outputs, requires_grad=True)
    grad = laid_out(torch.randn(2, 50, outputs), columns_of_grad)
    inputs = [x, weight] if form.endswith("without bias") else [x, weight, bias]
    exact = [value.detach().double().requires_grad_() for value in inputs]
    y = F.linear(*exact)
    if form.startswith("channels"):
        found, expected = linear_channels_first(*inputs), y.transpose(1, 2)
        grad = grad.transpose(1, 2)
    else:
        found = linear(x, weight, bias, gelu=form == "gelu")
        expected = F.gelu(y, approximate="tanh") if form == "gelu" else y
    gradients = torch.autograd.grad(found, inputs, grad)
    for one, other in zip(gradients, torch.autograd.grad(expected, exact, grad.double()), strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() <= 1e-6 * other.norm()
    assert bool(used) == (library == "onednn")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("first", [True, False])
def test_gradients_of_gradients(first: bool) -> None:
    made = [value.requires_grad_() for value in inputs(50)]
    exact = [value.detach().double().requires_grad_() for value in made]

    def twice(values: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        single = values[0].dtype == torch.float32
        x, weight, bias = values
        if first:
            y = linear_channels_first(x, weight, bias) if single else F.linear(x, weight, bias).transpose(1, 2)
        else:
            y = linear(x, weight, bias) if single else F.linear(x, weight, bias)
        gradients = torch.autograd.grad(y.pow(3).sum(), values, create_graph=True)
        return torch.autograd.grad(torch.stack([value.pow(2).sum() for value in gradients]).sum(), values)

    for found, expected in zip(twice(made), twice(exact), strict=True):
        assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_frozen_layers_cost_no_products(used: list[torch.Size], monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("PyTorch was built without oneDNN")
    monkeypatch.setattr(cpu_linear, "has_faster_onednn", lambda: True)
    x, weight, bias = inputs(50)
    for layer in (linear, linear_channels_first):
        used.clear()
        torch.autograd.grad(layer(x.requires_grad_(), weight, bias).sum(), x)
        # One there and one back.
        assert len(used) == 2
        used.clear()
        assert not layer(x.detach(), weight, bias).requires_grad


@pytest.mark.parametrize("layer", [linear, linear_channels_first])
def test_what_is_kept_is_what_gradients_need(layer: Callable[..., torch.Tensor], library: str) -> None:
    x, weight, bias = inputs(50)
    for trained in (x, weight, bias):
        kept: list[int] = []

        def pack(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept.append(tensor.data_ptr())
            return tensor

        trained.requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(x, weight, bias)
        trained.requires_grad_(False)
        assert (x.data_ptr() in kept) == (trained is weight), library
        assert trained is not bias or weight.data_ptr() not in kept


@pytest.mark.usefixtures("library")
def test_transforms_of_functions() -> None:
    x, weight, bias = inputs(50)

    def loss(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return linear(x, weight, bias).square().sum() + linear_channels_first(x, weight).sum()

    (expected,) = torch.autograd.grad(loss(weight.requires_grad_(), x), weight)
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight.detach(), x[:, None])
    torch.testing.assert_close(torch.func.grad(loss)(weight.detach(), x), expected)
    torch.testing.assert_close(each.sum(0), expected, rtol=1e-4, atol=1e-4)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(weight.detach(), expected)  # type: ignore[no-untyped-call]
        change = forward_ad.unpack_dual(loss(dual, x)).tangent  # type: ignore[no-untyped-call]
    torch.testing.assert_close(change, expected.square().sum(), rtol=1e-4, atol=0)


@pytest.mark.usefixtures("library")
@torch.no_grad()
def test_what_stays_with_pytorch(used: list[torch.Size], monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = inputs(50)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "enabled", False)
        linear(x, weight, bias)
    assert linear(x.double(), weight.double(), bias.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight, bias).dtype == torch.bfloat16
    assert not used


@pytest.mark.usefixtures("library")
@torch.no_grad()
def test_a_row_does_not_depend_on_others() -> None:
    x, weight, bias = inputs(64)
    changed = x.clone()
    changed[:, 32:] = torch.randn_like(changed[:, 32:])
    assert torch.equal(linear(x, weight, bias)[:, :32], linear(changed, weight, bias)[:, :32])
    assert torch.equal(
        linear_channels_first(x, weight, bias)[..., :32], linear_channels_first(changed, weight, bias)[..., :32]
    )


def test_which_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    for capability, maker, expected in (
        ("AVX512", "AuthenticAMD", True),
        ("AVX512_VNNI", "AuthenticAMD", True),
        ("AVX2", "AuthenticAMD", False),
        ("AVX512", "GenuineIntel", False),
    ):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        monkeypatch.setattr(cpu_linear, "_processor", lambda maker=maker: f"vendor_id : {maker}")
        assert cpu_linear.has_faster_onednn.__wrapped__() == expected
    assert cpu_linear._processor()
