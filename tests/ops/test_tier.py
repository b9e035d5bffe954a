"""Which operators run, who decides, and what a user is told."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

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


def test_what_the_checks_find_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    from hyena_dna.ops import kernel_checks

    monkeypatch.delenv("HYENA_DNA_TIER", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    seen = []

    def wrong(device: torch.device) -> str:
        seen.append((str(device), torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return "mixers are computed wrong (relative error 1.0e-01)"

    monkeypatch.setattr(kernel_checks, "wrong_kernel", wrong)
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        assert not tier.is_fused(torch.device("cuda", 0))
    assert seen == [("cuda:0", True, False)]
    assert "not used: mixers are computed wrong" in caplog.text
    tier._decide.cache_clear()
    monkeypatch.setattr(kernel_checks, "wrong_kernel", lambda _: 1 / 0)
    assert not tier.is_fused(torch.device("cuda", 0))
    assert "they fail to run (ZeroDivisionError" in caplog.text
    tier._decide.cache_clear()
    monkeypatch.setitem(sys.modules, "hyena_dna.ops.kernel_checks", None)
    assert not tier.is_fused(torch.device("cuda", 0))
    assert "they fail to run (ModuleNotFoundError" in caplog.text
