"""`score_variants`: both strands of variants of a genome, a status for each, whatever else is scored with them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hyena_dna.errors import InputError
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.genome.variants import Variant
from hyena_dna.inference.variant_effects import VariantScore, score_variants
from hyena_dna.model.model import HyenaDNA

LENGTH = 3000


def write(path: Path, sequence: bytes) -> Reference:
    path.write_bytes(b">chr1\n" + sequence + b"\n")
    return Reference(path)


@pytest.fixture(scope="module")
def sequence() -> bytes:
    bases = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(0).integers(0, 4, LENGTH)].copy()
    bases[2000:2100] = ord("N")
    return bases.tobytes()


@pytest.fixture
def reference(tmp_path: Path, sequence: bytes) -> Reference:
    return write(tmp_path / "one.fa", sequence)


def variants(sequence: bytes, seed: int = 1, count: int = 15) -> list[Variant]:
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        start = int(rng.integers(200, 1700))
        ref = sequence[start : start + (1, 3, 6)[index % 3]].decode()
        alt = {"A": "C", "C": "G", "G": "T", "T": "A"}[ref[0]] + ("", "", "GATTACA")[index % 3]
        found.append(Variant("chr1", start + 1, ref, alt))
    return found


def assert_close(one: list[VariantScore], two: list[VariantScore], bound: float) -> None:
    for a, b in zip(one, two, strict=True):
        assert a.status == b.status
        np.testing.assert_allclose(a[:5], b[:5], atol=bound, rtol=0)


def test_scores_have_names_and_are_means_of_strands(
    make_model: Callable[..., HyenaDNA], reference: Reference, sequence: bytes
) -> None:
    scores = score_variants(make_model(), reference, variants(sequence), window=128)
    for score in scores:
        assert score.status == "ok"
        assert score.llr == pytest.approx((score.llr_fwd + score.llr_rev) / 2)
        assert score.llr_fwd != score.llr_rev
        assert score.dist > 0
        assert math.isfinite(score.llr_norm)


def test_methods_spans_and_grids(make_model: Callable[..., HyenaDNA], reference: Reference, sequence: bytes) -> None:
    model = make_model().double()
    for options in ({"span": 20}, {"grid": 16}, {"position": "left"}, {"position": "right", "grid": 8}):
        one, two = (
            score_variants(model, reference, variants(sequence), window=128, method=method, **options)
            for method in ("delta", "two_pass")
        )
        assert_close(one, two, 1e-10)


def test_a_score_does_not_depend_on_the_other_variants(
    make_model: Callable[..., HyenaDNA], reference: Reference, sequence: bytes
) -> None:
    model, chosen = make_model(), variants(sequence)
    together = score_variants(model, reference, chosen, window=128, grid=16)
    alone = [score_variants(model, reference, [variant], window=128, grid=16)[0] for variant in chosen]
    assert_close(together, alone, 1e-5)
    backwards = score_variants(model, reference, chosen[::-1], window=128, grid=16, batch_size=2)
    assert_close(together, backwards[::-1], 1e-5)


def test_the_other_strand_of_the_genome_swaps_the_strands(
    make_model: Callable[..., HyenaDNA], reference: Reference, sequence: bytes, tmp_path: Path
) -> None:
    model, chosen = make_model().double(), variants(sequence)
    other = write(tmp_path / "other.fa", reverse_complement(sequence))
    turned = [
        Variant(
            "chr1",
            LENGTH - one.end + 1,
            reverse_complement(one.ref.encode()).decode(),
            reverse_complement(one.alt.encode()).decode(),
        )
        for one in chosen
        if len(one.ref) == len(one.alt)
    ]
    there = score_variants(model, reference, [one for one in chosen if len(one.ref) == len(one.alt)], window=128)
    back = score_variants(model, other, turned, window=128)
    for a, b in zip(there, back, strict=True):
        assert (a.llr_fwd, a.llr_rev) == pytest.approx((b.llr_rev, b.llr_fwd), abs=1e-10)


@pytest.mark.parametrize(("n_ref", "n_alt"), [(1, 1), (4, 1), (1, 5), (3, 2)])
def test_undoing_a_change_scores_the_opposite(
    make_model: Callable[..., HyenaDNA], reference: Reference, sequence: bytes, tmp_path: Path, n_ref: int, n_alt: int
) -> None:
    # With grid 1 the windows of both directions hold the same bases.
    model, start = make_model().double(), 1000
    ref = sequence[start : start + n_ref]
    # Another base than the reference's first and last, so that nothing is trimmed.
    alt = bytes([next(base for base in b"ACGT" if base not in (ref[0], ref[-1]))]) * n_alt
    changed = write(tmp_path / "changed.fa", sequence[:start] + alt + sequence[start + n_ref :])
    (there,) = score_variants(model, reference, [Variant("chr1", start + 1, ref.decode(), alt.decode())], window=128)
    (back,) = score_variants(model, changed, [Variant("chr1", start + 1, alt.decode(), ref.decode())], window=128)
    assert there.llr == pytest.approx(-back.llr, abs=1e-10)
    assert there.llr_norm == pytest.approx(-back.llr_norm, abs=1e-10)
    assert there.dist == pytest.approx(back.dist, abs=1e-10)
    assert abs(there.llr) > 1e-3


def test_every_variant_has_a_status(make_model: Callable[..., HyenaDNA], reference: Reference, sequence: bytes) -> None:
    base = sequence[10:11].decode()
    wrong = "A" if base != "A" else "C"
    cases = [
        (Variant("chr1", 11, base, base), "no_alt"),
        (Variant("chr1", 11, base, "<DEL>"), "symbolic"),
        (Variant("chr1", 11, base, "*"), "spanning_deletion"),
        (Variant("chr2", 11, base, "A"), "contig_unknown"),
        (Variant("chr1", LENGTH + 1, "A", "C"), "out_of_range"),
        (Variant("chr1", 11, wrong, base), "ref_mismatch"),
        (Variant("chr1", 2051, "A", "C"), "ref_not_acgt"),
        (Variant("chr1", 501, sequence[500:501].decode(), sequence[500:501].decode() + "A" * 200), "too_long"),
        (Variant("chr1", 1998, sequence[1997:1998].decode(), "AC"), "n_fraction"),
        (Variant("chr1", 11, base, wrong), "ok|edge_padded"),
    ]
    scores = score_variants(make_model(), reference, [variant for variant, _ in cases], window=128)
    assert [score.status for score in scores] == [status for _, status in cases]
    assert [math.isnan(score.llr) for score in scores] == [not status.startswith("ok") for _, status in cases]


def test_no_variants_and_too_long_windows(make_model: Callable[..., HyenaDNA], reference: Reference) -> None:
    assert score_variants(make_model(), reference, [], window=128) == []
    with pytest.raises(InputError, match="longer than the model's"):
        score_variants(make_model(130), reference, [], window=1024)
