"""What a run saw, counted chunk by chunk and added up: statuses, order, duplicates, undeclared names."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hyena_dna.genome.vcf_header import Undeclared, VcfHeader
from hyena_dna.output.score_fields import AlleleScore, ScoredRecord

__all__ = ["InfoColumns", "RunCounts"]

_COLUMNS = ("llr", "llr_norm", "dist", "label", "group")

Top = tuple[float, str, int, str, str]


@dataclass(frozen=True)
class InfoColumns:
    """INFO fields whose values are kept beside the scores, for the report.

    Attributes:
        label: the field that says what an allele is known to do.
        group: the field that alleles are grouped by.
        extras: column names of the scores beyond those that every run has.
    """

    label: str | None = None
    group: str | None = None
    extras: tuple[str, ...] = ()


@dataclass
class RunCounts:
    """Counts over consecutive records.

    Attributes:
        records: records read.
        statuses: alleles by status without flags.
        flags: alleles by flag.
        duplicates: alleles that an earlier record of the same position has too.
        in_order: contigs in one block each, positions never falling.
        undeclared: names that the header does not declare.
        top: the alleles with the lowest scores: score, contig, position, ref, alt.
        columns: for the report, one entry per scored allele: llr, llr_norm, dist, label, group and further scores.
        mismatches: examples of reference mismatches.
        compared: records whose REF was compared with the genome.
        mismatched: records whose REF differs.
        skipped_records: records left out.
    """

    records: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    in_order: bool = True
    undeclared: Undeclared = field(default_factory=Undeclared)
    top: list[Top] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _COLUMNS})
    mismatches: list[tuple[int, str, int, str, str]] = field(default_factory=list)
    compared: int = 0
    mismatched: int = 0
    skipped_records: int = 0
    _begin: tuple[str, int] | None = None
    _end: tuple[str, int] | None = None
    _first: list[tuple[str, str]] = field(default_factory=list)
    _runs: int = 0
    _last: list[tuple[str, str]] = field(default_factory=list)

    @property
    def alleles(self) -> int:
        """Number of alleles."""
        return self.statuses.total()

    def add(self, records: Sequence[ScoredRecord], header: VcfHeader, top: int, columns: InfoColumns | None) -> None:
        """Count a batch."""
        for record in records:
            fields = record.fields
            self._place(fields[0].decode("utf-8", "replace"), int(fields[1]), record)
            if fields[7] != b"." or fields[6] not in header.filters or len(fields) > 8:
                self.undeclared.add(header, fields)
            for number, (alt, score) in enumerate(zip(record.alts, record.scores, strict=True)):
                reason, _, flags = score.status.partition("|")
                self.statuses[reason] += 1
                if flags:
                    self.flags.update(flags.split("|"))
                if reason in ("symbolic", "gvcf_block"):
                    self.undeclared.symbolic = True
                if reason != "ok":
                    continue
                if top:
                    self._rank((score.llr, fields[0].decode(), int(fields[1]), fields[3].decode(), alt), top)
                if columns:
                    self._keep(score, fields[7], columns, number, len(record.alts))

    def _place(self, chrom: str, pos: int, record: ScoredRecord) -> None:
        ref = record.fields[3].decode("latin-1")
        alleles = [(ref, alt) for alt in record.alts]
        site = (chrom, pos)
        if site == self._end:
            self.duplicates += sum(allele in self._last for allele in alleles)
            self._last += alleles
            return
        if self._end is None:
            # The first position's alleles grow with the last one's, as long as they are the same position.
            self._begin, self._first = site, alleles
        else:
            self.in_order &= pos > self._end[1] if chrom == self._end[0] else chrom not in self.undeclared.contigs
        self.undeclared.contigs[chrom] = None
        self._runs += 1
        self._end, self._last = site, alleles

    def _rank(self, entry: Top, top: int) -> None:
        self.top.append(entry)
        if len(self.top) > 4 * top + 100:
            self.top = heapq.nsmallest(top, self.top)

    def _keep(self, score: AlleleScore, info: bytes, columns: InfoColumns, number: int, count: int) -> None:
        self.columns["llr"].append(score.llr)
        self.columns["llr_norm"].append(score.llr_norm)
        self.columns["dist"].append(score.dist)
        for name, number_of in zip(columns.extras, score.extra, strict=True):
            self.columns.setdefault(name, []).append(None if math.isnan(number_of) else number_of)
        values = dict(item.partition(b"=")[::2] for item in info.split(b";"))
        for name, key in (("label", columns.label), ("group", columns.group)):
            value = values.get(key.encode(), b".") if key else b"."
            # A field with a value for each alternative allele.
            if value.count(b",") == count - 1:
                value = value.split(b",")[number]
            self.columns[name].append(None if value == b"." else value.decode("utf-8", "replace"))

    def extend(self, other: RunCounts, top: int) -> None:
        """Add the counts of the records that follow."""
        self.records += other.records
        self.statuses += other.statuses
        self.flags += other.flags
        self.duplicates += other.duplicates
        self.compared += other.compared
        self.mismatched += other.mismatched
        self.skipped_records += other.skipped_records
        self.mismatches = (self.mismatches + other.mismatches)[:10]
        self.top = heapq.nsmallest(top, self.top + other.top)
        for name, values in other.columns.items():
            self.columns.setdefault(name, []).extend(values)
        self._join_places(other)
        self.undeclared.update(other.undeclared)

    def _join_places(self, other: RunCounts) -> None:
        self.in_order &= other.in_order
        if other._begin is None:
            return
        if self._end is not None:
            chrom, pos = other._begin
            here, at = self._end
            if other._begin == self._end:
                # What repeats within the other part was counted there.
                self.duplicates += len(set(other._first) & set(self._last))
            self.in_order &= chrom != here or pos >= at
            self.in_order &= not ((set(self.undeclared.contigs) - {here}) & set(other.undeclared.contigs))
            self.in_order &= chrom == here or here not in other.undeclared.contigs
        # Records out of order can come back to a position.
        whole = other._runs == 1 and other._begin == self._end
        self._end, self._last = other._end, [*self._last, *other._last] if whole else other._last

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "undeclared"}
        return {**plain, "undeclared": vars(self.undeclared)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> RunCounts:
        """Read what `to_json` made."""
        counts = cls(**{**found, "undeclared": Undeclared(**found["undeclared"])})
        counts.statuses, counts.flags = Counter(found["statuses"]), Counter(found["flags"])
        counts.top = [(entry[0], entry[1], entry[2], entry[3], entry[4]) for entry in found["top"]]
        counts._begin, counts._end = (site and (site[0], site[1]) for site in (found["_begin"], found["_end"]))
        counts._first = [(pair[0], pair[1]) for pair in found["_first"]]
        counts._last = [(pair[0], pair[1]) for pair in found["_last"]]
        return counts
