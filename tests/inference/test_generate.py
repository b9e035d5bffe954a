"""Generation one position at a time against a full pass per base, and the rules of drawing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hyena_dna.errors import InputError
from hyena_dna.inference import generate_decoder
from hyena_dna.inference.generate import Method, Sampling, generate
from hyena_dna.inference.generate_decoder import BLOCK, Decoder
from hyena_dna.inference.likelihood import high_precision, log_likelihood
from hyena_dna.model.model import HyenaDNA

FORMS = [(False, 2), (False, 3), (False, 4), (True, 1), (True, 2), (True, 3)]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(make_model: Callable[..., HyenaDNA]) -> HyenaDNA:
    return make_model(300)


def forced(model: HyenaDNA, ids: torch.Tensor, prompt: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the decoder, fed with given tokens, and those of the model, after the prompt's last token and on."""
    decoder = Decoder(model, len(ids), ids.shape[1] - prompt)
    following = torch.cat([ids[:, prompt:], ids[:, :1]], dim=1).T.contiguous()
    base = [0]

    def begin(start: int, _: int) -> None:
        base[0] = start

    with high_precision(CPU):
        first = decoder.prefill(ids[:, :prompt])
        rest, chosen = decoder.run(following[0], lambda _, step: following[base[0] + step + 1], before_block=begin)
        assert (chosen == following[1:]).all()
        full = model(ids).logits[:, prompt - 1 :, : model.config.vocab_size]
    return torch.cat([first[None], rest]).transpose(0, 1), full


@pytest.mark.parametrize(("leading_conv", "order"), FORMS)
def test_every_form_gives_the_logits_of_the_whole_sequence(
    leading_conv: bool, order: int, make_model: Callable[..., HyenaDNA]
) -> None:
    model = make_model(300, n_layer=2, order=order, leading_conv=leading_conv).double()
    ids = torch.randint(7, 12, (2, 5 * BLOCK + 3))
    found, expected = forced(model, ids, 7)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("prompt", "length"),
    [(1, BLOCK), (2, 4 * BLOCK + 1), (3, 260), (31, 4 * BLOCK + 1), (32, 3 * BLOCK), (33, 260), (100, 101), (100, 260)],
)
def test_prompts_and_lengths_that_fit_no_tile(model: HyenaDNA, prompt: int, length: int) -> None:
    ids = torch.randint(7, 12, (3, max(length, prompt + 1)))
    found, expected = forced(model, ids, prompt)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("taps", [1, 2, 5])
def test_short_filters_of_other_lengths(taps: int, make_model: Callable[..., HyenaDNA]) -> None:
    model = make_model(300, short_filter_length=taps).double()
    found, expected = forced(model, torch.randint(7, 12, (1, 90)), 3)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_comparison_notices_a_tile_that_is_left_out(model: HyenaDNA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "_add_tile", lambda *_: None)
    found, expected = forced(model, torch.randint(7, 12, (1, 3 * BLOCK)), 1)
    assert (found - expected)[:, : BLOCK - 1].abs().max() < 1e-4
    assert (found - expected).abs().max() > 1e-2


def test_tiles_add_every_product_once(monkeypatch: pytest.MonkeyPatch, make_model: Callable[..., HyenaDNA]) -> None:
    sides = []
    real = Decoder._spectrum

    def spy(self: Decoder, side: int, part: slice) -> torch.Tensor:
        sides.append(side)
        return real(self, side, part)

    monkeypatch.setattr(Decoder, "_spectrum", spy)
    generate(make_model(2000, n_layer=1), None, 8 * BLOCK + 1)
    unit = BLOCK
    assert sides == [unit, 2 * unit, unit, 4 * unit, unit, 2 * unit, unit]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.3, top_k=2),
        Sampling(top_p=0.6),
        Sampling(temperature=2, top_k=3, top_p=0.8, allow_n=True),
    ],
)
@pytest.mark.parametrize("prompts", [None, ["ACGTTGCA", "G", "ACGTTGCT"]])
def test_both_methods_draw_the_same(model: HyenaDNA, prompts: list[str] | None, sampling: Sampling) -> None:
    methods: tuple[Method, ...] = ("recurrent", "full")
    fast, slow = (
        generate(model, prompts, 90, sampling=sampling, samples=2, seed=3, method=method) for method in methods
    )
    assert [one.sequence for one in fast] == [one.sequence for one in slow]
    np.testing.assert_allclose([x.log_likelihood for x in fast], [x.log_likelihood for x in slow], rtol=1e-5)


def test_an_attention_model_generates_by_full_passes(make_model: Callable[..., HyenaDNA]) -> None:
    model = make_model(64, mixer="attention")
    assert len(generate(model, ["ACGT"], 20)[0].sequence) == 20
    with pytest.raises(InputError, match="Hyena mixer"):
        generate(model, ["ACGT"], 20, method="recurrent")


def test_the_log_likelihood_is_that_of_the_new_bases(model: HyenaDNA) -> None:
    prompt = "ACGTTGCATT"
    (one,) = generate(model, [prompt], 50, seed=1)
    whole, before = log_likelihood(model, [prompt + one.sequence, prompt])
    assert one.log_likelihood == pytest.approx(float(whole - before), rel=1e-5)
    (free,) = generate(model, None, 50, seed=1)
    assert free.log_likelihood == pytest.approx(float(log_likelihood(model, [free.sequence])[0]), rel=1e-5)


def test_samples_do_not_depend_on_batch_number_or_length(model: HyenaDNA) -> None:
    prompts = ["ACGT", "TTTTT"]
    wide = generate(model, prompts, 80, samples=3, seed=5)
    narrow = generate(model, prompts, 80, samples=3, seed=5, batch_size=1)
    assert [one.sequence for one in wide] == [one.sequence for one in narrow]
    fewer = generate(model, prompts, 40, samples=1, seed=5)
    assert [one.sequence for one in fewer] == [one.sequence[:40] for one in wide if one.sample == 0]
    assert len({one.sequence for one in wide}) == 6
    assert [(one.prompt, one.sample) for one in wide] == [(i, k) for i in range(2) for k in range(3)]
    assert generate(model, prompts, 80, samples=3, seed=6) != wide


def test_a_decoder_is_as_new_for_every_batch(model: HyenaDNA) -> None:
    together = generate(model, ["ACGTA", "CCCCC", "GATTA"], 70, batch_size=1)
    alone = [generate(model, ["ACGTA", "CCCCC", "GATTA"], 70, batch_size=3)[i] for i in range(3)]
    assert [one.sequence for one in together] == [one.sequence for one in alone]


def test_only_bases_are_drawn_unless_n_is_allowed(model: HyenaDNA) -> None:
    hot = Sampling(temperature=50)
    assert set(generate(model, None, 200, sampling=hot)[0].sequence) == set("ACGT")
    letters = set(generate(model, None, 200, sampling=Sampling(temperature=50, allow_n=True))[0].sequence)
    assert letters == set("ACGTN")


def test_frequencies_are_the_models_probabilities() -> None:
    logits = torch.full((20_000, 16), 9.0)
    logits[:, 7:11] = torch.tensor([0.5, 0.25, 0.2, 0.05]).log()
    noise = torch.from_numpy(np.random.default_rng(0).random(20_000, np.float32))

    def shares(sampling: Sampling) -> list[float]:
        ids = sampling.draw(logits, noise)
        return [float((ids == base).float().mean()) for base in range(7, 11)]

    assert shares(Sampling()) == pytest.approx([0.5, 0.25, 0.2, 0.05], abs=0.012)
    assert shares(Sampling(temperature=0.5)) == pytest.approx(
        [0.25 / 0.355, 0.0625 / 0.355, 0.04 / 0.355, 0.0025 / 0.355], abs=0.012
    )
    assert shares(Sampling(top_k=1)) == [1, 0, 0, 0]
    assert shares(Sampling(top_k=2)) == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=0.012)
    assert shares(Sampling(top_p=0.6)) == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=0.012)
    assert shares(Sampling(top_p=0.01)) == [1, 0, 0, 0]
    # Of the three most likely, half of what is left.
    assert shares(Sampling(top_k=3, top_p=0.5)) == [1, 0, 0, 0]


def test_noise_at_the_end_of_the_distribution_draws_what_was_kept() -> None:
    logits = torch.randn(5000, 16, generator=torch.Generator().manual_seed(0)) * 3
    last = torch.full((5000,), float(np.nextafter(np.float32(1), np.float32(0))))
    ids = Sampling(top_k=2).draw(logits, last)
    kept = logits[:, 7:11].topk(2).indices + 7
    assert ((ids[:, None] == kept).any(1)).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top-k"),
        ({"top_p": 0.0}, "top-p"),
        ({"top_p": 1.1}, "top-p"),
    ],
)
def test_sampling_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(**values)  # type: ignore[arg-type]


def test_what_cannot_be_generated(model: HyenaDNA) -> None:
    for prompts, bases, message in [
        (["A" * 201], 100, "longer than the model's 300"),
        (None, 301, "longer"),
        ([""], 10, "prompt 1 is empty"),
        (["ACXT"], 10, "'X' at position 3"),
        (["A"], 0, "at least one base"),
    ]:
        with pytest.raises(InputError, match=message):
            generate(model, prompts, bases)
    assert len(generate(model, ["A" * 200], 100)[0].sequence) == 100
    assert len(generate(model, ["A"], 1)[0].sequence) == 1
    decoder = Decoder(model, 1, 100)
    with pytest.raises(InputError, match="at most 300"):
        decoder.prefill(torch.full((1, 201), 7))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recorded_blocks_draw_the_same_on_a_gpu(make_model: Callable[..., HyenaDNA]) -> None:
    model = make_model(1200)
    expected = generate(model, ["ACGTACGT"], 700, samples=3, seed=2, sampling=Sampling(top_k=3))
    assert generate_decoder._GRAPH_STEPS < 700
    found = generate(model.cuda(), ["ACGTACGT"], 700, samples=3, seed=2, sampling=Sampling(top_k=3))
    # Rounding may tip a draw that lies on a border; from there on sequences differ.
    same = [a.sequence == b.sequence for a, b in zip(found, expected, strict=True)]
    assert sum(same) >= 2
    for a, b, equal in zip(found, expected, same, strict=True):
        if equal:
            assert a.log_likelihood == pytest.approx(b.log_likelihood, rel=1e-4)
