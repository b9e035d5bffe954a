"""Kernels that are wrong are found before they are used; interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.ops import fused_filter, fused_linear, projected_groups
from hyena_dna.ops import kernel_checks as checks
from hyena_dna.ops.long_conv import monarch
from hyena_dna.ops.scaled_kernel import ScaledKernel
from tests.leaves import DEVICE


def test_convolutions_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    right = monarch.monarch_long_conv
    assert checks.convolution_error(DEVICE) <= checks.TOLERANCE
    monkeypatch.setattr(monarch, "monarch_long_conv", lambda u, kernel: right(u, kernel) * 1.01)
    assert checks.convolution_error(DEVICE) > checks.TOLERANCE


def test_filters_whose_waves_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    right = fused_filter.fused_filter
    assert checks.filter_error(DEVICE) <= checks.TOLERANCE

    def off(network: fused_filter.FilterNetwork) -> ScaledKernel:
        return right(network._replace(bands=network.bands * (1 + 1e-4)))

    monkeypatch.setattr(fused_filter, "fused_filter", off)
    assert checks.filter_error(DEVICE) > 3 * checks.TOLERANCE


def test_linear_layers_of_unsplit_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    right = fused_linear.split_linear
    assert checks.linear_error(DEVICE) <= checks.LINEAR_TOLERANCE

    def plain(*given: Any, **options: Any) -> Any:
        layer = right(*given, **options)
        return layer._replace(low=torch.zeros_like(layer.low))

    monkeypatch.setattr(fused_linear, "split_linear", plain)
    assert checks.linear_error(DEVICE) > 10 * checks.LINEAR_TOLERANCE


def test_mixers_with_one_gradient_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right = projected_groups.Groups.gate_gradients
    assert checks.mixer_error(DEVICE) <= checks.MIXER_TOLERANCE

    def shifted(*given: Any, **options: Any) -> Any:
        found = right(*given, **options)
        return found and found._replace(values=found.values.roll(4, -1))

    monkeypatch.setattr(projected_groups.Groups, "gate_gradients", shifted)
    assert checks.mixer_error(DEVICE) > 10 * checks.MIXER_TOLERANCE


def test_the_first_wrong_kind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    for name in ("convolution_error", "filter_error", "linear_error"):
        monkeypatch.setattr(checks, name, lambda _: 0.0)
    monkeypatch.setattr(checks, "mixer_error", lambda _: 0.0)
    assert checks.wrong_kernel(DEVICE) is None
    monkeypatch.setattr(checks, "mixer_error", lambda _: float("nan"))
    assert checks.wrong_kernel(DEVICE) == "mixers are computed wrong (relative error nan)"
