"""What a substitution scores on average in its trinucleotide context, at random sites of the genome."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.alleles import AlleleWindows, StrandWindow
from hyena_dna.errors import InputError
from hyena_dna.files import atomic_open
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.variants import Trimmed
from hyena_dna.paths import cache_root

__all__ = ["Background", "SubstitutionScorer", "Tiles", "background_scores", "contexts", "known_background"]

_log = logging.getLogger("hyena_dna")

_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_FORMAT = "hyena-dna-background"
_FORMAT_VERSION = 1
_DRAWS = 4096
_LEAST_SITES = 10
# The rarest context of the human genome, around CG, is one site in three hundred.
_MOST_DRAWS_PER_SITE = 4000
_AT_ONCE = 128
_PROGRESS_SECONDS = 10.0


class Tiles(Protocol):
    """Gives bases and windows, as `hyena_dna.datasets.token_tiles.TokenTiles`."""

    @property
    def contigs(self) -> Mapping[str, int]:
        """Length in bp of every contig."""

    @property
    def fetch(self) -> Callable[[Interval], bytes]:
        """Gives upper-case ACGTN of an interval."""

    def windows(self, chrom: str, trimmed: Trimmed) -> AlleleWindows:
        """Windows of a variant."""


class SubstitutionScorer(Protocol):
    """Mean log-likelihood ratio of both strands of many variants."""

    def __call__(self, windows: list[AlleleWindows]) -> list[float]:
        """Score variants, in nats, in their order."""


class _Ratios(Protocol):
    @property
    def llr(self) -> NDArray[np.float64]: ...


class _StrandScorer(Protocol):
    def score(self, windows: Sequence[StrandWindow]) -> _Ratios: ...


class Background(NamedTuple):
    """Mean scores of trinucleotide substitutions.

    Attributes:
        mean: nats, by context such as `ACG>ATG`; contexts are those of the strand whose middle base is C or A.
        sites: how many sites each mean is of.
        seed: what the sites were drawn with.
    """

    mean: dict[str, float]
    sites: dict[str, int]
    seed: int

    def of(self, before: str, ref: str, after: str, alt: str) -> float:
        """The mean score of a substitution between its neighbours on either strand; NaN where it is not known."""
        return self.mean.get(_context(before + ref + after, alt), float("nan"))

    def save(self, path: Path, *, identity: Mapping[str, str]) -> None:
        """Write the table, with what it was made from."""
        document = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "identity": dict(identity), **self._asdict()}
        with atomic_open(path, "w") as handle:
            json.dump(document, handle, indent=1)

    @classmethod
    def load(cls, path: Path, *, identity: Mapping[str, str]) -> Background | None:
        """Read a table; None where there is none, or it was made from something else."""
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"cannot be read: {error}", file=path, remedy="delete it") from error
        expected = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "identity": dict(identity)}
        if {name: document.get(name) for name in expected} != expected:
            return None
        return cls(document["mean"], document["sites"], document["seed"])

    @staticmethod
    def file_name(identity: Mapping[str, str]) -> str:
        """A file name that tells tables of different models, genomes and settings apart."""
        digest = hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()
        return f"background-{digest[:32]}.json"


def contexts() -> list[str]:
    """The 96 substitutions in context, such as `ACG>ATG`, each standing for itself and its reverse complement."""
    return [
        f"{before}{ref}{after}>{before}{alt}{after}"
        for ref in "AC"
        for alt in "ACGT"
        if alt != ref
        for before in "ACGT"
        for after in "ACGT"
    ]


def _context(trinucleotide: str, alt: str) -> str:
    if trinucleotide[1] in "GT":
        trinucleotide = trinucleotide[::-1].translate(_COMPLEMENT)
        alt = alt.translate(_COMPLEMENT)
    return f"{trinucleotide}>{trinucleotide[0]}{alt}{trinucleotide[2]}"


def background_scores(
    tiles: Tiles, score: SubstitutionScorer, *, sites: int = 200, seed: int = 0, max_n_fraction: float = 0.1
) -> Background:
    """Score each trinucleotide substitution at random sites of the genome.

    Sites are drawn uniformly over all contigs, on both strands, the same ones for a seed and a genome. Every site is
    scored with the three substitutions of its middle base, so a context needs `sites` of its 32 trinucleotides.

    Args:
        tiles: the genome.
        score: mean score of both strands.
        sites: how many sites of each trinucleotide. Fewer are used where the genome has too few, which is logged.
        seed: decides the sites.
        max_n_fraction: sites whose window holds a larger share of N are not used.

    Raises:
        InputError: `sites` is too small, or no site of the genome can be scored.
    """
    if sites < _LEAST_SITES:
        raise InputError(f"a background of {sites} sites is no average", remedy=f"use at least {_LEAST_SITES}")
    chosen: dict[str, set[tuple[str, int]]] = {}
    for trinucleotide, chrom, start in _draw(tiles, seed, most=_MOST_DRAWS_PER_SITE * sites):
        own = chosen.setdefault(_context(trinucleotide, "N")[:3], set())
        if len(own) < sites:
            own.add((chrom, start))
            if len(chosen) == 32 and all(len(own) == sites for own in chosen.values()):
                break
    # Neighbouring sites share reference windows.
    places = sorted(place for own in chosen.values() for place in own)
    sums: dict[str, list[float]] = {}
    shown = time.monotonic()
    for first in range(0, len(places), _AT_ONCE):
        if time.monotonic() - shown > _PROGRESS_SECONDS:
            shown = time.monotonic()
            _log.info("background: %d of %d sites", first, len(places))
        names, windows = [], []
        for chrom, start in places[first : first + _AT_ONCE]:
            trinucleotide = tiles.fetch(Interval(chrom, start - 1, start + 2)).decode("ascii")
            for index in range(3):
                change = _substitution(trinucleotide, start, index)
                found = tiles.windows(chrom, change)
                if found.n_fraction <= max_n_fraction:
                    names.append(_context(trinucleotide, change.alt))
                    windows.append(found)
        for name, value in zip(names, score(windows), strict=True):
            sums.setdefault(name, []).append(value)
    known = [name for name in contexts() if name in sums]
    if not known:
        raise InputError("the genome has no site that can be scored for a background")
    fewest = min(len(sums[name]) for name in known)
    if len(known) < 96 or fewest < sites:
        _log.warning("background: %d of 96 substitutions have sites, the rarest %d of %d", len(known), fewest, sites)
    return Background(
        {name: float(np.mean(sums[name])) for name in known}, {name: len(sums[name]) for name in known}, seed
    )


def known_background(
    tiles: Tiles,
    scorer: _StrandScorer,
    identity: Mapping[str, str],
    *,
    sites: int,
    seed: int,
    max_n_fraction: float,
) -> Background:
    """The background of a model on a genome: the one that an earlier run left in the user's cache, or a new one.

    Args:
        tiles: the genome.
        scorer: scores windows, each on its own strand.
        identity: everything that decides the result.
        sites: see `background_scores`, as are `seed` and `max_n_fraction`.

    Raises:
        InputError: see `background_scores`; the kept table cannot be read.
    """
    path = cache_root() / "background" / Background.file_name(identity)
    found = Background.load(path, identity=identity)
    if found is not None:
        _log.info("background: %s", path)
        return found

    def score(windows: list[AlleleWindows]) -> list[float]:
        ratios = scorer.score([one.forward for one in windows] + [one.reverse for one in windows]).llr
        means: list[float] = ratios.reshape(2, -1).mean(0).tolist()
        return means

    _log.info("background: scoring %d sites of each trinucleotide, once for this model and genome", sites)
    found = background_scores(tiles, score, sites=sites, seed=seed, max_n_fraction=max_n_fraction)
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save(path, identity=identity)
    return found


def _substitution(trinucleotide: str, start: int, index: int) -> Trimmed:
    ref = trinucleotide[1]
    return Trimmed(start, ref, [base for base in "ACGT" if base != ref][index])


def _draw(tiles: Tiles, seed: int, *, most: int) -> Iterator[tuple[str, str, int]]:
    """Random sites: the three bases around each, its contig and its 0-based position. Sites next to N are left out."""
    names = [name for name, length in tiles.contigs.items() if length >= 3]
    if not names:
        return
    ends = np.cumsum([tiles.contigs[name] - 2 for name in names])
    rng = np.random.default_rng(seed)
    for _ in range(0, most, _DRAWS):
        for place in rng.integers(0, ends[-1], _DRAWS).tolist():
            index = int(np.searchsorted(ends, place, side="right"))
            start = 1 + place - (int(ends[index - 1]) if index else 0)
            bases = tiles.fetch(Interval(names[index], start - 1, start + 2))
            if b"N" not in bases:
                yield bases.decode("ascii"), names[index], start
