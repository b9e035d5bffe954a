"""Models at half the size on disk, and the check that their predictions stay the same.

Matrices of a model trained at mixed precision carry no more than float16 holds, except those of the filter networks: a
sine of frequency 10 in every layer amplifies rounding, so these few thousand parameters stay in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hyena_dna.errors import InputError
from hyena_dna.model.model import HyenaDNA

__all__ = ["MAX_BASE_ERROR", "MAX_MEAN_ERROR", "HalfError", "check_half", "half_parameters"]

MAX_BASE_ERROR = 0.02
"""Largest change of the log-likelihood of one base, in nats, that half precision on disk may cost."""

MAX_MEAN_ERROR = 0.001
"""Largest change of the mean log-likelihood of a sequence, in nats per base."""

_FILTER = ".filter_fn."
_ROWS, _LENGTH, _SEED = 4, 2048, 0


@dataclass(frozen=True)
class HalfError:
    """What half precision on disk changes, in nats.

    Attributes:
        base: largest change of the log-likelihood of one base.
        mean: largest change of the mean over a sequence.
    """

    base: float
    mean: float


def half_parameters(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters in float16, those of filter networks in float32, on the CPU."""
    return {
        name: value.detach().to("cpu", torch.float32 if _FILTER in name else torch.float16).contiguous()
        for name, value in parameters.items()
    }


def check_half(model: HyenaDNA) -> HalfError:
    """Compare a model with what it becomes when it is stored at half precision, on fixed sequences.

    The sequences are random bases, of which half repeat, so that predictions are both sure and unsure.

    Args:
        model: in evaluation mode.

    Raises:
        InputError: the change is larger than `MAX_BASE_ERROR` or `MAX_MEAN_ERROR`.
    """
    length = min(_LENGTH, model.config.max_length)
    generator = torch.Generator().manual_seed(_SEED)
    ids = torch.randint(7, 11, (_ROWS, length), generator=generator)
    ids[:, length // 2 :] = ids[:, : length - length // 2]
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for name, value in half_parameters(dict(model.named_parameters())).items():
            rounded.get_parameter(name).copy_(value)
    device = model.lm_head.weight.device
    change = (_log_likelihoods(rounded, ids.to(device)) - _log_likelihoods(model, ids.to(device))).double()
    found = HalfError(float(change.abs().max()), float(change.mean(1).abs().max()))
    if not (found.base <= MAX_BASE_ERROR and found.mean <= MAX_MEAN_ERROR):
        raise InputError(
            f"at half precision log-likelihoods change by up to {found.base:.2g} nats at a base and {found.mean:.2g} "
            f"per base of a sequence (allowed: {MAX_BASE_ERROR} and {MAX_MEAN_ERROR})",
            remedy="store it at full precision",
        )
    return found


@torch.inference_mode()
def _log_likelihoods(model: HyenaDNA, ids: Tensor) -> Tensor:
    """(rows, length - 1) log-likelihoods of every base after the first."""
    if ids.shape[1] < 2:
        return torch.zeros(len(ids), 1)
    logits = model(ids[:, :-1]).logits[..., : model.config.vocab_size].float()
    found: Tensor = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return found
