"""Models and allele windows of the scoring tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hyena_dna.datasets.alleles import StrandWindow
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA

Ids = NDArray[np.uint8]


def _make_model(max_length: int = 1026, **changes: Any) -> HyenaDNA:
    torch.manual_seed(0)
    small: dict[str, Any] = {"d_model": 16, "n_layer": 3, "max_length": max_length, "filter_order": 16}
    return HyenaDNA(HyenaConfig(**(small | {"initializer_range": 0.2} | changes))).eval()


def _random_windows(seed: int, window: int, count: int, *, low: int = 0, high: int | None = None) -> list[StrandWindow]:
    rng = np.random.default_rng(seed)
    sequence = rng.integers(7, 11, window + 200).astype(np.uint8)
    windows = []
    for index in range(count):
        changed = int(rng.integers(low, window if high is None else high))
        n_ref, n_alt = [(1, 1), (2, 2), (0, 5), (7, 0), (3, 1)][index % 5]
        n_ref, n_alt = min(n_ref, window - changed), min(n_alt, window - changed)
        start = int(rng.integers(2)) * 50
        ref_ids = sequence[start : start + window]
        # Substitutions change every base.
        others = 7 + (ref_ids[changed : changed + n_ref] - 7 + 1) % 4
        alt = others if n_ref == n_alt else rng.integers(7, 11, n_alt)
        after = sequence[start + changed + n_ref :]
        alt_ids = np.concatenate([ref_ids[:changed], alt.astype(np.uint8), after])[:window]
        windows.append(StrandWindow(("chr1", start, "+"), ref_ids, alt_ids, changed, n_ref, n_alt))
    return windows


@pytest.fixture(scope="session")
def make_model() -> Callable[..., HyenaDNA]:
    """Makes small models whose random weights are large enough that every layer matters."""
    return _make_model


@pytest.fixture(scope="session")
def random_windows() -> Callable[..., list[StrandWindow]]:
    """Makes SNVs, MNVs, insertions and deletions at random places of two windows."""
    return _random_windows
