from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hyena_dna.errors import InputError
from hyena_dna.model import half
from hyena_dna.model.checkpoint import load_model, read_model, save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.convert import convert
from hyena_dna.model.half import check_half, half_parameters
from hyena_dna.model.model import HyenaDNA


@pytest.fixture
def model() -> HyenaDNA:
    """A model whose weights are as large as after training, so that rounding them shows."""
    torch.manual_seed(0)
    made = HyenaDNA(HyenaConfig(d_model=64, n_layer=2, max_length=130)).eval()
    with torch.no_grad():
        for name, value in made.named_parameters():
            if value.dim() > 1 and "filter_fn" not in name:
                value.mul_(5)
    return made


def _log_likelihood(model: HyenaDNA) -> torch.Tensor:
    ids = torch.randint(7, 11, (2, 130), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits: torch.Tensor = model(ids).logits
    return logits[..., :12].log_softmax(-1).gather(-1, ids.roll(-1, 1)[..., None])[..., 0]


def test_a_stored_model_differs_by_no_more_than_is_promised(model: HyenaDNA, tmp_path: Path) -> None:
    save_model(model, tmp_path / "full")
    result = convert(read_model(tmp_path / "full"), "full", tmp_path / "half", half=True)
    assert result.half is not None
    assert 0 < result.half.base <= half.MAX_BASE_ERROR
    assert result.bytes_after < 0.7 * result.bytes_before
    change = (_log_likelihood(load_model(tmp_path / "half")) - _log_likelihood(model)).abs().max()
    assert 0 < change <= half.MAX_BASE_ERROR


def test_filter_networks_stay_in_float32(model: HyenaDNA) -> None:
    found = half_parameters(dict(model.named_parameters()))
    assert {name for name, value in found.items() if value.dtype == torch.float32} == {
        name for name in found if "filter_fn" in name
    }


def test_a_model_that_would_change_is_refused(model: HyenaDNA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "MAX_BASE_ERROR", 1e-7)
    with pytest.raises(InputError, match="at half precision log-likelihoods change"):
        check_half(model)
    save_model(model, tmp_path / "full")
    with pytest.raises(InputError, match="at half precision"):
        convert(read_model(tmp_path / "full"), "full", tmp_path / "half", half=True)
    assert not (tmp_path / "half").exists()
    with pytest.raises(InputError, match="own layout"):
        convert(read_model(tmp_path / "full"), "full", tmp_path / "hf", to="hf", half=True)


def test_a_sequence_of_one_token_is_enough_to_check() -> None:
    found = check_half(HyenaDNA(HyenaConfig(d_model=8, n_layer=1, max_length=1)).eval())
    assert found.base == 0
