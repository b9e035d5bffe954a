"""Aligned reads: files that are read by half, by the wrong index, on the wrong strand, or over the network."""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import random
import shutil
import struct
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pysam
import pytest

from hyena_dna.errors import InputError
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reads import AlignedReads, Read
from hyena_dna.genome.sequence import reverse_complement

LENGTH = 20_000
CONTIGS = {"c": LENGTH, "d": 1000, "HLA": 500, "HLA:1-3": 500}


def _segment(
    header: pysam.AlignmentHeader,
    name: str,
    start: int,
    sequence: str | None,
    *,
    cigar: Sequence[tuple[int, int]] | None = None,
    flag: int = 0,
    contig: int = 0,
    quality: int | Sequence[int] | None = 40,
    mapping_quality: int = 60,
) -> pysam.AlignedSegment:
    read = pysam.AlignedSegment(header)
    read.query_name = name
    read.flag = flag
    read.query_sequence = sequence
    read.reference_id, read.reference_start = contig, start
    read.mapping_quality = mapping_quality
    if start >= 0 and (cigar or sequence):
        read.cigartuples = list(cigar or [(0, len(sequence or ""))])
    if sequence is not None and quality is not None:
        values = [quality] * len(sequence) if isinstance(quality, int) else list(quality)
        read.query_qualities = pysam.qualitystring_to_array("".join(chr(33 + value) for value in values))
    return read


def _header() -> pysam.AlignmentHeader:
    return pysam.AlignmentHeader.from_dict(
        {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": name, "LN": size} for name, size in CONTIGS.items()]}
    )


def _write(path: Path, reads: Sequence[pysam.AlignedSegment], *, reference: Path | None = None) -> Path:
    mode = {".bam": "wb", ".sam": "wh", ".cram": "wc"}[path.suffix]
    with pysam.AlignmentFile(
        str(path), mode, header=_header(), reference_filename=None if reference is None else str(reference)
    ) as out:
        for read in reads:
            out.write(read)
    if path.suffix != ".sam":
        pysam.index(str(path))
    return path


def _genome(seed: int) -> dict[str, str]:
    random.seed(seed)
    return {name: "".join(random.choices("ACGT", k=size)) for name, size in CONTIGS.items()}


def _tiled(genome: dict[str, str], step: int = 4) -> list[pysam.AlignedSegment]:
    """Reads of 100 bp from every fourth base of contig c, then 40 on d, then 2,000 without a place."""
    header = _header()
    reads = [
        _segment(header, f"c{i}", i, genome["c"][i : i + 100], flag=16 * (i % 8 == 0))
        for i in range(0, LENGTH - 100, step)
    ]
    reads += [_segment(header, f"d{i}", i, genome["d"][i : i + 100], contig=1) for i in range(0, 400, 10)]
    random.seed(5)
    return reads + [
        _segment(header, f"u{i}", -1, "".join(random.choices("ACGT", k=100)), flag=4, contig=-1, mapping_quality=0)
        for i in range(2000)
    ]


@pytest.fixture(scope="module")
def genome() -> dict[str, str]:
    return _genome(0)


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory, genome: dict[str, str]) -> Path:
    path = tmp_path_factory.mktemp("fasta") / "ref.fa"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in genome.items()))
    pysam.faidx(str(path))
    return path


@pytest.fixture(scope="module")
def bam(tmp_path_factory: pytest.TempPathFactory, genome: dict[str, str]) -> Path:
    return _write(tmp_path_factory.mktemp("bam") / "a.bam", _tiled(genome))


@pytest.fixture(scope="module")
def cram(tmp_path_factory: pytest.TempPathFactory, genome: dict[str, str], fasta: Path) -> Path:
    return _write(tmp_path_factory.mktemp("cram") / "a.cram", _tiled(genome), reference=fasta)


PLACED = len(range(0, LENGTH - 100, 4)) + 40
TOTAL = PLACED + 2000


def _blocks(data: bytes) -> list[tuple[int, int]]:
    """Offset and size of every BGZF block."""
    found, at = [], 0
    while at < len(data):
        size = struct.unpack_from("<H", data, at + 16)[0] + 1
        found.append((at, size))
        at += size
    return found


def _copy(bam: Path, folder: Path, data: bytes | None = None, *, index: bool = True) -> Path:
    path = folder / bam.name
    path.write_bytes(bam.read_bytes() if data is None else data)
    suffix = ".crai" if bam.suffix == ".cram" else ".bai"
    if index:
        shutil.copy(f"{bam}{suffix}", f"{path}{suffix}")
    return path


def _corrupt(bam: Path, folder: Path, *, index: bool = True) -> Path:
    data = bytearray(bam.read_bytes())
    offset, size = _blocks(bytes(data))[4]
    data[offset + size // 2] ^= 0xFF
    return _copy(bam, folder, bytes(data), index=index)


def _naive(path: Path, *, until_eof: bool = False) -> int:
    """How many reads pysam's plain loop sees."""
    pysam.set_verbosity(0)
    handle = pysam.AlignmentFile(str(path))
    count = sum(1 for _ in handle.fetch(until_eof=until_eof))
    with contextlib.suppress(OSError):
        handle.close()
    return count


@pytest.mark.parametrize("index", [True, False])
def test_corrupt_block_is_never_a_smaller_file(bam: Path, tmp_path: Path, index: bool) -> None:
    assert _naive(bam) == PLACED
    path = _corrupt(bam, tmp_path, index=True)
    assert 0 < _naive(path) < PLACED  # plain fetch() ends early, without an exception
    if not index:
        Path(f"{path}.bai").unlink()
    with pytest.raises(InputError, match=r"the data are damaged or truncated after [\d,]+ reads"):
        list(AlignedReads(path).reads(exclude_flags=0))


def test_corrupt_block_in_a_region_is_an_error_and_the_rest_is_readable(bam: Path, tmp_path: Path) -> None:
    reads = AlignedReads(_corrupt(bam, tmp_path))
    for action in (
        lambda: list(reads.reads(Interval("c", 0, LENGTH))),
        lambda: reads.consensus(Interval("c", 0, LENGTH)),
    ):
        with pytest.raises(InputError, match=r"damaged or truncated in c:1-20000"):
            action()
    assert len(list(reads.reads(Interval("d", 0, 1000)))) == 40


def test_missing_blocks_are_noticed_by_the_number_of_reads(bam: Path, tmp_path: Path) -> None:
    # A block between the unplaced reads: the file is well-formed and every place in the index is right.
    data = bam.read_bytes()
    offset, size = _blocks(data)[-3]
    path = _copy(bam, tmp_path, data[:offset] + data[offset + size :])
    assert _naive(path, until_eof=True) < TOTAL  # no exception
    with pytest.raises(InputError, match=r"the file holds [\d,]+ reads, but its index counted 7,015"):
        list(AlignedReads(path).reads(exclude_flags=0))
    assert TOTAL == 7015


def test_index_of_another_state_is_refused(bam: Path, tmp_path: Path, genome: dict[str, str]) -> None:
    data = bam.read_bytes()
    offset, size = _blocks(data)[4]
    shorter = _copy(bam, tmp_path, data[:offset] + data[offset + size :])
    os.utime(f"{shorter}.bai")  # newer than the file: times prove nothing
    with pytest.raises(InputError, match=r"the index a.bam.bai does not belong to this file"):
        AlignedReads(shorter)
    other = _write(tmp_path / "other.bam", _tiled(genome, step=8))
    shutil.copy(f"{bam}.bai", f"{other}.bai")
    with pytest.raises(InputError, match="does not belong to this file"):
        AlignedReads(other)
    pysam.index(str(other))
    assert len(list(AlignedReads(other).reads(Interval("c", 0, LENGTH)))) == len(range(0, LENGTH - 100, 8))


def test_csi_index_is_checked_and_used(bam: Path, tmp_path: Path) -> None:
    path = _copy(bam, tmp_path, index=False)
    pysam.index("-c", str(path))
    assert Path(f"{path}.csi").is_file()
    reads = AlignedReads(path)
    assert len(list(reads.reads(Interval("d", 0, 1000)))) == 40
    assert len(list(reads.reads(exclude_flags=0))) == TOTAL
    data = path.read_bytes()
    offset, size = _blocks(data)[4]
    path.write_bytes(data[:offset] + data[offset + size :])
    with pytest.raises(InputError, match=r"the index a.bam.csi does not belong"):
        AlignedReads(path)


@pytest.mark.parametrize("damage", [b"", b"BAI\1", b"nonsense", b"BAI\1\5\0\0\0\1\0"])
def test_damaged_index(bam: Path, tmp_path: Path, damage: bytes) -> None:
    path = _copy(bam, tmp_path)
    Path(f"{path}.bai").write_bytes(damage)
    with pytest.raises(InputError, match=r"a\.bam\.bai: the index is damaged \(make it again: samtools index\)"):
        AlignedReads(path)


BAD = [
    (1, None, "there is no such file"),
    (90, "no end block", "the file is truncated: its end-of-file block is missing"),
    (90, "half", "the file is truncated: its end-of-file block is missing"),
    (101, b"", "the file is empty"),
    (101, b">c\nACGT\n", "this is not a BAM, CRAM or SAM file: it looks like FASTA"),
    (101, b"@r1\nACGT\n+\nIIII\n", "it looks like FASTQ"),
    (101, b"hello\n", "this is not a BAM, CRAM or SAM file"),
    (101, b"\x1f\x8b\x08\x00junk", "this is not a BAM, CRAM or SAM file"),
    (101, b"\x1f\x8bjunk and more junk", "the compressed data are damaged"),
    (101, b"r1\t0\tc\t1\t60\t4M\t*\t0\t0\tACGT\tIIII\n", "SAM without a header"),
]


@pytest.mark.parametrize(("row", "content", "message"), BAD, ids=[f"row{b[0]}-{i}" for i, b in enumerate(BAD)])
def test_what_is_not_a_whole_alignment_file(
    bam: Path, tmp_path: Path, row: int, content: bytes | str | None, message: str
) -> None:
    path = tmp_path / "x.bam"
    data = bam.read_bytes()
    if content is not None:
        named = {"no end block": data[:-28], "half": data[: len(data) // 2]}
        path.write_bytes(named[content] if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        AlignedReads(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_region_without_index(bam: Path, tmp_path: Path) -> None:
    reads = AlignedReads(_copy(bam, tmp_path, index=False))
    with pytest.raises(InputError, match=r"there is no index .*\(samtools index a.bam\)"):
        reads.reads(Interval("c", 0, 10))
    with pytest.raises(InputError, match="there is no index"):
        reads.consensus(Interval("c", 0, 10))
    assert len(list(reads.reads())) == PLACED  # streaming needs none


def test_unknown_contig(bam: Path) -> None:
    with pytest.raises(InputError, match=r"the header has no contig 'chrc' \(the genome calls it 'c'"):
        AlignedReads(bam).reads(Interval("chrc", 0, 10))


def test_contig_names_are_not_regions(tmp_path: Path) -> None:
    header = _header()
    path = _write(
        tmp_path / "hla.bam",
        [_segment(header, "a", 1, "ACGT", contig=2), _segment(header, "b", 400, "ACGT", contig=3)],
    )
    with pysam.AlignmentFile(str(path)) as naive:
        assert [read.query_name for read in naive.fetch(region="HLA:1-3")] == ["a"]  # silently the other contig
    reads = AlignedReads(path)
    assert [read.name for read in reads.reads(Interval("HLA:1-3", 0, 500))] == ["b"]
    assert [read.name for read in reads.reads(Interval("HLA", 0, 500))] == ["a"]
    assert reads.consensus(Interval("HLA:1-3", 400, 404), min_depth=1) == b"ACGT"


def test_reads_are_skipped_by_reason(tmp_path: Path) -> None:
    header = _header()
    flags = {"unmapped": 4, "secondary": 256, "supplementary": 2048, "duplicate": 1024, "qc_fail": 512}
    rows = [_segment(header, name, 10, "ACGT", flag=flag) for name, flag in flags.items()]
    rows += [
        _segment(header, "both", 10, "ACGT", flag=256 + 1024),
        _segment(header, "no_sequence", 10, None, cigar=[(0, 4)]),
        _segment(header, "low", 10, "ACGT", mapping_quality=5),
        _segment(header, "paired", 10, "ACGT", flag=1),
        _segment(header, "kept", 10, "ACGT"),
    ]
    path = _write(tmp_path / "f.bam", rows)
    reads = AlignedReads(path)
    assert [read.name for read in reads.reads(min_mapping_quality=20, exclude_flags=0xF05)] == ["kept"]
    once = Counter(dict.fromkeys(flags, 1)) + Counter(
        {"secondary": 1, "no_sequence": 1, "low_mapping_quality": 1, "other_flag": 1, "kept": 1}
    )
    assert reads.counts == once
    assert sum(once.values()) == len(rows)
    everything = list(AlignedReads(path).reads(exclude_flags=0))
    assert len(everything) == len(rows) - 1  # without sequence there is nothing to read
    assert everything[0] == Read("unmapped", b"ACGT", None, None, None, False, 60, 4)


@pytest.mark.parametrize("suffix", [".bam", ".sam", ".cram"])
def test_reads_have_the_direction_of_sequencing(
    tmp_path: Path, genome: dict[str, str], fasta: Path, suffix: str
) -> None:
    header = _header()
    forward = genome["c"][100:150]
    rows = [
        _segment(header, "plus", 100, forward),
        _segment(header, "minus", 100, forward, flag=16),
        _segment(header, "hard", 100, forward, flag=16, cigar=[(5, 50), (0, 50)]),
        _segment(header, "soft", 103, forward, cigar=[(4, 3), (0, 40), (2, 5), (0, 7)]),
        _segment(header, "iupac", 110, "ACRYN" + forward[:5]),
    ]
    path = _write(tmp_path / f"o{suffix}", rows, reference=fasta if suffix == ".cram" else None)
    found = {read.name: read for read in AlignedReads(path, reference=fasta).reads()}
    assert found["plus"].sequence == forward.encode()
    assert found["minus"].sequence == reverse_complement(forward.encode())
    assert found["minus"].reverse
    assert found["hard"].sequence == reverse_complement(forward.encode())  # hard-clipped bases are not in the file
    assert found["soft"].sequence == forward.encode()
    assert (found["soft"].chrom, found["soft"].start, found["soft"].end) == ("c", 103, 155)
    assert found["iupac"].sequence == b"ACNNN" + forward[:5].encode()


def test_equal_signs_are_no_bases(tmp_path: Path) -> None:
    path = _write(tmp_path / "e.bam", [_segment(_header(), "calmd", 10, "A==T")])
    with pytest.raises(InputError, match="the sequence of read 'calmd' holds '='"):
        list(AlignedReads(path).reads())


SAM = "@HD\tVN:1.6\n@SQ\tSN:c\tLN:100\n"


@pytest.mark.parametrize(
    ("row", "lines", "message"),
    [
        (99, "r1\t0\tc\t5\t60\t4M\t*\t0\t0\tACGT\tIIII\nr2\t0\tzz\t5\t60\t4M\t*\t0\t0\tACGT\tIIII\n",
         ":4: read 'r2' lies on a contig that no @SQ line names"),
        (90, "r1\t0\tc\t5\t60\t4M\t*\t0\t0\tACGT\tIIII\nr2\t0\tc\t5\t6", ":4: the data are damaged or truncated"),
        (90, "r1\t0\tc\tx\t60\t4M\t*\t0\t0\tACGT\tIIII\n", ":3: the data are damaged or truncated after 0 reads"),
    ],
)  # fmt: skip
def test_bad_sam_lines(tmp_path: Path, row: int, lines: str, message: str) -> None:
    path = tmp_path / "x.sam"
    path.write_text(SAM + lines)
    with pytest.raises(InputError) as caught:
        list(AlignedReads(path).reads())
    assert message in str(caught.value)


def test_unknown_contig_in_sam_is_silent_in_pysam(tmp_path: Path) -> None:
    path = tmp_path / "x.sam"
    path.write_text(SAM + "r1\t0\tzz\t5\t60\t4M\t*\t0\t0\tACGT\tIIII\n")
    pysam.set_verbosity(0)
    with pysam.AlignmentFile(str(path)) as naive:
        assert [read.is_unmapped for read in naive] == [True]


def test_region_of_a_sam(tmp_path: Path) -> None:
    path = tmp_path / "x.sam"
    path.write_text(SAM)
    with pytest.raises(InputError, match=r"a region of a SAM file cannot be looked up \(samtools sort -o x.bam"):
        AlignedReads(path).reads(Interval("c", 0, 10))


def test_unaligned_bam_has_reads_and_no_contigs(tmp_path: Path) -> None:
    path = tmp_path / "u.bam"
    header = pysam.AlignmentHeader.from_dict({"HD": {"VN": "1.6", "SO": "unknown"}})
    with pysam.AlignmentFile(str(path), "wb", header=header) as out:
        out.write(_segment(header, "hifi", -1, "ACGT", flag=4, contig=-1))
    reads = AlignedReads(path)
    assert reads.contigs == {}
    assert [read.sequence for read in reads.reads(exclude_flags=0)] == [b"ACGT"]


def test_cram_gives_what_bam_gives(bam: Path, cram: Path, fasta: Path) -> None:
    from_bam, from_cram = AlignedReads(bam), AlignedReads(cram, reference=fasta)
    assert [(r.name, r.sequence) for r in from_bam.reads()] == [(r.name, r.sequence) for r in from_cram.reads()]
    place = Interval("c", 5000, 9000)
    assert [r.name for r in from_bam.reads(place)] == [r.name for r in from_cram.reads(place)]
    assert from_bam.consensus(place) == from_cram.consensus(place)


def test_cram_needs_its_reference(cram: Path, fasta: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"CRAM needs the reference it was made with \(give --genome FASTA\)"):
        AlignedReads(cram)
    other = tmp_path / "other.fa"
    other.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in _genome(1).items()))
    with pytest.raises(InputError, match=r"needs its index other.fa.fai beside it \(samtools faidx other.fa\)"):
        AlignedReads(cram, reference=other)
    assert not Path(f"{other}.fai").exists()  # htslib would have written one beside the user's file
    pysam.faidx(str(other))
    wrong = AlignedReads(cram, reference=other)
    for action in (
        lambda: list(wrong.reads()),
        lambda: list(wrong.reads(Interval("c", 0, 100))),
        lambda: wrong.consensus(Interval("c", 0, 100)),
    ):
        with pytest.raises(InputError, match=r"a\.cram:c: .*other.fa is not the reference .*: the MD5 differs"):
            action()
    other.write_text(">c\nACGT\n")
    pysam.faidx(str(other))
    with pytest.raises(InputError, match=rf":c: the contig has {LENGTH} bp, but in the reference it has 4 bp"):
        AlignedReads(cram, reference=other)
    other.write_text(">x\nACGT\n")
    pysam.faidx(str(other))
    with pytest.raises(InputError, match=r":c: .* in the reference it is missing"):
        AlignedReads(cram, reference=other)


def test_cram_asks_no_server(cram: Path, fasta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REF_PATH", "http://127.0.0.1:9/%s")
    monkeypatch.setenv("REF_CACHE", str(cram.parent / "%s"))
    AlignedReads(cram, reference=fasta)
    assert os.environ["REF_PATH"] == os.environ["REF_CACHE"] == "/dev/null/%s"


def test_damaged_cram(cram: Path, fasta: Path, tmp_path: Path) -> None:
    data = cram.read_bytes()
    for cut in (data[:-38], data[: len(data) // 2]):
        with pytest.raises(InputError, match="truncated: its end-of-file container is missing"):
            AlignedReads(_copy(cram, tmp_path, cut), reference=fasta)
    flipped = bytearray(data)
    with gzip.open(f"{cram}.crai", "rt") as handle:  # the first slice, which holds reads of c
        container, offset, size = map(int, handle.readline().split("\t")[3:])
    flipped[container + offset + size // 2] ^= 0xFF
    reads = AlignedReads(_copy(cram, tmp_path, bytes(flipped)), reference=fasta)
    with pytest.raises(InputError, match="the data are damaged or truncated after"):
        list(reads.reads(exclude_flags=0))
    with pytest.raises(InputError, match="the data are damaged or truncated in"):
        list(reads.reads(Interval("c", 0, LENGTH)))
    with pytest.raises(InputError, match="the data are damaged or truncated in"):
        reads.consensus(Interval("c", 0, LENGTH))
    longer = _copy(cram, tmp_path, data[:-38] + b"\0" * 5000 + data[-38:])
    with pytest.raises(InputError, match=r"the index a.cram.crai does not belong to this file"):
        AlignedReads(longer, reference=fasta)


def test_every_flipped_byte_gives_the_same_reads_or_an_error(bam: Path, tmp_path: Path) -> None:
    expected = [(read.name, read.sequence) for read in AlignedReads(bam).reads()]
    data = bam.read_bytes()
    random.seed(3)
    errors = 0
    for at in random.sample(range(len(data)), 40):
        damaged = bytearray(data)
        damaged[at] ^= 1 << random.randrange(8)
        try:
            found = [(r.name, r.sequence) for r in AlignedReads(_copy(bam, tmp_path, bytes(damaged))).reads()]
        except InputError:
            errors += 1
        else:
            assert found == expected, at
    assert errors > 30


@pytest.mark.parametrize(
    ("genome_contigs", "message"),
    [
        ({"c": LENGTH + 1}, f":c: the reads were aligned to {LENGTH} bp, but the genome has {LENGTH + 1} bp"),
        ({"chrc": LENGTH}, "the genome has none of the 4 contigs the reads were aligned to, such as 'c'"),
    ],
)
def test_reads_of_another_assembly(bam: Path, genome_contigs: dict[str, int], message: str) -> None:
    with pytest.raises(InputError) as caught:
        AlignedReads(bam).check_contigs(genome_contigs)
    assert message in str(caught.value)


def test_contigs_that_the_genome_lacks_are_listed(bam: Path) -> None:
    assert AlignedReads(bam).check_contigs({"c": LENGTH, "d": 1000}) == ["HLA", "HLA:1-3"]


def _pileup(reads: Sequence[pysam.AlignedSegment], start: int, end: int, depth: int, base: int, mapping: int) -> bytes:
    """A consensus by walking every CIGAR, base by base."""
    columns = [Counter[str]() for _ in range(start, end)]
    for read in reads:
        if read.flag & 0xF04 or read.query_sequence is None or read.mapping_quality < mapping:
            continue
        query, position = 0, read.reference_start
        for operation, size in read.cigartuples or []:
            for _ in range(size):
                if operation in (0, 7, 8):
                    letter = read.query_sequence[query]
                    quality = 0 if read.query_qualities is None else read.query_qualities[query]
                    if start <= position < end and letter in "ACGT" and (quality >= base or base == 0):
                        columns[position - start][letter] += 1
                query += operation in (0, 1, 4, 7, 8)
                position += operation in (0, 2, 3, 7, 8)
    sequence = ""
    for column in columns:
        best = column.most_common(2)
        tied = len(best) == 2 and best[0][1] == best[1][1]
        sequence += "N" if tied or sum(column.values()) < depth else best[0][0]
    return sequence.encode()


@pytest.mark.parametrize(("depth", "base", "mapping"), [(3, 13, 1), (1, 0, 0), (2, 30, 20)])
def test_consensus_equals_a_slow_pileup(tmp_path: Path, depth: int, base: int, mapping: int) -> None:
    random.seed(7)
    header = _header()
    rows: list[pysam.AlignedSegment] = []
    for start in sorted(random.choices(range(300), k=400)):
        cigar = random.choice(
            [[(0, 40)], [(4, 5), (0, 30), (4, 5)], [(0, 15), (2, 4), (0, 25)], [(0, 10), (1, 6), (7, 10), (8, 14)],
             [(5, 9), (0, 20), (3, 50), (0, 20)]]
        )  # fmt: skip
        sequence = "".join(random.choices("ACGTN", [5, 2, 2, 2, 1], k=40))
        flag = random.choice([0, 0, 16, 0, 16, 1024, 256, 2048, 512, 4])
        quality = None if random.random() < 0.1 else [random.randrange(45) for _ in range(40)]
        mapq = random.choice([0, 10, 60])
        rows.append(
            _segment(
                header, f"r{len(rows)}", start, sequence, cigar=cigar, flag=flag, quality=quality, mapping_quality=mapq
            )
        )
    reads = AlignedReads(_write(tmp_path / "p.bam", rows))
    found = reads.consensus(Interval("c", 0, 450), min_depth=depth, min_base_quality=base, min_mapping_quality=mapping)
    expected = _pileup(rows, 0, 450, depth, base, mapping)
    assert found == expected
    assert 100 < len(found) - found.count(b"N") < 450


def test_consensus_has_exactly_the_length_asked(
    bam: Path, genome: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = AlignedReads(bam)
    truth = genome["d"].encode()
    whole = reads.consensus(Interval("d", -20, 1010), min_depth=1)
    assert len(whole) == 1030
    assert whole == b"N" * 20 + truth[:490] + b"N" * 520
    assert reads.consensus(Interval("d", 100, 200, "-")) == reverse_complement(truth[100:200])
    assert reads.consensus(Interval("d", -50, -10)) == b"N" * 40
    assert reads.consensus(Interval("d", 5000, 5010)) == b"N" * 10
    assert reads.consensus(Interval("d", 5, 5)) == b""
    assert reads.consensus(Interval("d", 0, 30))[:20] == b"N" * 20  # two reads cover 10-19, three are asked for
    monkeypatch.setattr("hyena_dna.genome.consensus._PIECE", 7)
    assert reads.consensus(Interval("d", -20, 1010), min_depth=1) == whole
    with pytest.raises(InputError, match="at least one read"):
        reads.consensus(Interval("d", 0, 5), min_depth=0)


def test_ties_are_n(tmp_path: Path) -> None:
    header = _header()
    rows = [_segment(header, "a", 10, "AAC"), _segment(header, "b", 10, "CAC"), _segment(header, "c", 12, "G")]
    assert AlignedReads(_write(tmp_path / "t.bam", rows)).consensus(Interval("c", 10, 13), min_depth=1) == b"NAC"


def test_iterations_and_threads_do_not_share_a_file_position(bam: Path) -> None:
    with AlignedReads(bam) as reads:
        place = Interval("c", 4000, 8000)
        alone = [read.name for read in reads.reads(place)]
        nested = []
        for read in reads.reads(place):
            nested.append(read.name)
            assert next(reads.reads(Interval("d", 0, 50))).name == "d0"
        assert nested == alone
        barrier = threading.Barrier(4)

        def work(_: int) -> list[str]:
            barrier.wait()
            return [read.name for _ in range(5) for read in reads.reads(place)]

        with ThreadPoolExecutor(4) as pool:
            assert all(found == alone * 5 for found in pool.map(work, range(4)))


def test_forked_children_read_what_the_parent_reads(bam: Path) -> None:
    reads = AlignedReads(bam)
    expected = reads.consensus(Interval("c", 0, LENGTH))  # leaves an open handle behind
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            same = all(reads.consensus(Interval("c", 0, LENGTH)) == expected for _ in range(5))
            os._exit(0 if same else 1)
        children.append(pid)
    assert reads.consensus(Interval("c", 0, LENGTH)) == expected
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4


def test_pickled_reads_are_usable(bam: Path) -> None:
    reads = AlignedReads(bam)
    list(reads.reads(Interval("d", 0, 1000)))
    again: AlignedReads = pickle.loads(pickle.dumps(reads))
    assert len(list(again.reads(Interval("d", 0, 1000)))) == 40
    assert again.counts["kept"] == 80


def test_abandoned_iteration_is_counted_and_leaves_no_open_file(bam: Path) -> None:
    reads = AlignedReads(bam)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        iterator = reads.reads()
        next(iterator)
        iterator.close()  # type: ignore[attr-defined]
    assert reads.counts["kept"] == 50
    assert len(os.listdir("/proc/self/fd")) == before


def test_real_reads_agree_with_their_genome(shared_data: Path) -> None:
    folder = shared_data / "na12878_chr20"
    reads = AlignedReads(folder / "NA12878_small.bam")
    assert len(list(reads.reads(exclude_flags=0))) == 973
    assert len(list(reads.reads())) == 963
    assert reads.counts == {"kept": 973 + 963, "unmapped": 8, "duplicate": 2}
    place = Interval("chr20", 9_999_900, 10_002_100)
    found = reads.consensus(place)
    with pysam.FastaFile(str(folder / "ucsc.hg19.chr20.unittest.fasta.gz")) as handle:
        truth = handle.fetch("chr20", place.start, place.end).upper().encode()
    assert reads.check_contigs({"chr20": 63_025_520})
    called = [place.start + i for i, base in enumerate(found) if base != ord("N")]
    differing = {
        at: chr(found[at - place.start]) for at in called if found[at - place.start] != truth[at - place.start]
    }
    # Measured: 2,076 of 2,200 bases are called and 9 differ. Each of them is a variant of this person in the NIST truth
    # set, and no homozygous one that is covered is missed.
    assert (len(called), len(differing)) == (2076, 9)
    with pysam.VariantFile(str(folder / "test_nist.b37_chr20_100kbp_at_10mb.vcf.gz")) as truth_set:
        variants = [v for v in truth_set if v.start < place.end and v.alts and len(v.ref or "") == len(v.alts[0]) == 1]
    alternatives = {v.start: v.alts[0] for v in variants if v.alts}
    assert {at: alternatives.get(at) for at in differing} == differing
    homozygous = {v.start for v in variants if v.samples[0]["GT"] == (1, 1)} & set(called)
    assert len(homozygous) == 8
    assert homozygous <= set(differing)
