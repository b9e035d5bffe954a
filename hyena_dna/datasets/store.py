"""`TokenStore`: a genome as one memory-mapped file of token ids.

A store is a folder: `tokens.bin`, one byte per base, contigs back to back, 0x80 set where the source was lower case;
`n_runs.npy`, the stretches of N; `store.json`, names, lengths, sources and checksums, written last. It is made in one
pass over the FASTA, whole or not at all, and never changed. Positions in it are called store coordinates.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from array import array
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.datasets.cut import Windows, cut_windows
from hyena_dna.errors import InputError
from hyena_dna.files import atomic_directory, check_output, exclusive_lock, fingerprint
from hyena_dna.genome.contig_table import ContigChunk
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.sequence import CLEAN, n_runs
from hyena_dna.genome.verdicts import cache_entry, drop_stale, make_cache
from hyena_dna.paths import cache_root
from hyena_dna.tokenizer import ENCODE, FORBIDDEN, SOFT_MASK, VOCAB, N

__all__ = ["TokenStore", "Windows", "cut_windows"]

_log = logging.getLogger("hyena_dna")
_FORMAT = "hyena-dna-token-store"
_FORMAT_VERSION = 1
_REMEDY = "remove the folder; it is made again from the FASTA"

# From letters of either case to stored tokens.
_STORED = bytes(
    token | SOFT_MASK if chr(letter).islower() and token != FORBIDDEN else token for letter, token in enumerate(ENCODE)
)


class TokenStore:
    """Tokens of a genome, or of any set of sequences, behind one array.

    Made by `build`, `for_reference`, `from_sequences` or `open`. Cheap to pickle: another process maps the same file.

    Args:
        path: the store's folder, complete.

    Raises:
        InputError: it is no store, of another version or vocabulary, or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            record = json.loads((self.path / "store.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError("this is no token store", file=self.path, remedy=_REMEDY) from None
        if not isinstance(record, dict) or record.get("format") != _FORMAT:
            raise InputError("this is no token store", file=self.path, remedy=_REMEDY)
        if record["format_version"] != _FORMAT_VERSION or record["vocabulary"] != list(VOCAB):
            raise InputError("a token store of another version", file=self.path, remedy=_REMEDY)
        edges = _edges(self.path / "tokens.bin")
        if edges != record["edges"]:
            raise InputError("the token store is damaged", file=self.path / "tokens.bin", remedy=_REMEDY)
        names, lengths = record["contigs"]["names"], record["contigs"]["lengths"]
        starts = np.cumsum([0, *lengths]).tolist()
        self.contigs: dict[str, int] = dict(zip(names, lengths, strict=True))
        """Length in bp of every contig, in order."""
        self.offsets: dict[str, int] = dict(zip(names, starts[:-1], strict=True))
        """Store coordinate of every contig's first base."""
        self.total: int = starts[-1]
        """Number of tokens."""
        self.fingerprint: str = record["fingerprint"]
        """sha256 over names, lengths and all tokens: equal for equal sequences, wherever they came from."""
        self.source: Mapping[str, Any] = MappingProxyType(record["source"])
        """What it was made from."""
        self.n_runs: NDArray[np.int64] = np.load(self.path / "n_runs.npy", allow_pickle=False)
        """(runs, 2): stretches of N, sorted, half-open, in store coordinates; none crosses a contig's end."""
        if self.total != edges["size"]:
            raise InputError("the token store is damaged", file=self.path / "store.json", remedy=_REMEDY)

    @cached_property
    def tokens(self) -> np.memmap[Any, np.dtype[np.uint8]]:
        """(total,) uint8, read-only: token ids, 0x80 set where soft-masked."""
        return np.memmap(self.path / "tokens.bin", np.uint8, "r")

    def __reduce__(self) -> tuple[type[TokenStore], tuple[Path]]:
        return type(self), (self.path,)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TokenStore:
        """Open a store that was made before; errors as in the class description."""
        return cls(path)

    @classmethod
    def build(cls, reference: Reference, path: str | os.PathLike[str]) -> TokenStore:
        """Make the store of a genome in one pass over its files; the pass checks the files too, if nothing did yet.

        Args:
            reference: the genome.
            path: the folder to make; must not exist.

        Raises:
            InputError: the genome is not sound or changed, it has no bases, or `path` exists or cannot be written.
        """
        path = check_output(path, folder=True)
        with exclusive_lock(path.with_name(f".{path.name}.lock")):
            return _write_reference(reference, path)

    @classmethod
    def for_reference(cls, reference: Reference, cache: Path | None = None) -> TokenStore:
        """The store of a genome, from the cache, made there first where it is missing.

        Args:
            reference: the genome.
            cache: folder of stores; by default `stores` in the user's cache folder.

        Raises:
            InputError: as `build`.
        """
        cache = make_cache(cache_root() / "stores" if cache is None else cache)
        subject = [[os.fspath(path.resolve()) for path in reference.paths], reference.rna, _FORMAT_VERSION]
        entry = cache_entry(cache, subject, [fingerprint(path) for path in reference.paths])
        with exclusive_lock(cache / f"{entry.name.split('-')[0]}.lock"):
            if entry.exists():
                try:
                    return cls(entry)
                except InputError as error:
                    _log.info("%s: it is made again", error)
            drop_stale(entry, ", ".join(map(os.fspath, reference.paths)))
            return _write_reference(reference, entry, force=True)

    @classmethod
    def from_sequences(
        cls, sequences: Iterable[tuple[str, bytes]], path: str | os.PathLike[str], source: Mapping[str, Any]
    ) -> TokenStore:
        """Make a store of named sequences, such as aligned reads; each becomes a contig.

        Args:
            sequences: unique names and bases, in either case, IUPAC codes allowed.
            path: the folder to make; must not exist.
            source: what they were made from, JSON-serialisable.

        Raises:
            InputError: a name comes twice, a byte is no nucleotide, there are no bases, or `path` cannot be made.
        """
        path = check_output(path, folder=True)

        def feed(writer: _Writer) -> Mapping[str, Any]:
            for name, sequence in sequences:
                bad = sequence.translate(CLEAN).find(0)
                if bad >= 0:
                    raise InputError(
                        f"{sequence[bad : bad + 1]!r} is no nucleotide code", contig=name, position=bad + 1
                    )
                writer.begin(name, len(sequence))
                writer.add(sequence)
                is_n = np.frombuffer(sequence.translate(ENCODE), np.uint8) == N
                if is_n.any():
                    writer.runs.frombytes((n_runs(is_n) + (writer.total - len(sequence))).tobytes())
            return source

        with exclusive_lock(path.with_name(f".{path.name}.lock")):
            return _write(path, feed)


class _Writer:
    """The growing parts of a store."""

    def __init__(self, handle: IO[bytes]) -> None:
        self.lengths: dict[str, int] = {}
        self.runs = array("q")
        self.total = 0
        self.digest = hashlib.sha256()
        self._handle = handle

    def begin(self, name: str, length: int) -> None:
        if name in self.lengths:
            raise InputError(f"the name {name!r} comes twice", contig=name, remedy="give every sequence its own name")
        self.lengths[name] = length

    def add(self, bases: bytes) -> None:
        tokens = bases.translate(_STORED)
        self._handle.write(tokens)
        self.digest.update(tokens)
        self.total += len(tokens)


def _write_reference(reference: Reference, path: Path, *, force: bool = False) -> TokenStore:
    def feed(writer: _Writer) -> Mapping[str, Any]:
        def sink(file: int, chunk: ContigChunk) -> None:
            writer.add(chunk.bases)

        base = 0
        for scan in reference.read_through(sink):
            for contig in scan.contigs:
                writer.begin(contig.name, contig.length)
            writer.runs.frombytes((scan.n_runs + base).tobytes())
            base += scan.total
        reference.check_unchanged()
        return {"files": reference.fingerprint, "rna": reference.rna}

    return _write(path, feed, force=force)


def _write(path: Path, feed: Callable[[_Writer], Mapping[str, Any]], *, force: bool = False) -> TokenStore:
    with atomic_directory(path, force=force) as folder:
        tokens = folder / "tokens.bin"
        try:
            with open(tokens, "wb") as handle:
                writer = _Writer(handle)
                source = feed(writer)
            if not writer.total:
                raise InputError("no bases in these sequences", file=path, remedy="give sequences that have bases")
            np.save(folder / "n_runs.npy", np.array(writer.runs, np.int64).reshape(-1, 2))
            contigs = {"names": list(writer.lengths), "lengths": list(writer.lengths.values())}
            writer.digest.update(json.dumps(contigs).encode())
            record = {
                "format": _FORMAT,
                "format_version": _FORMAT_VERSION,
                "vocabulary": list(VOCAB),
                "fingerprint": writer.digest.hexdigest(),
                "edges": _edges(tokens),
                "source": source,
                "contigs": contigs,
            }
            (folder / "store.json").write_text(json.dumps(record), encoding="utf-8")
        except OSError as error:
            reason = f"cannot be written: {os.strerror(error.errno or 0).lower()}"
            raise InputError(reason, file=path, remedy="free some space or set XDG_CACHE_HOME") from error
    return TokenStore(path)


def _edges(tokens: Path) -> dict[str, int | str]:
    """Size and edge checksum of a token file; its time is not part of its identity, so that stores can be copied."""
    try:
        found = fingerprint(tokens)
    except OSError:
        raise InputError("the token store is damaged", file=tokens, remedy=_REMEDY) from None
    return {"size": found["size"], "edges_sha256": found["edges_sha256"]}
