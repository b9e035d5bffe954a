"""Loading a file that asks for packages which are not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from hyena_dna.benchmark import official
from hyena_dna.benchmark.official import _rearrange, load_official
from hyena_dna.errors import InputError

SOURCE = """
from einops import rearrange
from torchvision.ops import StochasticDepth
from transformers.tokenization_utils import AddedToken, PreTrainedTokenizer
class HyenaDNAModel: pass
def fftconv(u, k, D): return u
class CharacterTokenizer(PreTrainedTokenizer): pass
"""


@pytest.fixture(autouse=True)
def _forget() -> None:
    load_official.cache_clear()


def test_stand_ins_last_as_long_as_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "_is_installed", lambda _: False)
    names = ("einops", "torchvision", "torchvision.ops", "transformers", "transformers.tokenization_utils")
    before = {name: sys.modules.get(name) for name in names}
    (tmp_path / "standalone_hyenadna.py").write_text(SOURCE)
    module = load_official(tmp_path)
    assert module.CharacterTokenizer.__mro__[1].__name__ == "PreTrainedTokenizer"
    assert {name: sys.modules.get(name) for name in names} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "is not the official"),
        ("import no_such_package_anywhere", "cannot be imported"),
        ("x = (", "cannot be"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "other.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_official(path)
    with pytest.raises(InputError, match="no such"):
        load_official(tmp_path / "missing.py")


def test_axes_are_reordered_split_and_joined() -> None:
    x = torch.arange(2 * 3 * 4).view(2, 3, 4)
    assert torch.equal(_rearrange(x, "b l d -> b d l"), x.transpose(1, 2))
    assert torch.equal(_rearrange(x, "b l (o d) -> b o d l", o=2), x.view(2, 3, 2, 2).permute(0, 2, 3, 1))
    assert torch.equal(_rearrange(x, "b l d -> b (l d)"), x.reshape(2, 12))
    assert torch.equal(_rearrange(x[0, 0], "(o d) -> o d", o=2), x[0, 0].view(2, 2))
    split = _rearrange(x, "... (three h d) -> ... three h d", three=2, d=2)
    assert torch.equal(split, x.view(2, 3, 2, 1, 2))
