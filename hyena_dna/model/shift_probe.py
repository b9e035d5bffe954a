"""Which modulation shift were these weights trained with? Real DNA is the likelier under the right one.

Published checkpoints do not store the shift of the filters' window: the released inference code has 0.05, the released
training code 0.0, and outputs differ. The data decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reference import Reference
from hyena_dna.model.model import HyenaDNA
from hyena_dna.tokenizer import BASE_IDS, N

__all__ = ["ShiftScore", "probe_shift"]

MAX_WINDOW = 4_096
MAX_N_FRACTION = 0.05


class ShiftScore(NamedTuple):
    """How well a model predicts real DNA with a shift."""

    shift: float
    bits_per_base: float
    """Mean over windows, of every A, C, G, T but the first base of a window; lower is better."""


def probe_shift(
    model: HyenaDNA, reference: Reference, *, shifts: Sequence[float] = (0.05, 0.0), n_windows: int = 64
) -> list[ShiftScore]:
    """Score real DNA under several modulation shifts.

    Args:
        model: the weights, whatever shift they are set to.
        reference: the genome; windows are spread evenly over it, and those with more than 5 % N are left out.
        shifts: the values to try.
        n_windows: number of windows, each of the model's length but at most 4,096 bp.

    Returns:
        One score per shift, in the given order.

    Raises:
        InputError: the genome has no window with few enough N.
    """
    length = min(model.config.max_length, MAX_WINDOW, max(reference.contigs.values()))
    windows = _windows(model, reference, length, n_windows)
    if not windows:
        raise InputError("no window has fewer than 5 % N", file=reference.paths[0])
    ids = torch.from_numpy(np.stack(windows))
    scores = []
    for shift in shifts:
        with torch.random.fork_rng(devices=[]):
            twin = HyenaDNA(model.config.model_copy(update={"modulation_shift": shift})).eval()
        twin.load_state_dict(model.state_dict())
        scores.append(ShiftScore(shift, float(np.mean([_bits_per_base(twin, row[None]) for row in ids]))))
    return scores


def _windows(model: HyenaDNA, reference: Reference, length: int, wanted: int) -> list[NDArray[np.uint8]]:
    """Token ids of windows on a grid over all contigs, finer than needed so that gaps can be left out."""
    places = [
        (chrom, start) for chrom, size in reference.contigs.items() for start in range(0, size - length + 1, length)
    ]
    step = max(1, len(places) // (4 * wanted))
    found = []
    for chrom, start in places[step // 2 :: step]:
        ids = model.tokenizer.encode(reference.fetch(Interval(chrom, start, start + length)))
        if (ids == N).mean() <= MAX_N_FRACTION:
            found.append(ids)
    return found[:: max(1, len(found) // wanted)][:wanted]


def _bits_per_base(model: HyenaDNA, ids: torch.Tensor) -> float:
    with torch.inference_mode():
        logits = model(ids[:, :-1]).logits[..., : model.config.vocab_size]
        targets = ids[:, 1:].long()
        nats = -logits.float().log_softmax(-1).gather(-1, targets[..., None])[..., 0].double()
    known = torch.isin(targets, torch.tensor(BASE_IDS))
    return float(nats[known].mean()) / float(np.log(2))
