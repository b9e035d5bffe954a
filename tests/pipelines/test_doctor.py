"""`hyena-dna doctor`: exit codes, the machine-readable form, models and devices that are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from hyena_dna.errors import InputError
from hyena_dna.model.checkpoint import save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from pipelines.doctor import command


def run(*arguments: str) -> tuple[int | None, str]:
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    if result.exception:
        raise result.exception
    code = result.return_value
    return code if isinstance(code, int) else None, result.stdout


def test_a_sound_installation() -> None:
    code, text = run("--device", "cpu")
    assert code == 0
    assert "Everything is as it should be." in text
    assert "FAIL" not in text


def test_json_and_a_model_of_ones_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_model(HyenaDNA(HyenaConfig(d_model=16, n_layer=1, max_length=200)), tmp_path / "model")
    code, text = run("--device", "cpu", "--json", "--model", str(tmp_path / "model"))
    report = json.loads(text)
    assert code == 0
    assert report["ok"] is True
    assert f"{tmp_path / 'model'} on cpu" in report["checks"]


def test_something_wrong_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyena_dna.ops.long_conv.transforms.fast_fft_size", lambda minimum, **_: (minimum + 1) // 2)
    code, text = run("--device", "cpu", "--json")
    assert code == 1
    assert "long convolution against its definition" in json.loads(text)["failed"]


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(InputError, match="--device cuda:63: this machine has"):
        run("--device", "cuda:63")


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run("--model", str(tmp_path / "nothing"))
