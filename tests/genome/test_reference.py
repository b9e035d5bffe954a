"""`Reference.fetch`: the right bases, the right number of them, whoever asks and whatever lies beside the file."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import shutil
import tempfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyfaidx
import pysam
import pytest
from Bio.bgzf import BgzfWriter

from hyena_dna.errors import InputError
from hyena_dna.genome import verdicts
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.sequence import NORMALISE, reverse_complement
from hyena_dna.paths import cache_root

_FORK = multiprocessing.get_context("fork")


def wrap(contigs: dict[str, bytes], width: int = 60, eol: bytes = b"\n") -> bytes:
    return b"".join(
        b">" + name.encode() + eol + b"".join(bases[i : i + width] + eol for i in range(0, len(bases), width))
        for name, bases in contigs.items()
    )


def write(path: Path, data: bytes) -> Path:
    """Write plain, or as blocks of a full 64 KiB where the name ends in .gz."""
    if path.suffix == ".gz":
        with BgzfWriter(str(path), "wb") as handle:  # type: ignore[no-untyped-call]
            handle.write(data)
    else:
        path.write_bytes(data)
    return path


def random_contigs(seed: int, sizes: list[int], letters: bytes = b"ACGTacgtNnRY") -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    return {f"c{i}": rng.choice(np.frombuffer(letters, np.uint8), n).tobytes() for i, n in enumerate(sizes)}


def truth(contigs: dict[str, bytes], interval: Interval) -> bytes:
    """The slow definition: base by base."""
    bases = contigs[interval.chrom].translate(NORMALISE)
    taken = bytes(bases[i] if 0 <= i < len(bases) else ord("N") for i in range(interval.start, interval.end))
    return reverse_complement(taken) if interval.strand == "-" else taken


def random_interval(rng: np.random.Generator, contigs: dict[str, bytes], longest: int) -> Interval:
    chrom = str(rng.choice(list(contigs)))
    start = int(rng.integers(-50, len(contigs[chrom]) + 50))
    return Interval(chrom, start, start + int(rng.integers(0, longest)), str(rng.choice(["+", "-", "."])))


def in_processes(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Results of `work(i)` in forked processes that start together; an exception counts as its text."""
    queue: Any = _FORK.Queue()
    barrier = _FORK.Barrier(count)

    def run(i: int) -> None:
        barrier.wait()
        try:
            queue.put(work(i))
        except Exception as error:
            queue.put(repr(error))

    processes = [_FORK.Process(target=run, args=(i,)) for i in range(count)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    return results


@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz"])
@pytest.mark.parametrize("eol", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("width", [1, 59, 60, 61, 10**6])
def test_random_windows_equal_the_truth(tmp_path: Path, name: str, eol: bytes, width: int) -> None:
    contigs = random_contigs(3, [1, 61, 0, 140_000, 59])
    reference = Reference(write(tmp_path / name, wrap(contigs, width, eol)))
    assert reference.contigs == {name: len(bases) for name, bases in contigs.items()}
    rng = np.random.default_rng(1)
    for _ in range(150):
        interval = random_interval(rng, contigs, 300)
        assert reference.fetch(interval) == truth(contigs, interval), interval
    for border in (65536, 131072):
        for start in range(border - 130, border + 3):
            interval = Interval("c3", start, start + 70)
            assert reference.fetch(interval) == truth(contigs, interval)
    assert reference.fetch(Interval("c3", -7, 140_009, "-")) == truth(contigs, Interval("c3", -7, 140_009, "-"))


def test_first_base_of_a_full_block_where_pyfaidx_fails(tmp_path: Path) -> None:
    """pyfaidx looks in the block before, at an offset that BGZF cannot express."""
    contigs = random_contigs(3, [200_000], b"ACGT")
    path = write(tmp_path / "g.fa.gz", wrap(contigs, 10**6))
    at = 65536 - len(">c0\n")
    naive = pyfaidx.Fasta(str(path), indexname=str(tmp_path / "x.fai"), gzi_indexname=str(tmp_path / "x.gzi"))
    with pytest.raises(ValueError):
        naive["c0"][at : at + 5]
    assert Reference(path).fetch(Interval("c0", at, at + 5)) == contigs["c0"][at : at + 5]


def test_windows_before_the_start_where_pyfaidx_reads_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", b">c\nACGTACGTACGTACGTGGTC\n")
    naive = pyfaidx.Fasta(str(path))
    assert str(naive["c"][-4:18]) == "GG"
    assert Reference(path).fetch(Interval("c", -4, 18)) == b"NNNNACGTACGTACGTACGTGG"


def test_windows_past_the_end_where_both_libraries_shorten(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", b">c\nACGTACGTAC\n")
    assert str(pyfaidx.Fasta(str(path))["c"][8:14]) == "AC"
    assert pysam.FastaFile(str(path)).fetch("c", 8, 14) == "AC"
    reference = Reference(path)
    assert reference.fetch(Interval("c", 8, 14)) == b"ACNNNN"
    assert reference.fetch(Interval("c", 8, 14, "-")) == b"NNNNGT"
    assert reference.fetch(Interval("c", 20, 24)) == reference.fetch(Interval("c", -24, -20)) == b"NNNN"
    assert reference.fetch(Interval("c", -2, 12)) == b"NNACGTACGTACNN"
    assert reference.fetch(Interval("c", 5, 5)) == b""


def test_an_older_index_where_both_libraries_give_header_text(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", b">chr1\nACGTACGTAC\n>chr2\nGGGGTTTTCC\n")
    pyfaidx.Fasta(str(path)).close()
    path.write_bytes(b">chr1 new description here\nTTTTTTTTTT\n>chr2 another one\nAAAAAAAAAA\n")
    os.utime(path, (1, 1))  # as `cp -p`, rsync and tar leave it
    assert not set(str(pyfaidx.Fasta(str(path))["chr1"][:])) <= set("ACGTN")
    assert not set(pysam.FastaFile(str(path)).fetch("chr1")) <= set("ACGTN")
    assert Reference(path).fetch(Interval("chr1", 0, 10)) == b"T" * 10


def test_an_empty_index_where_both_libraries_see_no_contigs(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", b">a\nACGT\n")
    Path(f"{path}.fai").touch()
    assert len(pyfaidx.Fasta(str(path)).keys()) == 0
    assert not pysam.FastaFile(str(path)).references
    assert Reference(path).contigs == {"a": 4}


def test_a_damaged_cached_index_is_made_again(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", b">a\nACGT\n>b\nGG\n")
    assert Reference(path).fetch(Interval("b", 0, 2)) == b"GG"
    for name in ("index.fai", "n_runs.npy", "verdict.json"):
        (damaged,) = cache_root().glob(f"fasta/*/{name}")
        damaged.write_bytes(b"")
        reference = Reference(path)
        assert reference.fetch(Interval("b", 0, 2)) == b"GG"
        assert damaged.stat().st_size > 0


def test_a_changed_file_is_read_again_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "g.fa", b">a\nACGT\n")
    assert Reference(path).contigs == {"a": 4}
    path.write_bytes(b">a\nACGTAA\n")
    with caplog.at_level("INFO", "hyena_dna"):
        assert Reference(path).contigs == {"a": 6}
    assert "changed since" in caplog.text
    assert len(list(cache_root().glob("fasta/*/verdict.json"))) == 1


def test_an_edit_that_keeps_size_time_and_ends_is_seen(tmp_path: Path) -> None:
    """The fingerprint cannot see it; the headers that are no longer in place give it away."""
    text = wrap(random_contigs(0, [100_000, 100, 100_000], b"ACGT"))
    path = write(tmp_path / "g.fa", text)
    assert list(Reference(path).contigs) == ["c0", "c1", "c2"]
    status = path.stat()
    path.write_bytes(text.replace(b">c1\n", b">x1\n"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert list(Reference(path).contigs) == ["c0", "x1", "c2"]


def test_a_second_open_reads_no_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "g.fa", wrap(random_contigs(0, [1000, 0, 50])))
    first = Reference(path)
    expected = first.scan[0]
    monkeypatch.setattr(verdicts, "scan_fasta", None)
    again = Reference(path).scan[0]
    assert again.contigs == expected.contigs
    assert again.n_runs.tolist() == expected.n_runs.tolist()
    assert again.fingerprint == expected.fingerprint


def test_a_file_cut_short_during_the_run(tmp_path: Path) -> None:
    text = wrap({"a": b"ACGT" * 10_000, "b": b"G" * 20_000})
    path = write(tmp_path / "g.fa", text)
    naive = pyfaidx.Fasta(str(path))
    reference = Reference(path)
    assert reference.fetch(Interval("a", 0, 2)) == b"AC"
    path.write_bytes(text[:-40])
    assert len(str(naive["b"][19_950:20_000])) < 50
    with pytest.raises(InputError, match="changed"):
        reference.fetch(Interval("b", 19_950, 20_000))
    with pytest.raises(InputError, match="changed during the run"):
        reference.check_unchanged()
    with pytest.raises(InputError, match="changed during the run"):
        pickle.loads(pickle.dumps(reference)).fetch(Interval("b", 0, 2))


def test_a_block_damaged_during_the_run_names_contig_and_position(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa.gz", wrap(random_contigs(0, [300_000], b"ACGT")))
    reference = Reference(path)
    reference.fetch(Interval("c0", 0, 10))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(InputError) as caught:
        reference.fetch(Interval("c0", 0, 300_000))
    assert caught.value.contig == "c0"
    assert caught.value.position is not None
    with pytest.raises(InputError, match="damaged BGZF block"):
        Reference(path).contigs  # noqa: B018


def test_a_forked_fetch_leaves_the_parents_position_alone(tmp_path: Path) -> None:
    contigs = random_contigs(7, [400_000], b"ACGT")
    path = write(tmp_path / "g.fa", wrap(contigs))
    naive = pyfaidx.Fasta(str(path))
    reference = Reference(path)

    def positions() -> list[int]:
        opened = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
        ours = [int(fd) for fd in opened if os.path.realpath(f"/proc/self/fd/{fd}") == str(path)]
        return [os.lseek(fd, 0, os.SEEK_CUR) for fd in sorted(ours)]

    str(naive["c0"][0:10]), reference.fetch(Interval("c0", 0, 10))
    before = positions()
    in_processes(1, lambda _: (str(naive["c0"][300_000:300_010]), reference.fetch(Interval("c0", 300_000, 300_010))))
    after = positions()
    assert after[0] != before[0]  # pyfaidx: the child moved the parent's file
    assert after[1] == before[1]


@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz"])
def test_forked_processes_do_not_share_a_file_position(tmp_path: Path, name: str) -> None:
    """A pyfaidx handle inherited across a fork gives wrong bases in about 2 % of fetches under this load."""
    contigs = random_contigs(7, [400_000], b"ACGT")
    reference = Reference(write(tmp_path / name, wrap(contigs)))
    reference.fetch(Interval("c0", 0, 10))  # the parent's handle is open, as in a data loader

    def work(i: int) -> int:
        rng = np.random.default_rng(i)
        starts = rng.integers(0, 399_800, 2000)
        return sum(reference.fetch(Interval("c0", s, s + 200)) != contigs["c0"][s : s + 200] for s in starts.tolist())

    assert in_processes(4, work) == [0, 0, 0, 0]


@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz"])
def test_threads_share_a_reference(tmp_path: Path, name: str) -> None:
    contigs = random_contigs(8, [300_000], b"ACGT")
    reference = Reference(write(tmp_path / name, wrap(contigs)))
    wrong: list[int] = []

    def work(seed: int) -> None:
        starts = np.random.default_rng(seed).integers(0, 299_800, 400).tolist()
        wrong.extend(s for s in starts if reference.fetch(Interval("c0", s, s + 200)) != contigs["c0"][s : s + 200])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_processes_that_start_together_all_see_all_contigs(tmp_path: Path) -> None:
    """pyfaidx and pysam index in place: some of eight processes then open a file with part of its contigs, or none."""
    path = write(tmp_path / "g.fa", b"".join(b">c%d\nACGTACGTACGT\n" % i for i in range(20_000)))

    def work(_: int) -> tuple[int, bytes]:
        reference = Reference(path)
        return len(reference.contigs), reference.fetch(Interval("c19999", -1, 4))

    for _ in range(2):
        assert in_processes(8, work) == [(20_000, b"NACGT")] * 8
        shutil.rmtree(cache_root())


def test_a_pickled_reference_opens_its_own_handle(tmp_path: Path) -> None:
    reference = Reference(write(tmp_path / "g.fa.gz", b">a\nACGTN\n"))
    reference.fetch(Interval("a", 0, 2))
    copy = pickle.loads(pickle.dumps(reference))
    reference.close()
    assert copy.fetch(Interval("a", 1, 6, "-")) == b"NNACG"
    with reference:
        assert reference.fetch(Interval("a", 0, 2)) == b"AC"


@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz"])
def test_the_folder_of_the_data_stays_as_it_was(tmp_path: Path, name: str) -> None:
    """pyfaidx and pysam leave index files there, and pyfaidx can be told to write into the FASTA itself."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = write(folder / name, b">a\nACGTN\n")
    Path(f"{path}.fai").write_text("a user's own file\n")
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    assert Reference(path).fetch(Interval("a", 0, 5)) == b"ACGTN"
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()} == before


def test_names_are_never_parsed(tmp_path: Path) -> None:
    text = b">HLA\nAAAAAAAA\n>HLA:1-3\nCCCCCCCC\n>0\nGGGG\n>\xce\xb1|x*\nTTTT\n"
    path = write(tmp_path / "g.fa", text)
    assert pysam.FastaFile(str(path)).fetch(region="HLA:1-3") == "AAA"
    reference = Reference(path)
    assert reference.fetch(Interval("HLA:1-3", 0, 4)) == b"CCCC"
    assert reference.fetch(Interval("0", 0, 4)) == b"GGGG"
    assert reference.fetch(Interval("\u03b1|x*", 0, 4)) == b"TTTT"


def test_paths_are_never_parsed(tmp_path: Path) -> None:
    folder = tmp_path / "a b;$(id)\n"
    folder.mkdir()
    path = write(folder / "file::s3%20\u00fc.fa", b">a\nACGT\n")
    assert Reference(path).fetch(Interval("a", 0, 4)) == b"ACGT"


def test_unknown_contigs_get_a_hint(tmp_path: Path) -> None:
    reference = Reference(write(tmp_path / "g.fa", b">chr1\nACGT\n>MT\nAC\n>scaffold_12\nAC\n"))
    for name, hint in (("1", "'chr1'"), ("chrM", "'MT'"), ("scafold_12", "'scaffold_12'")):
        with pytest.raises(InputError, match=hint):
            reference.fetch(Interval(name, 0, 1))


def test_several_files_are_one_genome(tmp_path: Path) -> None:
    one = write(tmp_path / "one.fa", b">a\nACGT\n")
    two = write(tmp_path / "two.fa.gz", b">b\nGGTT\n")
    reference = Reference([one, two])
    assert reference.contigs == {"a": 4, "b": 4}
    assert reference.fetch(Interval("b", 1, 6)) == b"GTTNN"
    assert set(reference.fingerprint) == {str(one), str(two)}
    with pytest.raises(InputError, match=r"contig 'a' is in .*one\.fa too"):
        Reference([one, write(tmp_path / "three.fa", b">a\nAC\n")]).contigs  # noqa: B018
    with pytest.raises(InputError, match="no FASTA"):
        Reference([])


def test_rna_and_dna_readings_are_kept_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", b">a\nACGU\n")
    assert Reference(path, rna=True).fetch(Interval("a", 0, 4)) == b"ACGT"
    with pytest.raises(InputError, match="--rna"):
        Reference(path).fetch(Interval("a", 0, 4))


def test_a_missing_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Reference(tmp_path / "none.fa")


def test_read_only_data_and_an_unprivileged_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root ignores modes, so the work is done by a process that gives up its rights."""
    with tempfile.TemporaryDirectory() as scratch:
        data, cache, closed = (Path(scratch) / name for name in ("data", "cache", "closed"))
        for folder in (data, cache, closed):
            folder.mkdir()
        plain = write(data / "g.fa", b">a\nACGT\n")
        packed = write(data / "p.fa.gz", b">a\nACGT\n")
        secret = write(data / "secret.fa", b">a\nACGT\n")
        secret.chmod(0)
        Path(scratch).chmod(0o755)
        data.chmod(0o555)
        closed.chmod(0o555)
        cache.chmod(0o777)

        def work(_: int) -> list[str]:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.environ["XDG_CACHE_HOME"] = str(cache)
            found = [Reference(path).fetch(Interval("a", -1, 4)).decode() for path in (plain, packed)]
            for path, home in ((secret, cache), (plain, closed)):
                os.environ["XDG_CACHE_HOME"] = str(home)
                try:
                    Reference(path).contigs  # noqa: B018
                except InputError as error:
                    found.append(error.reason)
            return found

        assert in_processes(1, work) == [
            ["NACGT", "NACGT", "permission denied", "the cache folder cannot be written: permission denied"]
        ]
        data.chmod(0o755)


def test_a_full_disk_while_indexing_leaves_no_index(tmp_path: Path) -> None:
    """pyfaidx and pysam leave an empty index there, and open it next time as a genome without contigs."""
    path = write(tmp_path / "g.fa", b"".join(b">c%d\nACGT\n" % i for i in range(5000)))

    def work(_: int) -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        try:
            return str(len(Reference(path).contigs))
        except InputError as error:
            return error.reason

    assert in_processes(1, work) == ["the cache folder cannot be written: file too large"]
    assert [p.suffix for p in (cache_root() / "fasta").iterdir()] == [".lock"]
    assert len(Reference(path).contigs) == 5000


def test_real_genomes_equal_samtools(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "human" / "human_contigs.fa.gz"
    reference = Reference(path)
    rng = np.random.default_rng(0)
    with pysam.FastaFile(str(path)) as oracle:
        assert reference.contigs == dict(zip(oracle.references, oracle.lengths, strict=True))
        for _ in range(300):
            chrom = str(rng.choice(oracle.references))
            start = int(rng.integers(0, reference.contigs[chrom] - 1))
            expected = oracle.fetch(chrom, start, start + 1000).upper().encode()
            assert reference.fetch(Interval(chrom, start, start + len(expected))) == expected


@pytest.mark.slow
def test_a_contig_longer_than_two_to_the_31(tmp_path: Path) -> None:
    """Few bytes on disk: one compressed block, repeated."""
    path = tmp_path / "long.fa.gz"
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    plain = b"A" * 65280
    body = deflate.compress(plain) + deflate.flush()
    head = bytes.fromhex("1f8b08040000000000ff060042430200") + (len(body) + 25).to_bytes(2, "little")
    block = head + body + zlib.crc32(plain).to_bytes(4, "little") + len(plain).to_bytes(4, "little")
    with BgzfWriter(str(tmp_path / "tail.gz"), "wb") as handle:  # type: ignore[no-untyped-call]
        handle.write(b"ACGTC\n>b\nGATTACA\n")
    with BgzfWriter(str(tmp_path / "head.gz"), "wb") as handle:  # type: ignore[no-untyped-call]
        handle.write(b">a\n")
    with open(path, "wb") as out:
        out.write((tmp_path / "head.gz").read_bytes())
        out.writelines(block for _ in range(32_897))
        out.write((tmp_path / "tail.gz").read_bytes())
    length = 32_897 * 65280 + 5
    assert length > 2**31
    reference = Reference(path)
    assert reference.contigs == {"a": length, "b": 7}
    assert reference.fetch(Interval("a", length - 8, length + 2)) == b"AAAACGTCNN"
    assert reference.fetch(Interval("b", 0, 7)) == b"GATTACA"
