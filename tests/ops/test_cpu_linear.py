"""Linear layers through both libraries of a CPU."""

from __future__ import annotations

import pytest
import torch
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


@pytest.mark.usefixtures("library")
def test_with_autograd_pytorch_multiplies(used: list[torch.Size]) -> None:
    x, weight, bias = (tensor.requires_grad_() for tensor in inputs(50))
    for found in (linear(x, weight, bias, gelu=True), linear_channels_first(x, weight, bias)):
        assert found.requires_grad
    assert not used


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
