from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hyena_dna.baselines.markov import MarkovModel
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.validation import validate


@pytest.fixture
def model() -> HyenaDNA:
    torch.manual_seed(0)
    return HyenaDNA(HyenaConfig(d_model=8, n_layer=1, max_length=32, filter_order=8, embed_dropout=0.5))


@pytest.fixture
def windows() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    rng = np.random.default_rng(0)
    rows = rng.integers(7, 12, (9, 33)).astype(np.uint8)
    rows[3, 20:] = 4
    return rows


def test_bits_are_those_of_the_definition(
    model: HyenaDNA, windows: np.ndarray[tuple[int, int], np.dtype[np.uint8]]
) -> None:
    found = validate(model, windows)
    model.eval()
    bits, bases = 0.0, 0
    for row in windows:
        ids = torch.from_numpy(row[None])
        logits = model(ids[:, :-1]).logits[0, :, :12].double()
        probabilities = logits.softmax(-1)
        for position in range(32):
            target = int(row[position + 1])
            if 7 <= target <= 10:
                bits -= math.log2(probabilities[position, target].item())
                bases += 1
    assert found.bases == bases
    assert found.bits_per_base == pytest.approx(bits / bases, rel=1e-5)
    assert found.perplexity == pytest.approx(2 ** (bits / bases), rel=1e-5)


def test_the_network_is_scored_on_the_bases_that_markov_models_are_scored_on(
    model: HyenaDNA, windows: np.ndarray[tuple[int, int], np.dtype[np.uint8]]
) -> None:
    markov = MarkovModel.fit(list(windows), max_order=2)
    assert validate(model, windows).bases == markov.score(windows).bases


def test_ranks_add_up_and_the_mode_is_left_as_it_was(
    model: HyenaDNA, windows: np.ndarray[tuple[int, int], np.dtype[np.uint8]]
) -> None:
    model.train()
    whole = validate(model, windows)
    assert model.training
    parts = [validate(model, windows, rank=rank, world_size=2) for rank in range(2)]
    assert sum(part.bases for part in parts) == whole.bases
    assert sum(part.loss * part.bases for part in parts) == pytest.approx(whole.loss * whole.bases, rel=1e-6)
    model.eval()
    validate(model, windows)
    assert not model.training
