"""What is wrong with a file that is no sound FASTA of nucleotides, in words a user can act on."""

from __future__ import annotations

__all__ = ["explain_forbidden", "explain_start"]

_AMINO_ACIDS_ONLY = frozenset(b"EFILPQZJOXefilpqzjox")
_PROTEIN_SHARE = 0.001
_LOOK_AHEAD = 1_000_000

_STARTS = (
    (b"@", "this looks like FASTQ", "convert it: `seqkit fq2fa IN > OUT`"),
    (
        b"\xef\xbb\xbf",
        "the file begins with a byte order mark (BOM)",
        "remove it: `sed -i '1s/^\\xEF\\xBB\\xBF//' FILE`",
    ),
    (b"BZh", "this is bzip2", "use bgzip: `bunzip2 FILE && bgzip FILE`"),
    (b"\xfd7zXZ", "this is xz", "use bgzip: `unxz FILE && bgzip FILE`"),
    (b"\x28\xb5\x2f\xfd", "this is zstd", "use bgzip: `unzstd FILE && bgzip FILE`"),
    (b"PK\x03\x04", "this is a zip archive", "unpack it, then use bgzip"),
    (b"\x43\x27\x41\x1a", "this is 2bit", "convert it: `twoBitToFa IN OUT`"),
    (b"\x1a\x41\x27\x43", "this is 2bit", "convert it: `twoBitToFa IN OUT`"),
    (b"LOCUS", "this looks like GenBank", "convert it: `seqret IN fasta::OUT`"),
    (b"BAM\x01", "this is BAM", "give reads with --bam"),
)


def explain_start(text: bytes) -> tuple[str, str]:
    """Reason and remedy for a file whose first text is not a FASTA header."""
    for magic, reason, remedy in _STARTS:
        if text.startswith(magic):
            return reason, remedy
    return "text before the first header", "a FASTA file begins with '>'"


def explain_forbidden(byte: bytes, context: bytes, *, crlf: bool) -> tuple[str, str]:
    """Reason and remedy for a byte that the alphabet rule forbids.

    Args:
        byte: the byte.
        context: sequence lines around it, of the same contig.
        crlf: whether the file's lines end in CR LF.
    """
    if byte in b"Uu":
        return "U in a DNA sequence", "write T; commands that read RNA take --rna"
    if byte == b"\r":
        return (
            "mixed line ends: a CR that ends no line" if crlf else "mixed line ends (LF and CR LF)",
            "write one kind of line end: `tr -d '\\r' < IN > OUT`",
        )
    if byte in b" \t0123456789":
        return f"{_show(byte)} in a sequence", "sequence lines hold bases only: no blanks, no numbers"
    if byte == b"\x00":
        return "a NUL byte in a sequence", "the file is damaged: copy or download it again"
    if byte == b">":
        return "'>' within a sequence line", "begin headers on a new line"
    if byte in b"*-.":
        return f"{_show(byte)} in a sequence", "remove gaps and stops, or write N for unknown bases"
    if _is_protein(context[:_LOOK_AHEAD]):
        return "this looks like protein", "give nucleotide sequences"
    return f"{_show(byte)} is no nucleotide code", "write N for unknown bases"


def _show(byte: bytes) -> str:
    return repr(byte)[1:]


def _is_protein(context: bytes) -> bool:
    # One stray letter in a short contig is a typing error; a protein shows several of these letters soon.
    letters = [letter for letter in context if letter in _AMINO_ACIDS_ONLY]
    return len(set(letters)) >= 3 and len(letters) > _PROTEIN_SHARE * len(context)
