"""Opening BAM, CRAM and SAM so that nothing is missed: what the file is, whether it is whole, and without a network."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path

import pysam

from hyena_dna.errors import InputError
from hyena_dna.genome.bgzf import is_bgzf

__all__ = [
    "alignment_kind",
    "check_cram_contigs",
    "cram_data_end",
    "cram_reference",
    "differing_md5",
    "open_alignments",
]

_HEAD = 1 << 16
# SAM specification section 4.1.2; CRAM specification section 9, versions 3.x and 2.1.
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_CRAM_3_END = bytes.fromhex("0f000000ffffffff0fe0454f4600000000010005bdd94f0001000606010001000100ee63014b")
_CRAM_2_END = bytes.fromhex("0b000000ffffffff0fe0454f460000000001000000000100010006060100010001 00".replace(" ", ""))
_MD5_PIECE = 1 << 24
# A folder that cannot exist: htslib then finds sequences nowhere but in the reference it is given.
_NOWHERE = f"{os.devnull}/%s"


def _truncated(path: Path, what: str) -> InputError:
    return InputError(f"the file is truncated: {what} is missing", file=path, remedy="copy or download it again")


def alignment_kind(path: Path) -> str:
    """Decide by content whether a file is "BAM", "CRAM" or "SAM" (also compressed), and that its end is there.

    Raises:
        InputError: it is missing, empty, something else, or lacks the mark that ends a whole BGZF or CRAM file.
    """
    if not path.is_file():
        reason = "is not a regular file" if path.exists() else "there is no such file"
        raise InputError(reason, file=path)
    try:
        with open(path, "rb") as handle:
            head = handle.read(_HEAD)
    except OSError as error:
        raise InputError(f"cannot be read: {os.strerror(error.errno or 0)}", file=path) from None
    if not head:
        raise InputError("the file is empty", file=path)
    if head.startswith(b"CRAM"):
        cram_data_end(path)
        return "CRAM"
    plain = head
    if head.startswith(b"\x1f\x8b"):
        if is_bgzf(head) and _tail(path, len(_BGZF_END)) != _BGZF_END:
            raise _truncated(path, "its end-of-file block")
        try:
            plain = zlib.decompressobj(31).decompress(head, _HEAD)
        except zlib.error:
            raise InputError("the compressed data are damaged", file=path) from None
    if plain.startswith(b"BAM\1"):
        if not is_bgzf(head):
            raise InputError("BAM in plain gzip", file=path, remedy="gunzip it once: BAM compresses itself")
        return "BAM"
    if plain[:3] in (b"@HD", b"@SQ", b"@RG", b"@PG", b"@CO") and plain[3:4] == b"\t":
        return "SAM"
    guess = {b">": "FASTA", b"@": "FASTQ"}.get(plain[:1])
    if plain.split(b"\n", 1)[0].count(b"\t") >= 10:
        raise InputError("SAM without a header", file=path, remedy="add @SQ lines: samtools view -ht REF.fai")
    reason = "this is not a BAM, CRAM or SAM file"
    raise InputError(f"{reason}: it looks like {guess}" if guess else reason, file=path)


def _tail(path: Path, size: int) -> bytes:
    with open(path, "rb") as handle:
        handle.seek(max(0, path.stat().st_size - size))
        return handle.read()


def cram_data_end(path: Path) -> int:
    """Byte offset of the container that ends a whole CRAM file.

    Raises:
        InputError: it is missing.
    """
    with open(path, "rb") as handle:
        version = handle.read(6)[4:6]
    end = _CRAM_3_END if version[:1] >= b"\3" else _CRAM_2_END
    if _tail(path, len(end)) != end:
        raise _truncated(path, "its end-of-file container")
    return path.stat().st_size - len(end)


def open_alignments(path: Path, kind: str, reference: Path | None, index: Path | None) -> pysam.AlignmentFile:
    """Open a checked file with htslib.

    For CRAM this pins `REF_PATH` and `REF_CACHE` of the process to nowhere, for good, so that htslib asks no server
    for sequences. htslib's own messages are switched off: every fault is raised.

    Raises:
        InputError: the header cannot be read.
    """
    if kind == "CRAM":
        os.environ["REF_PATH"] = os.environ["REF_CACHE"] = _NOWHERE
    pysam.set_verbosity(0)
    try:
        return pysam.AlignmentFile(
            str(path),
            check_sq=False,
            reference_filename=None if reference is None or kind != "CRAM" else str(reference),
            index_filename=None if index is None else str(index),
        )
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"the header cannot be read ({error})", file=path) from None


def _open_reference(reference: Path) -> pysam.FastaFile:
    # htslib would write a missing index beside the FASTA, or fail to, without a word.
    needed = [f"{reference}.fai"]
    try:
        with open(reference, "rb") as handle:
            if handle.read(2) == b"\x1f\x8b":
                needed.append(f"{reference}.gzi")
    except OSError as error:
        raise InputError(f"cannot be read: {os.strerror(error.errno or 0)}", file=reference) from None
    for name in needed:
        if not os.path.isfile(name):
            raise InputError(
                f"the reference of a CRAM needs its index {os.path.basename(name)} beside it",
                file=reference,
                remedy=f"samtools faidx {reference.name}",
            )
    try:
        return pysam.FastaFile(str(reference))
    except (OSError, ValueError) as error:
        raise InputError(f"the reference cannot be read ({error})", file=reference) from None


def cram_reference(path: Path, reference: Path | None) -> dict[str, int]:
    """Length in bp of every contig of the reference that came with a CRAM.

    Raises:
        InputError: there is no reference, it cannot be read, or it has no index beside it.
    """
    if reference is None:
        raise InputError("CRAM needs the reference it was made with", file=path, remedy="give --genome FASTA")
    with _open_reference(reference) as fasta:
        return dict(zip(fasta.references, fasta.lengths, strict=True))


def check_cram_contigs(path: Path, contigs: dict[str, int], in_reference: dict[str, int]) -> None:
    """Check that the reference has every contig of a CRAM, with its length.

    A contig that it lacks would be looked for at the place the CRAM header names, which may be anywhere.

    Raises:
        InputError: a contig is missing or has another length.
    """
    for name, length in contigs.items():
        if in_reference.get(name) != length:
            have = f"has {in_reference[name]} bp" if name in in_reference else "is missing"
            raise InputError(
                f"the contig has {length} bp, but in the reference it {have}",
                file=path,
                contig=name,
                remedy="use the reference that the CRAM was made with",
            )


def differing_md5(handle: pysam.AlignmentFile, reference: Path) -> str | None:
    """The first contig whose sequence in the reference has another MD5 than the header's M5 tag, or None.

    MD5 as in the SAM specification, section 1.3.2: of the upper-case sequence without line ends.
    """
    with _open_reference(reference) as fasta:
        for entry in handle.header.to_dict().get("SQ", []):
            if "M5" not in entry:
                continue
            digest = hashlib.md5(usedforsecurity=False)
            for start in range(0, entry["LN"], _MD5_PIECE):
                piece = fasta.fetch(entry["SN"], start, min(start + _MD5_PIECE, entry["LN"]))
                digest.update(piece.upper().encode("ascii"))
            if digest.hexdigest() != entry["M5"].lower():
                return str(entry["SN"])
    return None
