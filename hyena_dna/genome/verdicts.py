"""The cached verdict on a FASTA file: its table of contigs and its index, valid for exactly one content.

An entry is a folder named after the file's path and its fingerprint. It is written whole or not at all, under a lock,
and never changed afterwards; a file with another fingerprint has another entry. Index files beside the data are not
read: one that was left behind by an older version of the FASTA gives header text as bases, whatever its date.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hyena_dna.errors import InputError
from hyena_dna.files import atomic_directory, exclusive_lock, fingerprint
from hyena_dna.genome.bgzf import write_gzi
from hyena_dna.genome.contig_table import Contig, ContigChunk, FastaScan
from hyena_dna.genome.fasta import check_regular, scan_fasta

__all__ = ["cache_entry", "drop_stale", "index_files", "make_cache", "read_or_scan"]

_log = logging.getLogger("hyena_dna")
_FORMAT_VERSION = 1


def make_cache(folder: Path) -> Path:
    """Make a cache folder if it is missing.

    Raises:
        InputError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, os.strerror(error.errno or 0)) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(folder, "Permission denied")
    return folder


def _unwritable(folder: Path, why: str) -> InputError:
    reason = f"the cache folder cannot be written: {why.lower()}"
    return InputError(reason, file=folder, remedy="set XDG_CACHE_HOME to a writable folder with free space")


def cache_entry(cache: Path, subject: object, content: object) -> Path:
    """The folder in `cache` for a subject (paths, options) with a content (fingerprints); both JSON-serialisable."""
    return cache / f"{_digest(subject)}-{_digest(content)}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:20]


def drop_stale(entry: Path, what: str) -> None:
    """Remove entries of the same subject with another content, and say so; call it under the subject's lock."""
    for other in entry.parent.glob(f"{entry.name.split('-')[0]}-*"):
        if other != entry:
            _log.info("%s changed since it was last read: it is read again", what)
            shutil.rmtree(other, ignore_errors=True)


def index_files(entry: Path) -> tuple[Path, Path]:
    """The .fai and .gzi files of an entry."""
    return entry / "index.fai", entry / "index.gzi"


def read_or_scan(
    path: Path, *, rna: bool, cache: Path, sink: Callable[[ContigChunk], None] | None = None
) -> tuple[FastaScan, Path]:
    """The verdict on a FASTA file, from the cache where it holds one for this content, else by reading the file.

    Args:
        path: the file.
        rna: read U as T.
        cache: the folder of entries.
        sink: receives every piece of every contig; with it, the file is always read.

    Returns:
        The scan and the folder of its entry.

    Raises:
        InputError: the file is no sound FASTA of nucleotides, or the cache cannot be written.
    """
    check_regular(path)
    make_cache(cache)
    subject = [os.fspath(path.resolve()), rna, _FORMAT_VERSION]
    entry = cache_entry(cache, subject, fingerprint(path))
    # Without the lock, processes that start together would each read the whole genome.
    with exclusive_lock(cache / f"{_digest(subject)}.lock"):
        known = _load(entry, path)
        if known is not None and sink is None:
            return known, entry
        scan = scan_fasta(path, rna=rna, sink=sink)
        entry = cache_entry(cache, subject, scan.fingerprint)
        if known is None:
            drop_stale(entry, os.fspath(path))
            try:
                _save(entry, scan)
            except OSError as error:
                raise _unwritable(cache, os.strerror(error.errno or 0)) from error
    return scan, entry


def _save(entry: Path, scan: FastaScan) -> None:
    with atomic_directory(entry, force=True) as folder:
        fai, gzi = index_files(folder)
        # Contigs go by number in the index, so that no name, whatever it holds, is parsed by another library.
        with open(fai, "w", encoding="ascii") as handle:
            handle.writelines(
                f"{i}\t{c.length}\t{c.offset}\t{c.line_bases}\t{c.line_width}\n" for i, c in enumerate(scan.contigs)
            )
        with open(gzi, "wb") as binary:
            write_gzi(binary, scan.blocks)
        np.save(folder / "n_runs.npy", scan.n_runs)
        np.save(folder / "blocks.npy", scan.blocks)
        # pyfaidx takes an index for stale that is older than its FASTA, and a FASTA may be dated in the future.
        newest = int(scan.fingerprint["mtime_ns"])
        for index in (fai, gzi):
            newest = max(newest, index.stat().st_mtime_ns)
            os.utime(index, ns=(newest, newest))
        verdict = {
            "format_version": _FORMAT_VERSION,
            "path": os.fspath(scan.path.resolve()),
            "bgzf": scan.bgzf,
            "rna": scan.rna,
            "fingerprint": scan.fingerprint,
            "sizes": {file.name: file.stat().st_size for file in folder.iterdir()},
            "contigs": scan.contigs,
        }
        (folder / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")


def _load(entry: Path, path: Path) -> FastaScan | None:
    """The scan of an entry; None where there is no sound entry for what the file holds now."""
    try:
        verdict = json.loads((entry / "verdict.json").read_text(encoding="utf-8"))
        # A cleaner of caches or a full disk may have been here.
        if any((entry / name).stat().st_size != size for name, size in verdict["sizes"].items()):
            return None
        scan = FastaScan(
            path,
            verdict["bgzf"],
            verdict["rna"],
            [Contig(*fields) for fields in verdict["contigs"]],
            np.load(entry / "n_runs.npy", allow_pickle=False),
            np.load(entry / "blocks.npy", allow_pickle=False),
            verdict["fingerprint"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return scan if scan.bgzf or _headers_in_place(scan) else None


def _headers_in_place(scan: FastaScan) -> bool:
    """Whether each contig of a plain file still ends where the next begins, and begins after its own header.

    The fingerprint covers size, time and both ends of a file; this covers what lies between, one read per contig.
    """
    with open(scan.path, "rb", buffering=0) as handle:
        descriptor, end = handle.fileno(), 0
        for contig in scan.contigs:
            between = os.pread(descriptor, contig.offset - end, end)
            gap, header = between[: contig.header_offset - end], between[contig.header_offset - end :]
            if gap.strip(b"\r\n") or b"\n" in header[:-1] or header[:1] != b">":
                return False
            if header[1:].split(None, 1)[:1] != [contig.name.encode()]:
                return False
            end = contig.offset + _bytes_of(contig)
    return True


def _bytes_of(contig: Contig) -> int:
    """Bytes from the first base to the last, line ends between them included."""
    if not contig.length:
        return 0
    return contig.length + (contig.length - 1) // contig.line_bases * (contig.line_width - contig.line_bases)
