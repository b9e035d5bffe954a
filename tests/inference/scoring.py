"""Models and allele windows of the scoring tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.datasets.alleles import StrandWindow
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA

Ids = NDArray[np.uint8]


def make_model(max_length: int = 1026, **changes: Any) -> HyenaDNA:
    """A small model whose random weights are large enough that every layer matters."""
    torch.manual_seed(0)
    small: dict[str, Any] = {"d_model": 16, "n_layer": 3, "max_length": max_length, "filter_order": 16}
    return HyenaDNA(HyenaConfig(**(small | {"initializer_range": 0.2} | changes))).eval()


def random_sequence(rng: np.random.Generator, length: int) -> Ids:
    return rng.integers(7, 11, length).astype(np.uint8)


def change(sequence: Ids, start: int, window: int, changed: int, n_ref: int, alt: Ids) -> StrandWindow:
    """Replace `n_ref` tokens of the window at `start` of a longer sequence by `alt`, the rest drawn from beyond it."""
    ref_ids = sequence[start : start + window]
    after = sequence[start + changed + n_ref :]
    alt_ids = np.concatenate([ref_ids[:changed], alt, after])[:window]
    assert len(alt_ids) == window
    return StrandWindow(("chr1", start, "+"), ref_ids, alt_ids, changed, n_ref, len(alt))


def random_windows(seed: int, window: int, count: int, *, low: int = 0, high: int | None = None) -> list[StrandWindow]:
    """SNVs, MNVs, insertions and deletions at random places of windows that share two keys."""
    rng = np.random.default_rng(seed)
    sequence = random_sequence(rng, window + 200)
    windows = []
    for index in range(count):
        changed = int(rng.integers(low, window if high is None else high))
        n_ref, n_alt = [(1, 1), (2, 2), (0, 5), (7, 0), (3, 1)][index % 5]
        n_ref, n_alt = min(n_ref, window - changed), min(n_alt, window - changed)
        if n_ref == n_alt == 0:
            n_ref = n_alt = 1
        start = int(rng.integers(2)) * 50
        alt = random_sequence(rng, n_alt)
        if n_ref == n_alt:
            # Every base another one.
            alt = (7 + (sequence[start + changed : start + changed + n_ref] - 7 + 1) % 4).astype(np.uint8)
        windows.append(change(sequence, start, window, changed, n_ref, alt))
    return windows
