"""From records to scores: what each allele is, whether the genome agrees, its windows, its scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.alleles import AlleleWindows, StrandWindow
from hyena_dna.datasets.token_tiles import TokenTiles
from hyena_dna.errors import InputError, RunError
from hyena_dna.genome.variants import Trimmed, classify, left_align, trim
from hyena_dna.genome.vcf import Line, split_record
from hyena_dna.inference.extra_scores import ExtraScores, ScoredAllele, WindowBuilder
from hyena_dna.output.score_fields import FIELD_PREFIX, AlleleScore, ScoredRecord

__all__ = ["MismatchPolicy", "RecordScorer", "Rules", "Scores", "Tally", "WindowScorer"]

MismatchPolicy = Literal["flag", "skip", "error", "flip"]

_BATCH_RECORDS = 1024
_BATCH_WINDOW_BYTES = 64 << 20
_BATCH_LINE_BYTES = 16 << 20
_EXAMPLES = 10
_SNV_BASES = frozenset("ACGT")
_PREFIX = FIELD_PREFIX.encode()


class Scores(Protocol):
    """Scores of windows on their strands, in their order."""

    @property
    def llr(self) -> NDArray[np.float64]:
        """(windows,) nats."""

    @property
    def llr_norm(self) -> NDArray[np.float64]:
        """(windows,) nats per base, NaN where a count is 0."""

    @property
    def dist(self) -> NDArray[np.float64]:
        """(windows,)."""


class WindowScorer(Protocol):
    """What scores windows: a model, or something in its place."""

    def score(self, windows: Sequence[StrandWindow]) -> Scores:
        """Score windows, each on its own strand."""


@dataclass(frozen=True)
class Rules:
    """How alleles are judged.

    Attributes:
        on_mismatch: where REF is not what the genome has: `flag` gives a status and no score; `skip` leaves the record
            out; `error` stops; `flip` scores with the sign turned where ALT is what the genome has, and else flags.
        max_n_fraction: largest share of N in the reference window.
        normalise: build windows about the leftmost place of an insertion or deletion.
    """

    on_mismatch: MismatchPolicy = "flag"
    max_n_fraction: float = 0.1
    normalise: bool = False


@dataclass
class Tally:
    """What was seen of reference alleles.

    Attributes:
        compared: records whose REF was compared with the genome.
        mismatched: how many of them differ and cannot be flipped.
        beyond: records that reach beyond the end of their contig.
        skipped: records left out by the policy `skip`.
        examples: the first differences: line, contig, position, REF and the genome's bases.
    """

    compared: int = 0
    mismatched: int = 0
    beyond: int = 0
    skipped: int = 0
    examples: list[tuple[int, str, int, str, str]] = field(default_factory=list)


class _Site(NamedTuple):
    contig: str
    start: int
    ref: str
    problem: str | None


# Alleles that wait for scores, by contig, change and whether it is turned round, and where the scores belong.
_Key = tuple[str, Trimmed, bool]
_Pending = dict[_Key, list[tuple[list[AlleleScore], int]]]


class RecordScorer:
    """Scores records in batches that depend on the records alone.

    Args:
        tiles: windows of the genome.
        scorer: scores windows.
        contig: translates a contig name to the genome's; None where it has none.
        rules: how alleles are judged.
        name: the input, for messages.
        width: number of columns of a record.
        windows: builds windows in place of the tiles, such as a sample's haplotypes.
        extras: computes scores beyond those that every run has.
        refuse_scored: whether a record that has scores already is an error.
    """

    def __init__(
        self,
        tiles: TokenTiles,
        scorer: WindowScorer,
        contig: Callable[[str], str | None],
        rules: Rules,
        *,
        name: str,
        width: int,
        windows: WindowBuilder | None = None,
        extras: Sequence[ExtraScores] = (),
        refuse_scored: bool = False,
    ) -> None:
        self._tiles = tiles
        self._scorer = scorer
        self._room = tiles.spec.room
        self._contig = contig
        self._rules = rules
        self._name = name
        self._width = width
        self._windows = windows or tiles.windows_of
        self._extras = extras
        self._refuse_scored = refuse_scored
        self._contigs: dict[bytes, str | None] = {}
        self._most_windows = max(16, _BATCH_WINDOW_BYTES // (2 * tiles.spec.window))
        self.tally = Tally()

    def score(self, lines: Iterable[Line]) -> Iterable[list[ScoredRecord]]:
        """Yield the scored records of each batch, in order.

        Raises:
            InputError: a malformed record, or a reference mismatch where the policy is `error`.
            RunError: a score is not finite.
        """
        records: list[ScoredRecord] = []
        pending: _Pending = {}
        size = 0
        for number, line in lines:
            record = self._judge(number, line, pending)
            if record is not None:
                records.append(record)
                size += len(line)
            if len(records) >= _BATCH_RECORDS or len(pending) >= self._most_windows or size >= _BATCH_LINE_BYTES:
                self._finish(pending)
                yield records
                records, pending, size = [], {}, 0
        if records:
            self._finish(pending)
            yield records

    def compare(self, lines: Iterable[Line]) -> Tally:
        """Compare the reference alleles of records with the genome, without scoring."""
        tally, self.tally = self.tally, Tally()
        for number, line in lines:
            fields = split_record(line, number, self._width, self._name)
            site = self._site(number, fields)
            if site.problem == "ref_mismatch":
                self._note_mismatch(number, site, fields[4].decode("latin-1").upper().split(","))
        tally, self.tally = self.tally, tally
        return tally

    def take_tally(self) -> Tally:
        """What was seen of reference alleles since the last time this was asked."""
        tally, self.tally = self.tally, Tally()
        return tally

    def _judge(self, number: int, line: bytes, pending: _Pending) -> ScoredRecord | None:
        fields = split_record(line, number, self._width, self._name)
        if self._refuse_scored and _PREFIX in fields[7]:
            self._refuse_fields(number, fields[7])
        alts = fields[4].decode("latin-1").split(",")
        site = self._site(number, fields)
        flipped: list[bool] = []
        if site.problem == "ref_mismatch":
            flipped = self._note_mismatch(number, site, [alt.upper() for alt in alts])
            if self._rules.on_mismatch == "skip":
                self.tally.skipped += 1
                return None
        scores: list[AlleleScore] = []
        for index, alt in enumerate(alts):
            alt = alt.upper()
            snv = len(alt) == len(site.ref) == 1 and alt != site.ref and alt in _SNV_BASES and site.ref in _SNV_BASES
            status = "ok" if snv else classify(site.ref, alt)
            flip = bool(flipped) and flipped[index]
            if status == "ok" and site.problem and not flip:
                status = site.problem
            if status != "ok":
                scores.append(AlleleScore(status))
                continue
            ref, alt = (alt, site.ref) if flip else (site.ref, alt)
            trimmed = Trimmed(site.start, ref, alt) if snv else trim(site.start, ref, alt)
            scores.append(self._prepare(site.contig, trimmed, flip, scores, pending))
        return ScoredRecord(number, fields, alts, scores)

    def _refuse_fields(self, number: int, info: bytes) -> None:
        for item in info.split(b";"):
            key = item.partition(b"=")[0]
            if key.startswith(_PREFIX):
                reason = f"the record has the field {key.decode('latin-1')} already"
                raise InputError(reason, file=self._name, line=number, remedy="--overwrite-field replaces it")

    def _prepare(
        self,
        contig: str,
        trimmed: Trimmed,
        flipped: bool,
        scores: list[AlleleScore],
        pending: _Pending,
    ) -> AlleleScore:
        """The status of an allele; where it is to be scored, its windows are put among the pending ones."""
        if self._rules.normalise:
            trimmed = left_align(trimmed, self._tiles.fetch, contig)
        if max(len(trimmed.ref), len(trimmed.alt)) > self._room:
            return AlleleScore("too_long")
        pending.setdefault((contig, trimmed, flipped), []).append((scores, len(scores)))
        return _WAITING

    def _site(self, number: int, fields: list[bytes]) -> _Site:
        """Where a record is, and whether anything is wrong with all of its alleles."""
        name, ref, start = fields[0], fields[3].decode("latin-1").upper(), int(fields[1]) - 1
        if name in self._contigs:
            contig = self._contigs[name]
        else:
            contig = self._contigs[name] = self._contig(name.decode("utf-8", "replace"))
        if contig is None:
            return _Site("", start, ref, "contig_unknown")
        end = start + len(ref)
        if start < 0 or end > self._tiles.contigs[contig]:
            self.tally.beyond += 1
            return _Site(contig, start, ref, "out_of_range")
        genome = self._tiles.bases(contig, start, end)
        if genome.decode("ascii") == ref:
            self.tally.compared += 1
            return _Site(contig, start, ref, None if b"N" not in genome else "ref_not_acgt")
        if b"N" in genome or classify(ref, "A" if ref != "A" else "C") != "ok":
            return _Site(contig, start, ref, "ref_not_acgt")
        self.tally.compared += 1
        return _Site(contig, start, ref, "ref_mismatch")

    def _note_mismatch(self, number: int, site: _Site, alts: list[str]) -> list[bool]:
        """Count a mismatch; which alternatives are what the genome has, where the policy turns those round."""
        genome = self._tiles.bases(site.contig, site.start, site.start + len(site.ref)).decode("ascii")
        if self._rules.on_mismatch == "error":
            raise InputError(
                f"REF {site.ref[:40]} at {site.contig}:{site.start + 1} is not what the genome has, {genome[:40]}",
                file=self._name, line=number, remedy="is it the right assembly? --on-ref-mismatch flag goes on",
            )  # fmt: skip
        flips = [False] * len(alts)
        if self._rules.on_mismatch == "flip":
            flips = [
                classify(site.ref, alt) == "ok"
                and self._tiles.bases(site.contig, site.start, site.start + len(alt)).decode("ascii") == alt
                for alt in alts
            ]
        if not any(flips):
            self.tally.mismatched += 1
            if len(self.tally.examples) < _EXAMPLES:
                example = (number, site.contig, site.start + 1, site.ref[:40], genome[:40])
                self.tally.examples.append(example)
        return flips

    def _finish(self, pending: _Pending) -> None:
        """Score what is pending and put the scores in their places."""
        built = self._windows([(contig, trimmed) for contig, trimmed, _ in pending])
        waiting: list[tuple[AlleleWindows, _Key, list[tuple[list[AlleleScore], int]]]] = []
        for windows, (key, places) in zip(built, pending.items(), strict=True):
            if windows.n_fraction > self._rules.max_n_fraction:
                _put(AlleleScore("n_fraction", n_fraction=windows.n_fraction), places)
            else:
                waiting.append((windows, key, places))
        if not waiting:
            return
        count = len(waiting)
        found = self._scorer.score([one[0].forward for one in waiting] + [one[0].reverse for one in waiting])
        rows = list(zip(found.llr.tolist(), found.llr_norm.tolist(), found.dist.tolist(), strict=True))
        extras = self._extra_rows([key for _, key, _ in waiting], found.llr)
        for one, forward, reverse, extra in zip(waiting, rows[:count], rows[count:], extras, strict=True):
            windows, (_, _, flipped), places = one
            (llr_fwd, norm_fwd, dist_fwd), (llr_rev, norm_rev, dist_rev) = forward, reverse
            if not (math.isfinite(llr_fwd) and math.isfinite(llr_rev)):
                raise RunError(f"the model gives no finite score at {windows.forward.key}")
            sign = -1.0 if flipped else 1.0
            status = f"ok{'|edge_padded' * windows.edge_padded}{'|flipped' * flipped}"
            # Adding 0.0 turns a negative zero into zero.
            score = AlleleScore(
                status,
                sign * (llr_fwd + llr_rev) / 2 + 0.0,
                sign * llr_fwd + 0.0,
                sign * llr_rev + 0.0,
                sign * (norm_fwd + norm_rev) / 2 + 0.0,
                (dist_fwd + dist_rev) / 2,
                windows.n_fraction,
                tuple([sign * value + 0.0 for value in extra]),
            )
            _put(score, places)

    def _extra_rows(self, keys: Sequence[_Key], llr: NDArray[np.float64]) -> list[list[float]]:
        """Further scores of alleles whose LLRs are those of all forward and then of all reverse strands."""
        if not self._extras:
            return [[]] * len(keys)
        means = llr.reshape(2, -1).mean(0).tolist()
        alleles = [ScoredAllele(contig, change, mean) for (contig, change, _), mean in zip(keys, means, strict=True)]
        rows: list[list[float]] = np.hstack([extra.values(alleles) for extra in self._extras]).tolist()
        return rows


def _put(score: AlleleScore, places: list[tuple[list[AlleleScore], int]]) -> None:
    for scores, place in places:
        scores[place] = score


_WAITING = AlleleScore("waiting")
