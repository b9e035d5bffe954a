"""The delta method through fused kernels gives what it gives in float64; interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from hyena_dna.datasets.alleles import StrandWindow
from hyena_dna.inference.allele_summary import StrandScores
from hyena_dna.inference.fused_delta import FusedDeltaScorer
from hyena_dna.inference.local_filters import operators
from hyena_dna.inference.reference_pass import LayerTail, Stretch, reference_pass
from hyena_dna.inference.variant_scorer import VariantScorer
from hyena_dna.model.filter import ImplicitFilter
from hyena_dna.model.model import HyenaDNA

MakeModel = Callable[..., HyenaDNA]
Windows = Callable[..., list[StrandWindow]]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BOUND = 2e-5
"""Largest difference of an LLR, in nats, where LLRs are around 10."""


def worst(one: StrandScores, two: StrandScores) -> float:
    assert not np.isnan(one.llr).any()
    assert np.abs(two.llr).max() > 1, "the comparison must be of something"
    return max(float(np.nanmax(np.abs(a - b), initial=0)) for a, b in zip(one, two, strict=True))


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyena_dna.inference.reference_pass.is_fused", lambda _: True)


def wide_filters(made: ImplicitFilter, length: int) -> torch.Tensor:
    kernels: torch.Tensor = made(length)
    return kernels.double()


def in_float64(model: HyenaDNA) -> HyenaDNA:
    """A copy that computes in float64, but with the model's own filters: those are made in float32 either way."""
    exact = copy.deepcopy(model).double()
    for ours, theirs in zip(operators(exact), operators(model), strict=True):
        ours.filter_fn.forward = partial(wide_filters, theirs.filter_fn)  # type: ignore[method-assign]
    return exact


def both(model: HyenaDNA, windows: list[StrandWindow], span: int) -> tuple[StrandScores, StrandScores]:
    scorer = VariantScorer(model, span=span)
    assert isinstance(scorer._delta, FusedDeltaScorer)
    found = scorer.score(windows)
    exact = VariantScorer(in_float64(model), span=span)
    assert not isinstance(exact._delta, FusedDeltaScorer)
    return found, exact.score(windows)


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize(
    "form",
    [{}, {"order": 3}, {"leading_conv": True, "order": 1}, {"short_filter_length": 5}, {"short_filter_length": 1}],
    ids=str,
)
def test_fused_delta_is_exact(make_model: MakeModel, random_windows: Windows, form: dict[str, int]) -> None:
    model = make_model(50, n_layer=2, d_model=4, initializer_range=0.4, **form).to(DEVICE)
    # An SNV and an insertion, each anywhere and at the edge of the window, and a second allele at one place.
    first, _, insertion = random_windows(1, 48, 3)
    edge, *_, last = random_windows(2, 48, 3, low=0, high=2)
    other = first.alt_ids.copy()
    other[first.changed] = 7 + (other[first.changed] - 6) % 4
    assert worst(*both(model, [first, first._replace(alt_ids=other), insertion, edge, last], 30)) < BOUND


@pytest.mark.usefixtures("fused")
def test_places_of_several_alleles_in_several_windows(make_model: MakeModel, random_windows: Windows) -> None:
    model = make_model(50, n_layer=2, d_model=4, initializer_range=0.4).to(DEVICE)
    windows = []
    for number in range(4):
        (snv,) = random_windows(number, 48, 1)
        other = snv.alt_ids.copy()
        other[snv.changed] = 7 + (other[snv.changed] - 6) % 4
        windows += [one._replace(key=("chr1", number, "+")) for one in (snv, snv._replace(alt_ids=other))]
    assert worst(*both(model, windows, 30)) < BOUND


def tensors(tail: LayerTail) -> list[torch.Tensor]:
    return [tail.inputs, *tail.sources, *tail.results, *tail.gates]


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("form", [{}, {"order": 3}, {"leading_conv": True, "order": 1}], ids=str)
@pytest.mark.parametrize("stretch", [Stretch(-2, 20), Stretch(20, 45), Stretch(1, 52)], ids=str)
def test_the_fused_reference_pass_keeps_the_same(make_model: MakeModel, form: dict[str, int], stretch: Stretch) -> None:
    model = make_model(50, n_layer=2, d_model=4, initializer_range=0.4, **form).to(DEVICE)
    ids = torch.from_numpy(np.random.default_rng(0).integers(7, 11, (2, 48))).to(DEVICE)
    with torch.inference_mode():
        found, exact = reference_pass(model, ids, stretch), reference_pass(in_float64(model), ids, stretch)
    pairs = [(found.hidden, exact.hidden), (found.log_probs, exact.log_probs), (found.scores, exact.scores)]
    for ours, theirs in zip(found.layers, exact.layers, strict=True):
        pairs += zip(tensors(ours), tensors(theirs), strict=True)
    inside = slice(max(0, -stretch.start), 48 - stretch.start)
    for index, (left, right) in enumerate(pairs):
        assert left.shape == right.shape
        assert right.any()
        assert (left.double() - right).norm() <= 5e-6 * right.norm(), index
    # The first score of a stretch inside the window lacks its predictor.
    assert (found.scores[:, inside][:, 1:] != 0).all()


@pytest.mark.gpu
@pytest.mark.parametrize(("window", "bound"), [(1024, 1e-4), (32_768, 1e-4), (1_000_000, 1e-3)])
@pytest.mark.parametrize("width", [16, 96])
def test_fused_delta_on_a_gpu(
    make_model: MakeModel, random_windows: Windows, window: int, bound: float, width: int
) -> None:
    # Nothing is patched: on a GPU this is what runs.
    initial = 0.2 * (16 / width) ** 0.5
    model = make_model(window + 2, d_model=width, initializer_range=initial).to(DEVICE)
    windows = random_windows(3, window, 20, low=window // 2)
    assert worst(*both(model, windows, 1024)) < bound
