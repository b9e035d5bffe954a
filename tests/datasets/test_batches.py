"""Batches: the right bases in the right places, and no padding in the loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hyena_dna.datasets.batches import LossWeights, cut_batch
from hyena_dna.datasets.segments import Segment
from hyena_dna.datasets.store import TokenStore
from hyena_dna.datasets.windows import WindowBatch, WindowSampler, WindowSource
from hyena_dna.errors import InputError
from hyena_dna.tokenizer import PAD, Tokenizer

tokenizer = Tokenizer()
_COMPLEMENT = str.maketrans("ACGTNacgtn", "TGCANtgcan")


@pytest.fixture
def stores(tmp_path: Path) -> tuple[list[str], list[TokenStore]]:
    """Two stores of one contig each, with lower case and N, and their letters."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACGTacgtNn"), size)) for size in (500, 300)]
    made = [TokenStore.from_sequences([("c", t.encode())], tmp_path / str(i), {}) for i, t in enumerate(texts)]
    return texts, made


def windows(*rows: tuple[int, int, int, bool]) -> WindowBatch:
    source, start, length, reverse = zip(*rows, strict=True)
    return WindowBatch(np.array(source), np.array(start), np.array(length), np.array(reverse, dtype=np.bool_))


def weight_of(letter: str, weights: LossWeights) -> float:
    if letter in "Nn":
        return weights.n
    return weights.soft_masked if letter.islower() else 1.0


def test_rows_are_the_letters_shifted_by_one(stores: tuple[list[str], list[TokenStore]]) -> None:
    texts, made = stores
    weights = LossWeights(n=0.25, soft_masked=0.5)
    rows = [
        (0, 0, 41, False),
        (1, 259, 41, True),
        (0, 17, 41, True),
        (1, 5, 12, False),
        (1, 5, 12, True),
        (0, 9, 2, True),
    ]
    batch = cut_batch(made, windows(*rows), 40, weights)
    assert {array.shape for array in (batch.input_ids, batch.target_ids, batch.loss_class)} == {(6, 40)}
    assert {array.dtype for array in (batch.input_ids, batch.target_ids, batch.loss_class)} == {np.dtype(np.uint8)}
    for i, (source, start, length, reverse) in enumerate(rows):
        letters = texts[source][start : start + length]
        letters = letters[::-1].translate(_COMPLEMENT) if reverse else letters
        rest = 41 - length
        ids = [*tokenizer.encode(letters).tolist(), *[PAD] * rest]
        assert batch.input_ids[i].tolist() == ids[:-1]
        assert batch.target_ids[i].tolist() == ids[1:]
        expected = [weight_of(letter, weights) for letter in letters[1:]] + [0.0] * rest
        assert batch.loss_weight[i].tolist() == expected
    assert batch.loss_weight.dtype == np.float32


def test_default_weights_skip_n_and_keep_repeats(stores: tuple[list[str], list[TokenStore]]) -> None:
    texts, made = stores
    batch = cut_batch(made, windows((0, 0, 500, False)), 600)
    expected = [float(letter not in "Nn") for letter in texts[0][1:]] + [0.0] * 101
    assert batch.loss_weight[0].tolist() == expected


def test_padding_weighs_nothing_even_where_n_and_repeats_do(stores: tuple[list[str], list[TokenStore]]) -> None:
    # Plain cross-entropy would teach the model that short sequences go on with PAD.
    batch = cut_batch(stores[1], windows((0, 0, 10, False), (0, 0, 10, True)), 50, LossWeights(n=1.0, soft_masked=1.0))
    assert (batch.target_ids == PAD).sum() == 2 * 41
    assert not batch.loss_weight[batch.target_ids == PAD].any()
    assert batch.loss_weight[batch.target_ids != PAD].all()


def test_long_batches_are_classified_like_short_ones(stores: tuple[list[str], list[TokenStore]]) -> None:
    made = stores[1]
    sources = [WindowSource(store, [Segment(0, store.total, "c")], 1.0) for store in made]
    drawn = WindowSampler(sources, window=127, seed=0, max_n_fraction=1.0).sample(0, 3000)
    whole = cut_batch(made, drawn, 127)
    for rows in (slice(0, 10), slice(1020, 1030), slice(2990, 3000)):
        part = cut_batch(made, drawn[rows], 127)
        for name in ("input_ids", "target_ids", "loss_class"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[rows])


def test_a_window_outside_its_store_is_refused(stores: tuple[list[str], list[TokenStore]]) -> None:
    with pytest.raises(ValueError, match="beyond the store"):
        cut_batch(stores[1], windows((1, 290, 41, False)), 40)
    with pytest.raises(ValueError, match="lengths must lie"):
        cut_batch(stores[1], windows((0, 0, 42, False)), 40)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_weights_are_checked(weight: float) -> None:
    with pytest.raises(InputError, match="loss weight"):
        LossWeights(n=weight)
    with pytest.raises(InputError, match="loss weight"):
        LossWeights(soft_masked=weight)
