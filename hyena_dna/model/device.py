"""Where a model runs."""

from __future__ import annotations

import torch

from hyena_dna.errors import InputError

__all__ = ["select_device"]


def select_device(name: str = "auto") -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:INDEX` means on this machine.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise InputError(f"--device {name}: this machine has {count} CUDA devices", remedy="use --device cpu")
        device = torch.device("cuda", device.index or 0)
    return device
