"""A sample's own phased variants as the context of the variant that is scored."""

from __future__ import annotations

import bisect
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from hyena_dna.datasets.alleles import AlleleWindows, StrandWindow, WindowSpec
from hyena_dna.errors import InputError
from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.genome.variants import Trimmed, classify, trim
from hyena_dna.genome.vcf import VariantSource, split_record
from hyena_dna.tokenizer import Tokenizer

__all__ = ["Carried", "SampleHaplotypes", "read_haplotypes"]

logger = logging.getLogger("hyena_dna")

_GENOTYPE = re.compile(r"([0-9.]+)(?:([|/])([0-9.]+))?")
_TOKENIZER = Tokenizer()

Bases = Callable[[str, int, int], bytes]


class Carried(NamedTuple):
    """A phased allele that a sample carries.

    Attributes:
        change: what it replaces, trimmed.
        haplotypes: on the first, on the second.
        phase_set: its PS value; None where it has none or where both haplotypes carry it.
    """

    change: Trimmed
    haplotypes: tuple[bool, bool]
    phase_set: str | None


class SampleHaplotypes:
    """A sample's phased variants, and windows in which they are applied.

    An allele that the sample carries is scored on the haplotype that carries it (the first one, if both do), any other
    allele on the first haplotype. Applied are variants of that haplotype and of the same phase set that do not overlap
    the scored one; of those that overlap each other, the one nearer to the scored variant.

    Args:
        sample: its name.
        carried: its alleles by contig, in order of position.
        bases: gives upper-case ACGTN of a stretch (contig, start, end), N beyond the contig's ends.
        contigs: length in bp of every contig.
        spec: where the windows lie.
    """

    def __init__(
        self,
        sample: str,
        carried: Mapping[str, list[Carried]],
        bases: Bases,
        contigs: Mapping[str, int],
        spec: WindowSpec,
    ) -> None:
        self._sample = sample
        self._carried = carried
        self._bases = bases
        self._contigs = contigs
        self._spec = spec

    def windows(self, chrom: str, trimmed: Trimmed) -> AlleleWindows:
        """The windows of one variant on the sample's haplotype.

        Args:
            chrom: contig name.
            trimmed: the variant; neither allele longer than the room of the specification.
        """
        spec, length = self._spec, self._contigs[chrom]
        start, ref, alt = trimmed
        reverse_start = length - trimmed.end
        before, before_reverse = start - spec.start(start), reverse_start - spec.start(reverse_start)
        context = _Context(chrom, self._context(chrom, trimmed), self._bases, length)
        left = context.left(start, max(before, spec.window - before_reverse))
        right = context.right(trimmed, max(before_reverse, spec.window - before))
        name = f"{chrom}|{self._sample}|{start}:{ref}>{alt}"
        forward = _window((name, start - before, "+"), left, ref.encode(), alt.encode(), right, before, spec.window)
        reverse = _window(
            (name, trimmed.end + before_reverse - spec.window, "-"),
            reverse_complement(right),
            reverse_complement(ref.encode()),
            reverse_complement(alt.encode()),
            reverse_complement(left),
            before_reverse,
            spec.window,
        )
        unknown = left.count(b"N") + right.count(b"N") - context.beyond
        return AlleleWindows(
            forward, reverse, context.beyond > 0, unknown / max(1, len(left) + len(right) - context.beyond)
        )

    def windows_of(self, changes: Sequence[tuple[str, Trimmed]]) -> list[AlleleWindows]:
        """The windows of many variants: contig and change, as for `windows`."""
        return [self.windows(chrom, trimmed) for chrom, trimmed in changes]

    def _context(self, chrom: str, trimmed: Trimmed) -> list[Trimmed]:
        """The sample's other changes on the haplotype of this one."""
        carried = self._carried.get(chrom, [])
        reach = 2 * self._spec.window
        low = bisect.bisect_left(carried, trimmed.start - reach, key=lambda one: one.change.start)
        high = bisect.bisect_right(carried, trimmed.end + reach, key=lambda one: one.change.start)
        near = carried[low:high]
        own = next((one for one in near if one.change == trimmed), None)
        haplotype = 1 if own and not own.haplotypes[0] else 0
        return [
            one.change
            for one in near
            if one is not own
            and one.haplotypes[haplotype]
            and (all(one.haplotypes) or own is None or all(own.haplotypes) or one.phase_set == own.phase_set)
            and not _overlap(one.change, trimmed)
        ]


def _overlap(one: Trimmed, two: Trimmed) -> bool:
    # Two insertions at one place are alternatives to each other.
    if one.start == one.end == two.start == two.end:
        return True
    return max(one.start, two.start) < min(one.end, two.end)


def _window(
    key: tuple[str, int, str], left: bytes, ref: bytes, alt: bytes, right: bytes, before: int, window: int
) -> StrandWindow:
    left = left[len(left) - before :]
    rows = [_TOKENIZER.encode((left + allele + right)[:window]) for allele in (ref, alt)]
    return StrandWindow(key, rows[0], rows[1], before, len(ref), len(alt))


class _Context:
    """The bases beside a variant, with other changes applied."""

    def __init__(self, chrom: str, changes: list[Trimmed], bases: Bases, length: int) -> None:
        self._chrom = chrom
        self._changes = changes
        self._bases = bases
        self._length = length
        self.beyond = 0

    def left(self, start: int, wanted: int) -> bytes:
        """The last `wanted` bases before `start`."""
        pieces: list[bytes] = []
        missing, cursor = wanted, start
        for change in reversed(self._changes):
            if change.end > cursor:
                continue
            if cursor - change.end >= missing:
                break
            pieces += [self._bases(self._chrom, change.end, cursor), change.alt.encode()]
            missing -= cursor - change.end + len(change.alt)
            cursor = change.start
            if missing <= 0:
                break
        if missing > 0:
            pieces.append(self._bases(self._chrom, cursor - missing, cursor))
            self.beyond += max(0, missing - max(0, cursor))
        joined = b"".join(reversed(pieces))
        return joined[len(joined) - wanted :]

    def right(self, trimmed: Trimmed, wanted: int) -> bytes:
        """The first `wanted` bases after a variant."""
        pieces: list[bytes] = []
        missing, cursor = wanted, trimmed.end
        for change in self._changes:
            # What ends before the variant belongs to its left, also an insertion exactly there.
            if change.start < cursor or change.end <= trimmed.start:
                continue
            if change.start - cursor >= missing:
                break
            pieces += [self._bases(self._chrom, cursor, change.start), change.alt.encode()]
            missing -= change.start - cursor + len(change.alt)
            cursor = change.end
            if missing <= 0:
                break
        if missing > 0:
            pieces.append(self._bases(self._chrom, cursor, cursor + missing))
            self.beyond += min(missing, max(0, cursor + missing - self._length))
        return b"".join(pieces)[:wanted]


def read_haplotypes(
    source: VariantSource, sample: str, contig: Callable[[str], str | None]
) -> dict[str, list[Carried]]:
    """Read the phased alleles of one sample. Memory grows with the number of alleles that the sample carries.

    Phased are genotypes with `|` and homozygous ones. Unphased heterozygous genotypes are counted and left out.

    Args:
        source: the variants with genotypes.
        sample: name of the sample.
        contig: translates a contig name to the genome's; None where it has none.

    Returns:
        Alleles by contig, in order of position.

    Raises:
        InputError: there is no such sample, or the file is damaged.
    """
    samples = source.header.samples
    if sample not in samples:
        listed = ", ".join(samples[:5]) or "none"
        raise InputError(f"there is no sample {sample!r}", file=source.name, remedy=f"the samples are: {listed}")
    column, width = samples.index(sample) + 1, source.header.width
    found: dict[str, list[Carried]] = {}
    unphased = 0
    for number, line in source.lines:
        fields = split_record(line, number, width, source.name)
        keys, values = (text.split(":") for text in _columns(fields[8], 0, column))
        genotype = dict(zip(keys, values, strict=False))
        match = _GENOTYPE.fullmatch(genotype.get("GT", "."))
        if match is None:
            continue
        first, bar, second = match[1], match[2], match[3] or match[1]
        if bar != "|" and first != second:
            unphased += 1
            continue
        phase = genotype.get("PS", ".") if first != second else "."
        name = contig(fields[0].decode("utf-8", "replace"))
        if name is not None:
            ref, alts = fields[3].decode("latin-1").upper(), fields[4].decode("latin-1").upper().split(",")
            found.setdefault(name, []).extend(
                _carried(int(fields[1]) - 1, ref, alts, (first, second), None if phase == "." else phase)
            )
    if unphased:
        logger.warning("%s: %d unphased heterozygous genotypes of %s are not applied", source.name, unphased, sample)
    for alleles in found.values():
        alleles.sort(key=lambda one: one.change)
    return found


def _columns(rest: bytes, *wanted: int) -> list[str]:
    columns = rest.split(b"\t", max(wanted) + 1)
    return [columns[index].decode("latin-1") for index in wanted]


def _carried(
    start: int, ref: str, alts: list[str], genotype: tuple[str, str], phase_set: str | None
) -> Iterable[Carried]:
    for index, alt in enumerate(alts, 1):
        haplotypes = (genotype[0] == str(index), genotype[1] == str(index))
        if any(haplotypes) and start >= 0 and classify(ref, alt) == "ok":
            yield Carried(trim(start, ref, alt), haplotypes, phase_set)
