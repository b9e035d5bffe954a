"""What `--device` means on this machine."""

from __future__ import annotations

import pytest
import torch

from hyena_dna.errors import InputError
from hyena_dna.model.device import select_device


def test_auto_is_a_device_that_exists() -> None:
    assert select_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert select_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_bad_usage() -> None:
    with pytest.raises(InputError, match="CUDA devices"):
        select_device("cuda:63")
