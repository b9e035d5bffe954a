"""The background of a substitution is the mean of the same one elsewhere, whichever strand it is written on."""

from __future__ import annotations

import logging
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hyena_dna.datasets.alleles import AlleleWindows, WindowSpec
from hyena_dna.datasets.token_tiles import TokenTiles
from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.inference.background import Background, background_scores, contexts

BASES = "ACGT"


def make_tiles(sequence: bytes) -> TokenTiles:
    def fetch(interval: Interval) -> bytes:
        inside = interval.clip(len(sequence))
        left, right = max(0, -interval.start), max(0, interval.end - len(sequence))
        return b"N" * left + sequence[inside.start : inside.end] + b"N" * right

    return TokenTiles(fetch, {"chr1": len(sequence)}, WindowSpec.make(16))


def random_sequence(length: int) -> bytes:
    return np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(0).integers(0, 4, length)].tobytes()


class Scorer:
    """Scores a substitution by its reference and alternative base, and remembers where it was asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def __call__(self, windows: list[AlleleWindows]) -> list[float]:
        values = []
        for one in windows:
            forward = one.forward
            ref, alt = (int(ids[forward.changed]) - 7 for ids in (forward.ref_ids, forward.alt_ids))
            before, after = (int(forward.ref_ids[forward.changed + step]) - 7 for step in (-1, 1))
            place = forward.key[1] + forward.changed
            self.seen.append((BASES[before] + BASES[ref] + BASES[after] + BASES[alt], place))
            # The same for both strands: complements add up to 3.
            values.append(float(min(10 * ref + alt, 10 * (3 - ref) + 3 - alt)))
        return values


def test_there_are_96_contexts() -> None:
    assert len(set(contexts())) == 96
    assert all(name[1] in "AC" and name[1] != name[5] and name[0] == name[4] for name in contexts())


def test_means_by_context() -> None:
    scorer = Scorer()
    background = background_scores(make_tiles(random_sequence(20_000)), scorer, sites=20)
    assert set(background.mean) == set(contexts())
    assert set(background.sites.values()) == {20}
    for name, value in background.mean.items():
        ref, alt = BASES.index(name[1]), BASES.index(name[5])
        assert value == min(10 * ref + alt, 10 * (3 - ref) + 3 - alt)
    assert background.of("A", "C", "G", "T") == background.mean["ACG>ATG"]
    assert background.of("C", "G", "T", "A") == background.mean["ACG>ATG"], "the same change on the other strand"
    assert math.isnan(background.of("A", "N", "G", "T"))
    counts = Counter(scorer.seen)
    assert max(counts.values()) == 1, "no site counts twice"


def test_sites_lie_all_over_the_genome() -> None:
    scorer = Scorer()
    background_scores(make_tiles(random_sequence(40_000)), scorer, sites=40)
    places = np.array([place for _, place in scorer.seen])
    # Sites taken in the order of the genome would come from its beginning.
    assert 0.4 < places.mean() / 40_000 < 0.6
    assert places.max() > 39_000


def test_the_seed_decides() -> None:
    tiles = make_tiles(random_sequence(20_000))
    seen = []
    for seed in (0, 0, 1):
        scorer = Scorer()
        background_scores(tiles, scorer, sites=10, seed=seed)
        seen.append(scorer.seen)
    assert seen[0] == seen[1] != seen[2]


def test_rare_contexts_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="hyena_dna"):
        background = background_scores(make_tiles(b"ACGTTGCA" * 100), Scorer(), sites=10)
    assert "of 96 substitutions" in caplog.text
    assert 0 < len(background.mean) < 96


def test_a_genome_without_sites() -> None:
    with pytest.raises(InputError, match="no site"):
        background_scores(make_tiles(b"N" * 1000), Scorer(), sites=10)
    with pytest.raises(InputError, match="no average"):
        background_scores(make_tiles(random_sequence(100)), Scorer(), sites=1)


def test_tables_are_kept_for_what_they_were_made_from(tmp_path: Path) -> None:
    table = Background({"ACG>ATG": -0.5}, {"ACG>ATG": 10}, 3)
    identity = {"model": "abc", "window": "1024"}
    path = tmp_path / Background.file_name(identity)
    assert Background.load(path, identity=identity) is None
    table.save(path, identity=identity)
    assert Background.load(path, identity=identity) == table
    assert Background.load(path, identity=identity | {"window": "16"}) is None
    assert Background.file_name(identity) != Background.file_name(identity | {"model": "abd"})
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        Background.load(path, identity=identity)
