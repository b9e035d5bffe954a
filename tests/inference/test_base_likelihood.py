"""Per-base likelihoods against one pass of the model per base, on both strands, at every border."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.inference.base_likelihood import BaseScorer, default_context, per_base_likelihood
from hyena_dna.inference.inputs import ChunkLimits, Row, sequence_chunks
from hyena_dna.inference.likelihood import log_likelihood
from hyena_dna.inference.windows import tile
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.tokenizer import Tokenizer

WINDOW, CONTEXT = 64, 24

# A float32 pass over 64 bp; log-probabilities are of order 2.
CLOSE = 2e-5


@pytest.fixture(scope="module")
def model(make_model: Callable[..., HyenaDNA]) -> HyenaDNA:
    return make_model(WINDOW + 2)


def bases(length: int, seed: int = 0) -> bytes:
    return bytes(np.random.default_rng(seed).choice(np.frombuffer(b"ACGT", np.uint8), length))


def definition(model: HyenaDNA, sequence: bytes) -> NDArray[np.float64]:
    """(2, length): every base from a pass of the model over its own tile, cut off after the base before it."""
    ids = Tokenizer().encode(sequence).astype(np.int64)
    found = np.full((2, len(ids)), np.nan)
    for start, end in tile(len(ids), WINDOW, CONTEXT):
        for at in range(start + 1, end):
            if not np.isnan(found[0, at]):
                continue
            with torch.inference_mode():
                logits = model(torch.from_numpy(ids[start:at])[None]).logits[0, -1, :12].double()
            probabilities = logits.softmax(0)
            among = probabilities[7:11] / probabilities[7:11].sum()
            if 7 <= ids[at] <= 10:
                found[0, at] = probabilities[ids[at]].log()
                found[1, at] = -(among * among.log()).sum()
    return found


def reverse_complement(sequence: bytes) -> bytes:
    return sequence[::-1].translate(bytes.maketrans(b"ACGT", b"TGCA"))


@pytest.mark.parametrize("length", [1, 2, 64, 65, 105, 120])
def test_every_base_is_what_a_pass_of_its_own_says(model: HyenaDNA, length: int) -> None:
    sequence = bases(length)
    (scores,) = per_base_likelihood(model, [sequence], window=WINDOW, context=CONTEXT)
    found = np.stack([scores.log_prob, scores.entropy], 1)
    np.testing.assert_allclose(found[0], definition(model, sequence), atol=CLOSE)
    np.testing.assert_allclose(found[1], definition(model, reverse_complement(sequence))[:, ::-1], atol=CLOSE)


def test_sums_are_log_likelihoods(model: HyenaDNA) -> None:
    sequences = [bases(length, length) for length in (10, 64, 33)]
    for number, strand in enumerate("+-"):
        sums = [np.nansum(s.log_prob[number].astype(np.float64)) for s in per_base_likelihood(model, sequences)]
        np.testing.assert_allclose(sums, log_likelihood(model, sequences, strand=strand), atol=1e-4)  # type: ignore[arg-type]


def test_batches_and_pieces_change_nothing(model: HyenaDNA) -> None:
    """Pieces with their context are scored as the whole, base by base, wherever tiles lie alike."""
    sequence = bases(300)
    rows = [(Row(None, 0, 300, "s", "."), sequence)]
    scorer = BaseScorer(model, window=WINDOW, context=CONTEXT)
    (whole,) = sequence_chunks(rows, limits=ChunkLimits(piece=1000, context=CONTEXT))
    expected = scorer.score(whole).values
    step = WINDOW - CONTEXT
    single = BaseScorer(model, window=WINDOW, context=CONTEXT, batch_size=1)
    limits = ChunkLimits(records=2, piece=step * 3, context=CONTEXT)
    pieces = np.concatenate([single.score(chunk).values for chunk in sequence_chunks(rows, limits=limits)], -1)
    # Forward tiles of the first piece lie as those of the whole; later pieces begin their tiles elsewhere.
    assert np.isnan(pieces).sum() == np.isnan(expected).sum() == 4
    np.testing.assert_allclose(pieces[0, :, : step * 2], expected[0, :, : step * 2], atol=CLOSE)
    # Every base of every piece has its context: the same as a sequence that begins a context before the piece.
    for first in range(step * 3, 300, step * 3):
        end = min(300, first + step * 3)
        alone = definition(model, sequence[first - CONTEXT : end])[:, CONTEXT:]
        np.testing.assert_allclose(pieces[0, :, first:end], alone, atol=CLOSE)
        back = definition(model, reverse_complement(sequence[first : end + CONTEXT]))[:, ::-1][:, : end - first]
        np.testing.assert_allclose(pieces[1, :, first:end], back, atol=CLOSE)


def test_n_has_no_score_and_is_context(model: HyenaDNA) -> None:
    sequence = bases(30) + b"NNN" + bases(20, 1)
    (scores,) = per_base_likelihood(model, [sequence], strands="fwd")
    np.testing.assert_allclose(scores.log_prob[0], definition(model, sequence)[0], atol=CLOSE)
    assert np.isnan(scores.log_prob[0, 30:33]).all()
    assert scores.log_prob.shape == (1, 53)


def test_entropy_lies_between_none_and_four_bases(model: HyenaDNA) -> None:
    (scores,) = per_base_likelihood(model, [bases(64)])
    known = scores.entropy[~np.isnan(scores.entropy)]
    assert ((known >= 0) & (known <= np.log(4) + 1e-6)).all()


def test_default_context_is_short_and_bounded_by_the_window(model: HyenaDNA) -> None:
    assert [default_context(window) for window in (64, 512, 514, 1 << 20)] == [32, 256, 256, 256]
    assert BaseScorer(model).context == WINDOW // 2
    long = HyenaDNA(HyenaConfig(d_model=16, n_layer=1, max_length=4002, filter_order=8)).eval()
    assert (BaseScorer(long).window, BaseScorer(long).context) == (4000, 256)
    assert (BaseScorer(long, window="max").window, BaseScorer(long, context="max").context) == (4000, 2000)


def test_refusals(model: HyenaDNA) -> None:
    with pytest.raises(InputError, match="does not fit windows"):
        BaseScorer(model, context=64)
    with pytest.raises(InputError, match="longer than the model"):
        BaseScorer(model, window=65)
    with pytest.raises(InputError, match="empty"):
        per_base_likelihood(model, [""])
    with pytest.raises(InputError, match="not a DNA letter"):
        per_base_likelihood(model, ["ACXG"])
