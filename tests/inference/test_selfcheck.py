"""The self-check passes on a sound installation and finds the faults that it looks for."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from hyena_dna.inference.likelihood import log_likelihood
from hyena_dna.inference.selfcheck import Check, check_files, check_memory, check_model, forward_bytes
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.presets import PRESETS

CPU = torch.device("cpu")


@pytest.fixture
def model() -> HyenaDNA:
    torch.manual_seed(0)
    return HyenaDNA(HyenaConfig(d_model=16, n_layer=2, max_length=600)).eval()


def failures(checks: Iterator[Check]) -> set[str]:
    return {check.name for check in checks if check.ok is False}


def test_a_sound_model_passes(model: HyenaDNA) -> None:
    checks = list(check_model(model, CPU))
    assert len(checks) == 5
    assert all(check.ok for check in checks)


@pytest.mark.gpu
def test_a_sound_model_passes_on_a_gpu(model: HyenaDNA) -> None:
    checks = list(check_model(model, torch.device("cuda")))
    assert len(checks) == 6
    assert all(check.ok for check in checks)


def test_a_wrapping_convolution_is_found(model: HyenaDNA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyena_dna.ops.long_conv.dispatch.FEW_VALUES", {})
    monkeypatch.setattr("hyena_dna.ops.long_conv.transforms.fast_fft_size", lambda minimum, **_: (minimum + 1) // 2)
    found = failures(check_model(model, CPU))
    assert "long convolution against its definition" in found
    assert "a change leaves what is before it unchanged" in found


def test_nan_weights_are_found(model: HyenaDNA) -> None:
    with torch.no_grad():
        model.backbone.ln_f.weight[0] = math.nan
    assert "finite outputs" in failures(check_model(model, CPU))


def test_a_model_that_draws_numbers_is_found(model: HyenaDNA) -> None:
    # Dropout left on: the same window scores differently each time.
    assert "equal windows score exactly zero" in failures(check_model(model.train(), CPU))


def test_log_likelihood_is_the_sum_of_its_tokens(model: HyenaDNA) -> None:
    ids = torch.randint(7, 11, (2, 50))
    with torch.inference_mode():
        total = log_likelihood(model, ids)
        table = model(ids).logits[..., :12].double().log_softmax(-1)
    expected = [sum(table[row, t, ids[row, t + 1]].item() for t in range(49)) for row in range(2)]
    assert total.dtype == torch.float64
    assert total.tolist() == pytest.approx(expected, rel=1e-6)


def test_an_unwritable_cache_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not failures(check_files())
    monkeypatch.setattr("hyena_dna.inference.selfcheck.os.access", lambda *_: False)
    assert failures(check_files()) == {"cache folder"}


def test_memory_of_every_preset_is_told() -> None:
    checks = list(check_memory(CPU))
    assert len(checks) == len(PRESETS)
    assert all(check.ok is None for check in checks)
    # Measured: a forward pass of the large model over its whole context peaks at 9.2 GiB on a CPU.
    assert 9.2 <= forward_bytes(PRESETS["large-1m"], 1_000_000) / 2**30 <= 12
