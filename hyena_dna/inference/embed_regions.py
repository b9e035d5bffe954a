"""Regions of a run in a few bytes each: a list of `Region` takes 450."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from hyena_dna.genome.interval import Interval
from hyena_dna.genome.region_collector import Region

__all__ = ["PackedRegions"]


class PackedRegions:
    """Regions that can only be read in order, again and again; their line in the file is forgotten.

    A region takes about 40 bytes and its name. Contigs, strands, labels and splits are kept once each.

    Args:
        regions: to be packed.
    """

    def __init__(self, regions: Iterable[Region]) -> None:
        self._texts: dict[str | None, int] = {}
        self._codes = tuple(array("i") for _ in range(4))
        self._starts, self._ends = array("q"), array("q")
        self._names, self._name_ends = bytearray(), array("q")
        self.bases = 0
        """bp of all regions."""
        for region in regions:
            place = region.interval
            for codes, text in zip(self._codes, (place.chrom, place.strand, region.label, region.split), strict=True):
                codes.append(self._texts.setdefault(text, len(self._texts)))
            self._starts.append(place.start)
            self._ends.append(place.end)
            self._names += region.name.encode("utf-8", "surrogateescape")
            self._name_ends.append(len(self._names))
            self.bases += place.length

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Region]:
        texts = list(self._texts)
        first = 0
        for start, end, last, *codes in zip(self._starts, self._ends, self._name_ends, *self._codes, strict=True):
            chrom, strand, label, split = (texts[code] for code in codes)
            assert chrom is not None
            assert strand is not None
            name = self._names[first:last].decode("utf-8", "surrogateescape")
            yield Region(Interval(chrom, start, end, strand), name, label, split)
            first = last
