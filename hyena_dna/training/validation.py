"""Validation: bits per base on fixed windows, in the terms that Markov models are scored in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dna.model.model import HyenaDNA
from hyena_dna.ops.losses import next_token_loss
from hyena_dna.tokenizer import BASE_IDS

__all__ = ["Validation", "validate", "validate_each"]

_PASS_TOKENS = {"cpu": 1 << 14, "cuda": 1 << 18}


@dataclass(frozen=True, slots=True)
class Validation:
    """How well a model predicts held-out bases.

    Attributes:
        loss: mean negative log-likelihood of a base given those before it in its window, in nats.
        bases: number of bases that the mean is over.
        genomes: the same of each genome by name, where there are several.
    """

    loss: float
    bases: int
    genomes: Mapping[str, Validation] = field(default_factory=dict)

    @property
    def bits_per_base(self) -> float:
        """The loss in bits."""
        return self.loss / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(loss): the number of equally likely bases that would be as hard to predict."""
        return math.exp(self.loss)


def validate(
    model: HyenaDNA,
    windows: NDArray[np.uint8],
    *,
    rank: int = 0,
    world_size: int = 1,
    total: Callable[[Tensor], None] | None = None,
) -> Validation:
    """Score A, C, G and T from the second base of every window on, without dropout, in float32.

    The positions are those of `hyena_dna.baselines.markov.MarkovModel.bits_per_base`: the network too sees only the
    bases of the window that come before.

    Args:
        model: the model; its training mode is left as it was.
        windows: (windows, window + 1) token ids, so that a model sees `window` bases; PAD and N are never targets.
        rank: index of this device: it scores every `world_size`-th window.
        world_size: devices that share the windows.
        total: adds a tensor over all devices, in place.
    """
    device = next(model.parameters()).device
    rows = max(1, _PASS_TOKENS.get(device.type, 1 << 16) // windows.shape[1])
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    own = windows[rank::world_size]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for begin in range(0, len(own), rows):
                ids = torch.from_numpy(own[begin : begin + rows]).to(device)
                sums += _score(model, ids)
    finally:
        model.train(was_training)
    if total is not None:
        total(sums)
    nats, bases = sums.tolist()
    return Validation(nats / max(1.0, bases), int(bases))


def validate_each(
    model: HyenaDNA,
    windows: Sequence[NDArray[np.uint8]],
    names: Sequence[str],
    *,
    rank: int = 0,
    world_size: int = 1,
    total: Callable[[Tensor], None] | None = None,
) -> Validation:
    """Validate on the windows of every genome, and on all of them together.

    Args:
        model: the model.
        windows: for each genome, as in `validate`.
        names: of the genomes; empty where there is only one.
        rank: as in `validate`.
        world_size: as in `validate`.
        total: as in `validate`.
    """
    found = [validate(model, rows, rank=rank, world_size=world_size, total=total) for rows in windows]
    if not names:
        (only,) = found
        return only
    bases = sum(one.bases for one in found)
    loss = sum(one.loss * one.bases for one in found) / max(1, bases)
    return Validation(loss, bases, dict(zip(names, found, strict=True)))


def _score(model: HyenaDNA, ids: Tensor) -> Tensor:
    targets = ids[:, 1:]
    counted = (targets >= BASE_IDS[0]) & (targets <= BASE_IDS[-1])
    hidden = model.hidden(ids[:, :-1])
    vocab = model.config.vocab_size
    loss = next_token_loss(hidden, model.lm_head.weight, targets, counted.float(), vocab=vocab)
    return torch.stack([loss.loss_sum, loss.weight_sum])
