"""`Reference`: bases of a genome by interval, exactly as many as were asked for.

Random access is pyfaidx's, over an index that this project made and verified itself (`verdicts`). Everything that
pyfaidx leaves to its caller is done here, in one place: clamping to the contig, padding with N on both sides, one
handle per process, the alphabet rule, and the check that the number of bases is right.
"""

from __future__ import annotations

import functools
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyfaidx

from hyena_dna.errors import InputError
from hyena_dna.genome.contig_table import Contig, ContigChunk, FastaScan
from hyena_dna.genome.contigs import contig_hint
from hyena_dna.genome.fasta import check_regular
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.sequence import NORMALISE, NORMALISE_RNA, reverse_complement
from hyena_dna.genome.verdicts import index_files, read_or_scan
from hyena_dna.paths import cache_root

__all__ = ["Reference"]

# Biopython's BGZF reader joins its blocks in time quadratic in the number asked for at once.
_PIECE = 1 << 20
_CHANGED = "put the file back as it was, or start again with the new one"


class _Block(pyfaidx.BgzfBlock):  # type: ignore[misc]
    """A BGZF block that pyfaidx finds by bisection.

    pyfaidx 0.9 looks up a byte with `bisect_left`, so the first byte of a block is looked for past the end of the block
    before; where that one is a full 64 KiB its virtual offset overflows. Sorting a block before its own first byte
    makes the same search find the block itself.
    """

    __slots__ = ()

    def __lt__(self, other: object) -> bool:
        return bool(self.ustart <= other)


class Reference:
    """One genome, in one FASTA file or several, plain or BGZF.

    The first use reads every base once (alphabet, line structure, names) and keeps the verdict and the index in the
    cache; later uses check that the file is still the same and start at once. The folder of the data is never written
    to, and index files in it are neither read nor changed. Safe across threads, forks and pickling: each process opens
    its own handles when it first fetches.

    Args:
        paths: FASTA file or files.
        rna: read U as T.
        cache: folder of verdicts; by default `fasta` in the user's cache folder.

    Raises:
        InputError: a file is missing, a folder or a pipe; later, on first use, whatever `scan_fasta` finds.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        rna: bool = False,
        cache: Path | None = None,
    ) -> None:
        several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if not several:
            raise InputError("no FASTA file is given", remedy="name one with --genome")
        self.paths = [Path(path) for path in several]
        self.rna = rna
        self._cache = cache_root() / "fasta" if cache is None else cache
        self._table = NORMALISE_RNA if rna else NORMALISE
        self._scans: list[FastaScan] | None = None
        self._entries: list[Path] = []
        self._places: dict[str, tuple[int, int]] = {}
        self._lengths: dict[str, int] = {}
        self._handles: dict[int, list[Any]] = {}
        for path in self.paths:
            check_regular(path)

    def read_through(self, sink: Callable[[int, ContigChunk], None]) -> list[FastaScan]:
        """Read every base of the genome once, in order.

        Where the genome was not read before, this same pass makes the verdict and the index.

        Args:
            sink: receives the index of the file and each piece of its contigs.

        Raises:
            InputError: as on first use; the files are not those that were read before.
        """
        known = self._scans
        self._read([functools.partial(sink, i) for i in range(len(self.paths))])
        scans = self.scan
        if known and any(a.fingerprint != b.fingerprint for a, b in zip(known, scans, strict=True)):
            raise InputError("the genome changed during the run", file=self.paths[0], remedy=_CHANGED)
        return scans

    def _read(self, sinks: Iterable[Callable[[ContigChunk], None] | None]) -> None:
        results = [
            read_or_scan(path, rna=self.rna, cache=self._cache, sink=sink)
            for path, sink in zip(self.paths, sinks, strict=True)
        ]
        places: dict[str, tuple[int, int]] = {}
        for i, (scan, _) in enumerate(results):
            for j, contig in enumerate(scan.contigs):
                if contig.name in places:
                    first = self.paths[places[contig.name][0]]
                    reason = f"contig {contig.name!r} is in {first} too"
                    raise InputError(reason, file=scan.path, remedy="rename one of them or give one file")
                places[contig.name] = (i, j)
        self._places = places
        self._lengths = {contig.name: contig.length for scan, _ in results for contig in scan.contigs}
        self._entries = [entry for _, entry in results]
        self._scans = [scan for scan, _ in results]

    @property
    def scan(self) -> list[FastaScan]:
        """What reading each file found."""
        return self._ensure_read()

    def _ensure_read(self) -> list[FastaScan]:
        if self._scans is None:
            self._read([None] * len(self.paths))
        assert self._scans is not None
        return self._scans

    @property
    def contigs(self) -> dict[str, int]:
        """Length in bp of every contig, in file order; contigs without bases are listed too."""
        self._ensure_read()
        return self._lengths

    @property
    def fingerprint(self) -> dict[str, dict[str, int | str]]:
        """Size, time and edge checksum of each file, by path."""
        return {os.fspath(path): scan.fingerprint for path, scan in zip(self.paths, self.scan, strict=True)}

    def fetch(self, interval: Interval) -> bytes:
        """The bases of an interval.

        Args:
            interval: 0-based half-open; may reach beyond both ends of its contig.

        Returns:
            Exactly `interval.length` bytes of A, C, G, T and N: upper case, ambiguity codes as N, N outside the contig,
            reverse-complemented where the strand is "-".

        Raises:
            InputError: the genome has no such contig, or its file changed or is damaged.
        """
        scans = self._ensure_read()
        place = self._places.get(interval.chrom)
        if place is None:
            raise InputError(
                f"the genome has no contig {interval.chrom!r}",
                file=self.paths[0],
                remedy=contig_hint(interval.chrom, self._places),
            )
        file, index = place
        contig = scans[file].contigs[index]
        inside = interval.clip(contig.length)
        body = b"".join(
            self._fetch_inside(file, index, contig, start, min(start + _PIECE, inside.end))
            for start in range(inside.start, inside.end, _PIECE)
        )
        left = min(max(0, -interval.start), interval.length)
        sequence = (b"N" * left + body).ljust(interval.length, b"N")
        assert len(sequence) == interval.length
        return reverse_complement(sequence) if interval.strand == "-" else sequence

    def _fetch_inside(self, file: int, index: int, contig: Contig, start: int, end: int) -> bytes:
        try:
            text = self._open()[file].fetch(str(index), start + 1, end)
        except (OSError, RuntimeError, ValueError, zlib.error, struct.error, UnicodeDecodeError) as error:
            reason = f"the file cannot be read here: {error}"
            raise InputError(reason, file=self.paths[file], contig=contig.name, position=start + 1) from error
        bases: bytes = text.encode("latin-1").translate(self._table)
        bad = bases.find(0)
        if bad >= 0 or len(bases) != end - start:
            raise InputError(
                "the file changed since it was checked",
                file=self.paths[file],
                contig=contig.name,
                position=start + 1 + max(bad, 0),
                remedy=_CHANGED,
            )
        return bases

    def _open(self) -> list[Any]:
        """This process's pyfaidx handles. A handle shared across a fork shares its file position, and reads astray."""
        pid = os.getpid()
        handles = self._handles.get(pid)
        if handles is None:
            self.check_unchanged()
            opened = [_open(scan, entry) for scan, entry in zip(self.scan, self._entries, strict=True)]
            # Another thread may have been faster; a lock instead could be held by a thread that a fork leaves behind.
            handles = self._handles.setdefault(pid, opened)
        return handles

    def check_unchanged(self) -> None:
        """Check that every file has still the size and modification time that it was read with.

        Raises:
            InputError: one changed or is gone.
        """
        for path, scan in zip(self.paths, self.scan, strict=True):
            status = check_regular(path)
            if (status.st_size, status.st_mtime_ns) != (scan.fingerprint["size"], scan.fingerprint["mtime_ns"]):
                raise InputError("the genome changed during the run", file=path, remedy=_CHANGED)

    def close(self) -> None:
        """Close this process's handles; a later fetch opens them again."""
        for handle in self._handles.pop(os.getpid(), []):
            handle.close()

    def __enter__(self) -> Reference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}}


def _open(scan: FastaScan, entry: Path) -> Any:
    fai, gzi = index_files(entry)
    handle = pyfaidx.Faidx(
        os.fspath(scan.path),
        indexname=os.fspath(fai),
        gzi_indexname=os.fspath(gzi),
        as_raw=True,
        rebuild=False,
        build_index=False,
    )
    if scan.bgzf:
        handle.gzi_index = [_Block(int(at), None, int(plain), None) for at, plain in scan.blocks]
    if len(handle.index) != len(scan.contigs):
        raise InputError("the cached index is damaged", file=fai, remedy=f"rm -r {entry}")
    return handle
