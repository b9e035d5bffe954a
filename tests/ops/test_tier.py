"""Which operators run, who decides, and what a user is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from hyena_dna.errors import InputError
from hyena_dna.ops import tier


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    tier._decide.cache_clear()
    yield
    tier._decide.cache_clear()


def test_a_cpu_has_none() -> None:
    assert not tier.is_fused(torch.device("cpu"))
    assert tier.tier_name(torch.device("cpu")) == "torch"


@pytest.mark.parametrize(("wanted", "expected"), [("auto", True), ("triton", True), ("torch", False)])
def test_the_variable_decides(wanted: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tier, "_obstacle", lambda _: None)
    monkeypatch.setenv("HYENA_DNA_TIER", wanted)
    assert tier.is_fused(torch.device("cuda", 0)) == expected


def test_an_obstacle_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(tier, "_obstacle", lambda _: "they compute wrong (relative error 1.0e-01)")
    monkeypatch.delenv("HYENA_DNA_TIER", raising=False)
    with caplog.at_level(logging.WARNING):
        assert not tier.is_fused(torch.device("cuda", 0))
        assert not tier.is_fused(torch.device("cuda", 0))
    assert [record.message for record in caplog.records] == [
        "fused kernels are not used: they compute wrong (relative error 1.0e-01); PyTorch's own operators run in "
        "their place"
    ]


@pytest.mark.parametrize(("value", "reason"), [("fast", "auto, torch or triton"), ("triton", "too old")])
def test_what_cannot_be_is_refused(value: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tier, "_obstacle", lambda _: "too old")
    monkeypatch.setenv("HYENA_DNA_TIER", value)
    with pytest.raises(InputError, match=reason):
        tier.is_fused(torch.device("cuda", 0))


def test_the_self_check_finds_wrong_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    from hyena_dna.ops.long_conv import monarch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    right = monarch.monarch_long_conv
    assert tier._self_check(device) <= tier._TOLERANCE
    monkeypatch.setattr(monarch, "monarch_long_conv", lambda u, kernel: right(u, kernel) * 1.01)
    assert tier._self_check(device) > tier._TOLERANCE


def test_the_check_of_filters_finds_waves_that_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    from hyena_dna.ops import fused_filter

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    right = fused_filter.fused_filter
    assert tier._filter_check(device) <= tier._TOLERANCE
    monkeypatch.setattr(
        fused_filter, "fused_filter", lambda shape, bands, *rest: right(shape, bands * (1 + 1e-4), *rest)
    )
    assert tier._filter_check(device) > 3 * tier._TOLERANCE


def test_the_check_of_linear_layers_finds_products_of_unsplit_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    from hyena_dna.ops import fused_linear

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    right = fused_linear.split_linear
    assert tier._linear_check(device) <= tier._LINEAR_TOLERANCE

    def plain(*given: Any, **options: Any) -> Any:
        layer = right(*given, **options)
        return layer._replace(low=torch.zeros_like(layer.low))

    monkeypatch.setattr(fused_linear, "split_linear", plain)
    assert tier._linear_check(device) > 10 * tier._LINEAR_TOLERANCE
