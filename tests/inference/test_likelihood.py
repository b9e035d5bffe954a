"""One log-likelihood for tensors and sequences, on either strand, of sequences of any lengths."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hyena_dna.errors import InputError
from hyena_dna.inference.likelihood import log_likelihood
from hyena_dna.model.model import HyenaDNA
from hyena_dna.tokenizer import Tokenizer

MakeModel = Callable[..., HyenaDNA]
SEQUENCES = ["ACGTTGCA" * 5, "A", "GGCNATTACA", "ACG", "TTTTTTTTTTTTACGTA"]


def test_sequences_of_different_lengths_score_as_alone(make_model: MakeModel) -> None:
    model = make_model().double()
    together = log_likelihood(model, SEQUENCES)
    assert together.dtype == torch.float64
    for sequence, value in zip(SEQUENCES, together.tolist(), strict=True):
        ids = torch.from_numpy(model.tokenizer.encode(sequence)).long()[None]
        with torch.inference_mode():
            table = model(ids).logits[0, :, :12].log_softmax(-1)
        expected = sum(float(table[t, ids[0, t + 1]]) for t in range(len(sequence) - 1))
        assert value == pytest.approx(expected, abs=1e-10)
    assert together[1] == 0, "a single base has no prefix"


def test_strands(make_model: MakeModel) -> None:
    model, tokenizer = make_model(), Tokenizer()
    reverse = [tokenizer.decode(tokenizer.reverse_complement(tokenizer.encode(one))) for one in SEQUENCES]
    forward, backward = log_likelihood(model, SEQUENCES), log_likelihood(model, SEQUENCES, strand="-")
    torch.testing.assert_close(backward, log_likelihood(model, reverse), rtol=1e-6, atol=1e-5)
    both = log_likelihood(model, SEQUENCES, strand="both")
    torch.testing.assert_close(both, (forward + backward) / 2)
    torch.testing.assert_close(both, log_likelihood(model, reverse, strand="both"), rtol=1e-6, atol=1e-5)
    assert not torch.allclose(forward, backward)


def test_padding_tokens_of_the_vocabulary_take_no_part(make_model: MakeModel) -> None:
    # A softmax over all 16 rows of the head gives every base less.
    model = make_model(tie_embeddings=False)
    before = log_likelihood(model, SEQUENCES)
    with torch.no_grad():
        model.lm_head.weight[12:] += 3
    torch.testing.assert_close(log_likelihood(model, SEQUENCES), before, rtol=0, atol=0)


def test_autocast_has_no_part_in_it(make_model: MakeModel) -> None:
    model = make_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = log_likelihood(model, SEQUENCES)
    torch.testing.assert_close(inside, log_likelihood(model, SEQUENCES), rtol=0, atol=0)


def test_refusals(make_model: MakeModel) -> None:
    with pytest.raises(InputError, match="strand"):
        log_likelihood(make_model(), ["ACG"], strand="forward")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="batch, length"):
        log_likelihood(make_model(), torch.zeros(5))
    with pytest.raises(InputError, match="empty"):
        log_likelihood(make_model(), [""])
    with pytest.raises(InputError, match="takes at most"):
        log_likelihood(make_model(130), ["A" * 131])
