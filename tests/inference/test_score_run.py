"""Risks: a killed run that cannot go on, or goes on to other bytes; parts of another run taken for one's own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from hyena_dna.datasets.alleles import StrandWindow, WindowSpec
from hyena_dna.errors import InputError, RunError
from hyena_dna.genome.contig_map import ContigMap
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.vcf import open_variants
from hyena_dna.inference.run_counts import RunCounts
from hyena_dna.inference.score_inputs import WindowBuilders, run_file
from hyena_dna.inference.score_run import CHUNK_RECORDS, RunOptions, records_of_chunk, shard_range
from tests.stub_scorer import StubScorer, StubScores

ROOT = Path(__file__).resolve().parents[2]
RECORDS = 3000
SETTINGS = {
    "on_ref_mismatch": "flag",
    "max_n_fraction": 0.1,
    "normalise": False,
    "overwrite_field": False,
}


def write_input(folder: Path) -> None:
    rng = random.Random(1)
    sequence = "".join(rng.choices("ACGT", k=20_000))
    (folder / "genome.fa").write_text(f">c\n{sequence}\n")
    lines = ["##fileformat=VCFv4.2", "##contig=<ID=c,length=20000>", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for i in range(RECORDS):
        ref = sequence[500 + 6 * i]
        lines.append(f"c\t{501 + 6 * i}\t.\t{ref}\t{rng.choice([b for b in 'ACGT' if b != ref])}\t.\t.\t.")
    (folder / "in.vcf").write_text("\n".join(lines) + "\n")


class SlowScorer(StubScorer):
    def score(self, windows: Sequence[StrandWindow]) -> StubScores:
        time.sleep(0.02)
        return super().score(windows)


def builders(folder: Path, reference: Reference) -> WindowBuilders:
    return WindowBuilders(reference, str(folder / "in.vcf"), None, ContigMap({}, reference.contigs))


def run(
    folder: Path, output: str, *, slow: bool = False, window: int = 128, chunk: int = 100, **options: object
) -> RunCounts:
    scorer = SlowScorer() if slow else StubScorer()
    with Reference(folder / "genome.fa", cache=folder / "cache") as reference:
        return run_file(
            open_variants(folder / "in.vcf"), reference, scorer, builders(folder, reference), WindowSpec.make(window),
            str(folder / output), ContigMap({}, reference.contigs), {"window": window}, SETTINGS,
            RunOptions(chunk_records=chunk, **options),  # type: ignore[arg-type]
        )  # fmt: skip


def test_chunks_of_long_windows_are_small() -> None:
    assert records_of_chunk(8192) == CHUNK_RECORDS
    assert records_of_chunk(32_768) <= CHUNK_RECORDS // 10


@pytest.mark.parametrize(
    ("suffix", "kills"),
    [(".vcf.gz", 2), *(pytest.param(s, 20, marks=pytest.mark.slow) for s in (".vcf.gz", ".parquet"))],
)
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, suffix: str, kills: int) -> None:
    write_input(tmp_path)
    run(tmp_path, f"whole{suffix}")
    expected = (tmp_path / f"whole{suffix}").read_bytes()
    name = f"out{suffix}"
    code = (
        "import sys; from pathlib import Path; from tests.inference.test_score_run import run\n"
        f"run(Path({str(tmp_path)!r}), {name!r}, slow=True, resume=True, force=True)"
    )
    rng = random.Random(suffix)
    killed = 0
    # A run that ends before it is killed begins anew, until every kill has struck at another point.
    while killed < kills:
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        folder = tmp_path / f"{name}.parts"
        deadline = time.monotonic() + 30
        while not folder.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    counts = run(tmp_path, name, resume=True, force=True)
    assert counts.records == RECORDS
    assert counts.in_order
    assert (tmp_path / name).read_bytes() == expected
    assert not list(tmp_path.glob("*.parts"))
    assert not list(tmp_path.glob(".*tmp*"))


def interrupt(folder: Path, **options: object) -> None:
    class Failing(StubScorer):
        calls = 0

        def score(self, windows: Sequence[StrandWindow]) -> StubScores:
            self.calls += 1
            if self.calls == 5:
                raise RunError("the machine went away")
            return super().score(windows)

    with Reference(folder / "genome.fa", cache=folder / "cache") as reference, pytest.raises(RunError):
        run_file(
            open_variants(folder / "in.vcf"), reference, Failing(), builders(folder, reference), WindowSpec.make(128),
            str(folder / "out.vcf"), ContigMap({}, reference.contigs), {"window": 128}, SETTINGS,
            RunOptions(chunk_records=100, **options),  # type: ignore[arg-type]
        )  # fmt: skip


def test_an_unfinished_run_is_neither_lost_nor_mixed_up(tmp_path: Path) -> None:
    write_input(tmp_path)
    interrupt(tmp_path)
    assert len(list((tmp_path / "out.vcf.parts").glob("*.part"))) == 4
    with pytest.raises(InputError, match="--resume"):
        run(tmp_path, "out.vcf")
    with pytest.raises(InputError, match="other settings: window"):
        run(tmp_path, "out.vcf", window=256, resume=True)
    assert (tmp_path / "out.vcf.parts").exists()
    part = sorted((tmp_path / "out.vcf.parts").glob("*.part"))[1]
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged"):
        run(tmp_path, "out.vcf", resume=True)
    assert run(tmp_path, "out.vcf", force=True).records == RECORDS


def test_an_existing_output_is_kept(tmp_path: Path) -> None:
    write_input(tmp_path)
    (tmp_path / "out.vcf").write_text("precious")
    with pytest.raises(InputError, match="--force"):
        run(tmp_path, "out.vcf")
    assert (tmp_path / "out.vcf").read_text() == "precious"


def test_scores_that_are_not_finite_stop_the_run(tmp_path: Path) -> None:
    write_input(tmp_path)

    class Broken(StubScorer):
        def score(self, windows: Sequence[StrandWindow]) -> StubScores:
            found = super().score(windows)
            found.llr[0] = float("nan")
            return found

    with (
        Reference(tmp_path / "genome.fa", cache=tmp_path / "cache") as reference,
        pytest.raises(RunError, match="finite"),
    ):
        run_file(
            open_variants(tmp_path / "in.vcf"), reference, Broken(), builders(tmp_path, reference),
            WindowSpec.make(128), str(tmp_path / "out.vcf"), ContigMap({}, reference.contigs), {}, SETTINGS,
            RunOptions(),
        )  # fmt: skip


@pytest.mark.parametrize(("total", "count"), [(0, 3), (1, 3), (4096, 2), (4097, 2), (1_000_000, 7)])
def test_shards_cover_every_chunk_once(total: int, count: int) -> None:
    chunks = [chunk for number in range(1, count + 1) for chunk in shard_range(total, (number, count))]
    assert chunks == list(range(-(-total // 4096)))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    # Four million records, and a tenth of them: peaks are those of processes that only score, with almost no model.
    sequence = "".join(random.Random(2).choices("ACGT", k=1_000_000))
    (tmp_path / "genome.fa").write_text(f">c\n{sequence}\n")
    code = (
        "import resource, sys; from pathlib import Path; import tests.inference.test_score_run as here\n"
        "from tests.stub_scorer import FastScorer\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"here.StubScorer = FastScorer; here.run(Path({str(tmp_path)!r}), 'out.vcf.gz', chunk=4096, force=True)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)"
    )
    peaks = []
    for records in (400_000, 4_000_000):
        with open(tmp_path / "in.vcf", "w") as handle:
            handle.write("##fileformat=VCFv4.2\n##contig=<ID=c,length=1000000>\n")
            handle.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
            for index in range(records):
                at = 500 + index * 998_000 // records
                ref = sequence[at]
                handle.write(f"c\t{at + 1}\t.\t{ref}\t{'ACGT'[('ACGT'.index(ref) + 1 + index % 3) % 4]}\t.\t.\t.\n")
        found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
        peaks.append(int(found.stdout) / 1024)
    assert max(peaks) <= 300
    assert peaks[1] - peaks[0] <= 40
