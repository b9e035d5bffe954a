"""Genome browser tracks: one number per base or stretch of bases, as bigWig or bedGraph."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError, missing_extra
from hyena_dna.files import atomic_path
from hyena_dna.output.bgzf_blocks import BGZF_EOF, compress_blocks
from hyena_dna.output.score_formats import index_file

__all__ = ["TRACK_SUFFIXES", "Stretch", "check_track", "is_track", "write_track"]

BIGWIG_SUFFIXES = (".bw", ".bigwig")
BEDGRAPH_SUFFIXES = (".bedgraph", ".bdg", ".bg", ".bedgraph.gz", ".bdg.gz", ".bg.gz")

TRACK_SUFFIXES = (*BIGWIG_SUFFIXES, *BEDGRAPH_SUFFIXES)
"""Endings of track files, compared without regard to case."""

# Values that become Python objects, or lines, at once.
_BLOCK = 1 << 16

# A disk with less than this many bytes left is full: what could not be written may have been larger.
_NO_SPACE = 1 << 18


class Stretch(NamedTuple):
    """Numbers of one contig, in rising order.

    Attributes:
        chrom: contig name.
        starts: (n,) first base of each number, 0-based.
        ends: (n,) one past its last base.
        values: (n,) the numbers; NaN where there is none.
    """

    chrom: str
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    values: NDArray[np.floating[Any]]

    @classmethod
    def per_base(cls, chrom: str, start: int, values: NDArray[np.floating[Any]]) -> Self:
        """One number for every base from `start` (0-based) on."""
        starts = np.arange(start, start + len(values), dtype=np.int64)
        return cls(chrom, starts, starts + 1, values)

    def take(self, part: slice | NDArray[np.bool_]) -> Stretch:
        """Some of the numbers."""
        return Stretch(self.chrom, self.starts[part], self.ends[part], self.values[part])


def is_track(path: str | os.PathLike[str]) -> bool:
    """Whether a file of this name is a track."""
    return os.fspath(path).lower().endswith(TRACK_SUFFIXES)


def check_track(path: str | os.PathLike[str]) -> None:
    """Check, before any work, that a track can be written to a file of this name here.

    Raises:
        InputError: the suffix is none of `TRACK_SUFFIXES`, or what writes it is not installed.
    """
    if not is_track(path):
        raise InputError(f"a track is written as one of {', '.join(TRACK_SUFFIXES)}", file=path)
    if _is_bigwig(path):
        _pybigtools()


def write_track(path: Path, contigs: Mapping[str, int], stretches: Iterable[Stretch]) -> int:
    """Write a track; the file appears whole or not at all, a compressed bedGraph with its tabix index.

    Args:
        path: the file; its suffix decides the format.
        contigs: length in bp of every contig that stretches may name; all of them stand in the header of a bigWig.
        stretches: together sorted by the order of `contigs` and by start, without overlaps. Numbers that are NaN leave
            a gap.

    Returns:
        Number of bases that have a number.

    Raises:
        InputError: the suffix is unknown, a library is missing, stretches are out of order, overlap or lie off their
            contig, no base has a number, or the file cannot be written.
    """
    check_track(path)
    tally = _Tally(path, contigs)
    checked = tally.watch(stretches)
    with atomic_path(path) as temporary:
        if _is_bigwig(path):
            _write_bigwig(path, temporary, contigs, checked, tally)
        else:
            with open(temporary, "wb") as handle:
                _write_bedgraph(handle, checked, compressed=path.suffix == ".gz")
        if not tally.bases:
            raise InputError("no base has a value to write", file=path)
    index_file(path, max(contigs.values(), default=0))
    return tally.bases


def _is_bigwig(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).lower().endswith(BIGWIG_SUFFIXES)


def _pybigtools() -> Any:
    try:
        return importlib.import_module("pybigtools")
    except ImportError:
        raise missing_extra("bigWig output", "tracks") from None


class _Tally:
    """Checks stretches on their way into a file, and counts their bases."""

    def __init__(self, path: Path, contigs: Mapping[str, int]) -> None:
        self._path = path
        self._contigs = contigs
        self._order = {name: number for number, name in enumerate(contigs)}
        self._chrom, self._end = "", 0
        self.bases = 0

    def watch(self, stretches: Iterable[Stretch]) -> Iterator[Stretch]:
        """Yield stretches without the numbers that are NaN, and none that are empty."""
        for stretch in stretches:
            keep = ~np.isnan(stretch.values)
            found = stretch if keep.all() else stretch.take(keep)
            if not len(found.values):
                continue
            self._check(found)
            self.bases += int((found.ends - found.starts).sum())
            yield found

    def _check(self, stretch: Stretch) -> None:
        chrom, starts, ends, values = stretch
        if chrom != self._chrom:
            if self._order.get(chrom, -1) < self._order.get(self._chrom, -1) or chrom not in self._order:
                raise InputError(f"contig {chrom!r} is unknown or out of order in a track", file=self._path)
            self._chrom, self._end = chrom, 0
        if starts[0] < self._end or (starts[1:] < ends[:-1]).any() or (starts >= ends).any():
            raise InputError(f"values of contig {chrom!r} overlap or are out of order in a track", file=self._path)
        if ends[-1] > self._contigs[chrom]:
            raise InputError(f"values lie beyond the end of contig {chrom!r}", file=self._path)
        if not np.isfinite(values).all():
            raise InputError(f"a value of contig {chrom!r} is infinite", file=self._path)
        self._end = int(ends[-1])


def _blocks(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    for stretch in stretches:
        for first in range(0, len(stretch.values), _BLOCK):
            yield stretch.take(slice(first, first + _BLOCK))


def _write_bedgraph(handle: IO[bytes], stretches: Iterable[Stretch], *, compressed: bool) -> None:
    for chrom, starts, ends, values in _blocks(stretches):
        rows = zip(starts.tolist(), ends.tolist(), values.tolist(), strict=True)
        text = "".join(f"{chrom}\t{start}\t{end}\t{value:.7g}\n" for start, end, value in rows).encode()
        handle.write(compress_blocks(text) if compressed else text)
    if compressed:
        handle.write(BGZF_EOF)


def _write_bigwig(
    path: Path, temporary: Path, contigs: Mapping[str, int], stretches: Iterable[Stretch], tally: _Tally
) -> None:
    """Write with pybigtools, which reports what goes wrong on stderr only: what it says is caught, the file is read."""
    library = _pybigtools()
    failure: list[BaseException] = []

    def rows() -> Iterator[tuple[str, int, int, float]]:
        try:
            for chrom, starts, ends, values in _blocks(stretches):
                yield from zip([chrom] * len(values), starts.tolist(), ends.tolist(), values.tolist(), strict=True)
        except GeneratorExit:
            raise
        except BaseException as error:
            # The library would print it and go on; the rows end here, and it is raised below.
            failure.append(error)

    # The library looks at the suffix.
    work = temporary.with_suffix(".bw")
    problem = ""
    try:
        with _caught_stderr() as said:
            try:
                library.open(os.fspath(work), "w").write(dict(contigs), rows())
            except BaseException as error:
                # A panic of the library is not an Exception.
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                problem = str(error)
            sound = not tally.bases or (not problem and _covered(library, work) == tally.bases)
            if not sound:
                # Threads of the library may still be reporting.
                time.sleep(0.2)
        if failure:
            raise failure[0]
        if not sound:
            full = shutil.disk_usage(path.parent).free < _NO_SPACE
            lines = [line for line in said().splitlines() if line.strip()]
            reason = os.strerror(errno.ENOSPC) if full else lines[0] if lines else problem or "the file is incomplete"
            raise InputError(f"cannot be written: {reason}", file=path)
        if tally.bases and work != temporary:
            os.replace(work, temporary)
    finally:
        if work != temporary:
            work.unlink(missing_ok=True)


def _covered(library: Any, path: Path) -> int:
    """Bases with a value, from the summary that is written last; -1 where the file is not sound."""
    try:
        return int(library.open(os.fspath(path)).info()["summary"]["basesCovered"])
    except Exception:
        return -1


@contextlib.contextmanager
def _caught_stderr() -> Iterator[Any]:
    """Catch what native code writes to the process's stderr; yields a function that gives it after the block."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink:
        kept = os.dup(2)
        text = ""
        os.dup2(sink.fileno(), 2)
        try:
            yield lambda: text
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            sink.seek(0)
            text = sink.read().decode("utf-8", "replace")
