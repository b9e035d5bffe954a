"""Windows that hold a variant: reference and alternative of equal length, on both strands, sharing a causal prefix.

Everything is said once, in the coordinates of a strand: position p of the forward strand is position L - 1 - p of the
reverse strand of a contig of L bp. A window starts at a multiple of the grid of its own strand, at or before
`s - offset`, where s is the first changed base on that strand. So scoring the reverse complement of a genome swaps the
two strands exactly, and which window a variant gets depends on its place, the window and the grid alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.genome.variants import Trimmed
from hyena_dna.tokenizer import ENCODE, N, Tokenizer

__all__ = [
    "EXACT_LIMIT",
    "AlleleWindows",
    "Fetch",
    "Ids",
    "Position",
    "Strand",
    "StrandWindow",
    "WindowSpec",
    "allele_windows",
    "both_strands",
]

Ids = NDArray[np.uint8]
Fetch = Callable[[Interval], bytes]
Position = Literal["center", "left", "right"]

EXACT_LIMIT = 8192
"""bp up to which windows have their variant in the exact centre; longer ones are shared by neighbours."""

_TOKENIZER = Tokenizer()
# Alleles are a few bases long: byte tables are faster on them than array arithmetic.
_ENCODE_COMPLEMENT = reverse_complement(bytes(range(256)))[::-1].translate(ENCODE)


class WindowSpec(NamedTuple):
    """Where a window lies about a variant. Made by `WindowSpec.make`.

    Attributes:
        window: length in bp.
        position: place of the variant in the window, in the direction of the strand.
        grid: windows start at multiples of this many bp.
    """

    window: int
    position: Position
    grid: int

    @classmethod
    def make(cls, window: int, position: Position = "center", grid: int | None = None) -> WindowSpec:
        """Check and complete a specification.

        Args:
            window: length in bp, at least 8.
            position: `center`; `left` leaves an eighth of the window to a quarter before the variant; `right` leaves
                at least an eighth from the variant on.
            grid: by default 1, every window exactly placed, up to 8,192 bp, and an eighth of the window above, so
                that neighbouring variants share reference windows.

        Raises:
            InputError: the window is too short or the grid is not between 1 and an eighth of the window.
        """
        if window < 8:
            raise InputError(f"a window of {window} bp is too short", remedy="use at least 8 bp")
        grid = (1 if window <= EXACT_LIMIT else window // 8) if grid is None else grid
        if not 1 <= grid <= window // 8:
            raise InputError(f"a grid of {grid} bp does not fit a window of {window} bp", remedy=f"1 to {window // 8}")
        return cls(window, position, grid)

    @property
    def offset(self) -> int:
        """The least number of bases before the first changed base."""
        if self.position == "center":
            return self.window // 2
        eighth = self.window // 8
        return eighth if self.position == "left" else self.window - eighth - (self.grid - 1)

    @property
    def room(self) -> int:
        """The longest allele, in bp, that ends inside the window wherever the grid puts it."""
        return self.window - self.offset - (self.grid - 1)

    def start(self, s: int) -> int:
        """First base of the window of a variant whose first changed base is `s`, both 0-based on one strand."""
        return (s - self.offset) // self.grid * self.grid


class StrandWindow(NamedTuple):
    """The two alleles of a variant in their context, in the direction of one strand.

    Attributes:
        key: contig, start of the reference window on the forward strand (0-based) and strand: equal keys, equal
            `ref_ids`.
        ref_ids: (window,) token ids with the reference allele; shared between windows of equal key, not to be changed.
        alt_ids: (window,) token ids with the alternative allele.
        changed: index of the first changed token; `ref_ids[:changed]` equals `alt_ids[:changed]`.
        n_ref: bases of the trimmed reference allele.
        n_alt: bases of the trimmed alternative allele.
    """

    key: tuple[str, int, str]
    ref_ids: Ids
    alt_ids: Ids
    changed: int
    n_ref: int
    n_alt: int


class AlleleWindows(NamedTuple):
    """A variant's windows on both strands.

    Attributes:
        forward: on the forward strand, anchored left of the variant.
        reverse: on the reverse strand, anchored right of the variant.
        edge_padded: a window reaches beyond an end of the contig and is filled with N there.
        n_fraction: largest share of N among the bases of a reference window that lie on the contig.
    """

    forward: StrandWindow
    reverse: StrandWindow
    edge_padded: bool
    n_fraction: float


class Strand(NamedTuple):
    """One strand of one contig.

    Attributes:
        chrom: contig name.
        sign: "+" or "-".
        length: length of the contig in bp.
        read: gives the token ids between two positions of the strand, N beyond its ends; not to be changed.
    """

    chrom: str
    sign: str
    length: int
    read: Callable[[int, int], Ids]


def _strand_window(strand: Strand, s: int, n_ref: int, alt: Ids, spec: WindowSpec) -> StrandWindow:
    window, start = spec.window, spec.start(s)
    changed, n_alt = s - start, len(alt)
    ref_ids = strand.read(start, start + window)
    alt_ids = ref_ids.copy()
    alt_ids[changed : changed + n_alt] = alt
    if n_ref != n_alt:
        rest = changed + n_alt
        alt_ids[rest:] = strand.read(s + n_ref, s + n_ref + window - rest)
    genomic = start if strand.sign == "+" else strand.length - start - window
    return StrandWindow((strand.chrom, genomic, strand.sign), ref_ids, alt_ids, changed, n_ref, n_alt)


def _n_fraction(window: StrandWindow, contig_length: int) -> float:
    """Share of N among the bases on the contig; what lies beyond its ends is N too and is taken off."""
    start, size = window.key[1], len(window.ref_ids)
    beyond = max(0, -start) + max(0, start + size - contig_length)
    return (int(np.count_nonzero(window.ref_ids == N)) - beyond) / max(1, size - beyond)


def both_strands(
    forward: Strand, reverse: Strand, trimmed: Trimmed, spec: WindowSpec, *, n_free: bool
) -> AlleleWindows:
    """The windows of one variant.

    Args:
        forward: the forward strand of its contig.
        reverse: the reverse strand.
        trimmed: the variant; neither allele longer than `spec.room`.
        spec: where the window lies.
        n_free: the contig is known to have no N near the variant.
    """
    length = forward.length
    ref, alt = trimmed.ref.encode("ascii"), trimmed.alt.encode("ascii")
    assert max(len(ref), len(alt)) <= spec.room, "alleles longer than the window's room have no windows"
    one = _strand_window(forward, trimmed.start, len(ref), np.frombuffer(alt.translate(ENCODE), np.uint8), spec)
    alt_reverse = np.frombuffer(alt[::-1].translate(_ENCODE_COMPLEMENT), np.uint8)
    two = _strand_window(reverse, length - trimmed.end, len(ref), alt_reverse, spec)
    # A deletion draws bases from beyond the reference window into the alternative one.
    extra = max(0, len(ref) - len(alt))
    low = min(one.key[1], two.key[1] - extra)
    high = max(one.key[1] + extra, two.key[1]) + spec.window
    share = 0.0 if n_free else max(_n_fraction(one, length), _n_fraction(two, length))
    return AlleleWindows(one, two, low < 0 or high > length, share)


def allele_windows(
    fetch: Fetch, contig_length: int, trimmed: Trimmed, spec: WindowSpec, *, chrom: str
) -> AlleleWindows:
    """The windows of one variant, read afresh. `TokenTiles.windows` gives the same for many, faster.

    Args:
        fetch: gives upper-case ACGTN of an interval, N beyond the contig's ends, as `Reference.fetch` does.
        contig_length: length of the contig in bp.
        trimmed: the variant; neither allele longer than `spec.room`.
        spec: where the window lies.
        chrom: contig name.

    Returns:
        Windows of `spec.window` tokens. Forward, the alternative is cut or extended on the right; reverse, on the left
        of the genome, then reverse-complemented.
    """

    def read(start: int, end: int) -> Ids:
        return _TOKENIZER.encode(fetch(Interval(chrom, start, end)))

    def read_reverse(start: int, end: int) -> Ids:
        return _TOKENIZER.reverse_complement(read(contig_length - end, contig_length - start))

    return both_strands(
        Strand(chrom, "+", contig_length, read),
        Strand(chrom, "-", contig_length, read_reverse),
        trimmed,
        spec,
        n_free=False,
    )
