"""`hyena-dna embed` from files to files: every input, every refusal before anything is written, resuming."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pysam
import pytest
import torch
from click.testing import CliRunner

from hyena_dna.errors import InputError
from hyena_dna.files import check_output
from hyena_dna.inference import embed_run
from hyena_dna.model.checkpoint import load_model, save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.embedding_defaults import EmbeddingDefaults
from hyena_dna.model.model import HyenaDNA
from pipelines.embed import command

CONTIGS = {"chr1": 3000, "chr2": 2000}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "m"
    save_model(HyenaDNA(HyenaConfig(d_model=8, n_layer=2, max_length=130)), path)
    return path


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {name: bytes(rng.choice(np.frombuffer(b"ACGT", np.uint8), size)) for name, size in CONTIGS.items()}


@pytest.fixture
def work(tmp_path: Path, genome: dict[str, bytes]) -> Path:
    """A folder with a genome and regions of two classes."""
    text = "".join(f">{name}\n{bases.decode()}\n" for name, bases in genome.items())
    (tmp_path / "genome.fa").write_text(text)
    rng = np.random.default_rng(1)
    lines = []
    for number in range(60):
        chrom = "chr1" if number % 2 else "chr2"
        start, size = int(rng.integers(0, CONTIGS[chrom] - 300)), int(rng.integers(20, 300))
        lines.append(
            f"{chrom}\t{start}\t{start + size}\t{'even' if number % 4 < 2 else 'odd'}\t0\t{'+-'[number % 2]}\n"
        )
    (tmp_path / "regions.bed").write_text("".join(lines))
    return tmp_path


def embed(*arguments: str | Path) -> str:
    runner = CliRunner()
    result = runner.invoke(command, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def regions(work: Path, model: Path) -> list[str | Path]:
    return ["--model", model, "--genome", work / "genome.fa", "--regions", work / "regions.bed", "--device", "cpu"]


def read(path: Path) -> tuple[np.ndarray, dict[str, list[Any]]]:
    table = pq.read_table(path)
    columns = {name: table[name].to_pylist() for name in table.column_names if name != "embedding"}
    return np.array(table["embedding"].to_pylist(), np.float32), columns


def test_regions(work: Path, model: Path, genome: dict[str, bytes]) -> None:
    output = work / "out.parquet"
    summary = json.loads(embed(*regions(work, model), "-o", output, "--json"))
    vectors, columns = read(output)
    assert (summary["records"], summary["width"]) == vectors.shape == (60, 8)
    fields = [line.split("\t") for line in (work / "regions.bed").read_text().splitlines()]
    assert columns["chrom"] == [row[0] for row in fields]
    assert columns["start"] == [int(row[1]) for row in fields]
    assert columns["label"] == [row[3] for row in fields]
    assert columns["strand"] == [row[5] for row in fields]
    # The same bases as a FASTA file: the same vectors.
    fasta = work / "pieces.fa"
    fasta.write_text("".join(f">r{i}\n{genome[r[0]][int(r[1]) : int(r[2])].decode()}\n" for i, r in enumerate(fields)))
    embed("--model", model, "--fasta", fasta, "-o", work / "fasta.parquet", "--device", "cpu")
    again, known = read(work / "fasta.parquet")
    np.testing.assert_allclose(again, vectors, atol=1e-6)
    assert known["chrom"] == [None] * 60
    assert known["end"] == [int(row[2]) - int(row[1]) for row in fields]
    assert sorted(path.name for path in work.iterdir()) == sorted(
        ["genome.fa", "regions.bed", "pieces.fa", "out.parquet", "fasta.parquet"]
    )


def test_stranded_regions_are_read_from_their_strand(work: Path, model: Path) -> None:
    for name, options in (("plus", ["fwd"]), ("own", ["fwd", "--stranded"]), ("both", ["concat"])):
        embed(*regions(work, model), "-o", work / f"{name}.parquet", "--strands", *options)
    plus, own, both = (read(work / f"{name}.parquet")[0] for name in ("plus", "own", "both"))
    minus = np.arange(60) % 2 == 1
    np.testing.assert_allclose(own[~minus], plus[~minus], atol=1e-6)
    np.testing.assert_allclose(own[minus], both[minus, 8:], atol=1e-6)
    assert np.abs(own[minus] - plus[minus]).max() > 1e-3


def test_tables_of_sequences_and_of_regions(work: Path, model: Path, genome: dict[str, bytes]) -> None:
    (work / "s.csv").write_text(f"sequence,label,split\n{genome['chr1'][:50].decode()},x,train\nACGTN,y,test\n")
    embed("--model", model, "--csv", work / "s.csv", "-o", work / "s.parquet", "--device", "cpu")
    vectors, columns = read(work / "s.parquet")
    assert (columns["label"], columns["split"]) == (["x", "y"], ["train", "test"])
    (work / "r.tsv").write_text("chrom\tstart\tend\tname\nchr1\t0\t50\tfirst\n")
    embed("--model", model, "--csv", work / "r.tsv", "-g", work / "genome.fa", "-o", work / "r.parquet",
          "--device", "cpu")  # fmt: skip
    placed, known = read(work / "r.parquet")
    np.testing.assert_allclose(placed[0], vectors[0], atol=1e-6)
    assert (known["name"], known["chrom"]) == (["first"], ["chr1"])
    with pytest.raises(InputError, match="need a genome"):
        embed("--model", model, "--csv", work / "r.tsv", "-o", work / "x.parquet")


@pytest.fixture
def bam(work: Path, genome: dict[str, bytes]) -> Path:
    """Reads of 100 bp that cover chr1 four times, half of them reversed."""
    header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": n, "LN": size} for n, size in CONTIGS.items()]}
    path = work / "reads.bam"
    with pysam.AlignmentFile(str(path), "wb", header=header) as handle:
        for number, start in enumerate(range(0, 2900, 25)):
            read = pysam.AlignedSegment(handle.header)
            read.query_name = f"read{number}"
            read.query_sequence = genome["chr1"][start : start + 100].decode()
            read.flag = 16 if number % 2 else 0
            read.reference_id, read.reference_start, read.mapping_quality = 0, start, 60
            read.cigarstring = "100M"
            read.query_qualities = pysam.qualitystring_to_array("I" * 100)
            handle.write(read)
    pysam.index(str(path))
    return path


def test_reads(work: Path, model: Path, bam: Path) -> None:
    embed("--model", model, "--bam", bam, "-o", work / "reads.parquet", "--device", "cpu")
    vectors, columns = read(work / "reads.parquet")
    assert len(vectors) == 116
    assert columns["name"][:2] == ["read0", "read1"]
    assert columns["strand"][:2] == ["+", "-"]
    assert (columns["chrom"][1], columns["start"][1], columns["end"][1]) == ("chr1", 25, 125)


def test_the_consensus_of_regions_is_the_genome_that_the_reads_came_from(work: Path, model: Path, bam: Path) -> None:
    (work / "inside.bed").write_text("chr1\t200\t450\ta\nchr1\t1000\t1020\tb\n")
    shared: list[str | Path] = ["--model", model, "--regions", work / "inside.bed", "--device", "cpu"]
    embed(*shared, "--bam", bam, "--bam-mode", "consensus", "-o", work / "consensus.parquet", "--window", "64")
    embed(*shared, "--genome", work / "genome.fa", "-o", work / "genome.parquet", "--window", "64")
    found, expected = (read(work / f"{name}.parquet")[0] for name in ("consensus", "genome"))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_fastq_and_genbank(work: Path, model: Path) -> None:
    with gzip.open(work / "r.fastq.gz", "wt") as handle:
        handle.write("@one x\nACGTACGT\n+\nIIIIIIII\n@two\nGGGCCC\n+\nIIIIII\n")
    embed("--model", model, "--fasta", work / "r.fastq.gz", "-o", work / "q.parquet", "--device", "cpu")
    assert read(work / "q.parquet")[1]["name"] == ["one", "two"]
    (work / "g.gb").write_text(
        "LOCUS       X1 8 bp DNA linear UNK 01-JAN-2000\nDEFINITION  x.\nACCESSION   X1\nVERSION     X1.1\n"
        "FEATURES             Location/Qualifiers\nORIGIN\n        1 acgtacgt\n//\n"
    )
    embed("--model", model, "--fasta", work / "g.gb", "-o", work / "g.parquet", "--device", "cpu")
    vectors, columns = read(work / "g.parquet")
    assert columns["name"] == ["X1.1"]
    np.testing.assert_allclose(vectors[0], read(work / "q.parquet")[0][0], atol=1e-6)


def test_places_on_the_command_line_are_1_based_with_both_ends(work: Path, model: Path) -> None:
    shared: list[str | Path] = ["--model", model, "--genome", work / "genome.fa", "--device", "cpu"]
    (work / "one.bed").write_text("chr1\t99\t250\n")
    embed(*shared, "--regions", work / "one.bed", "-o", work / "bed.parquet")
    embed(*shared, "--region", "chr1:100-250", "--region", "chr2", "-o", work / "place.parquet")
    vectors, columns = read(work / "place.parquet")
    np.testing.assert_array_equal(vectors[0], read(work / "bed.parquet")[0][0])
    assert list(zip(columns["chrom"], columns["start"], columns["end"], strict=True)) == [
        ("chr1", 99, 250),
        ("chr2", 0, 2000),
    ]
    with pytest.raises(InputError, match="ends beyond chr2"):
        embed(*shared, "--region", "chr2:1-2001", "-o", work / "x.parquet")


def test_a_plot_and_a_probe(work: Path, model: Path) -> None:
    out = embed(
        *regions(work, model), "-o", work / "e.parquet", "--plot", "pca", "--color", "label", "--probe", "label"
    )
    assert "2 folds by chrom" in out
    assert (work / "e.pca.png").read_bytes().startswith(b"\x89PNG")
    html = (work / "e.pca.html").read_text()
    assert "even" in html
    assert "odd" in html


def test_a_dry_run_says_what_it_needs_and_writes_nothing(work: Path, model: Path) -> None:
    before = sorted(work.iterdir())
    plan = json.loads(embed(*regions(work, model), "-o", work / "e.parquet", "--dry-run", "--json"))
    lengths = [
        int(end) - int(start) for _, start, end, *_ in map(str.split, (work / "regions.bed").read_text().splitlines())
    ]
    assert (plan["records"], plan["bases"], plan["output_bytes"]) == (60, sum(lengths), 60 * 8 * 4)
    # Both strands; the last of the tiles of 128 bp is full.
    tokens = [size if size <= 128 else -(-size // 128) * 128 for size in lengths]
    assert plan["tokens"] == 2 * sum(tokens)
    assert plan["seconds"] > 0
    assert sorted(path for path in work.iterdir() if path.suffix != ".fai") == before


class Killed(BaseException):
    pass


def test_resuming_gives_the_bytes_of_an_uninterrupted_run(
    work: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hyena_dna.inference.inputs import ChunkLimits

    monkeypatch.setattr(ChunkLimits.__new__, "__defaults__", (7, 1 << 20, None, 0))
    whole, broken = work / "whole.h5ad", work / "broken.h5ad"
    embed(*regions(work, model), "-o", whole)
    write_part = vars(embed_run)["write_part"]

    def dying(parts: Any, index: int, *rest: Any) -> None:
        if index == 5:
            raise Killed
        write_part(parts, index, *rest)

    monkeypatch.setattr(embed_run, "write_part", dying)
    with pytest.raises(Killed):
        embed(*regions(work, model), "-o", broken)
    assert not broken.exists()
    monkeypatch.setattr(embed_run, "write_part", write_part)
    with pytest.raises(InputError, match="--resume"):
        embed(*regions(work, model), "-o", broken)
    with pytest.raises(InputError, match="other settings: pool"):
        embed(*regions(work, model), "-o", broken, "--resume", "--pool", "max")
    summary = json.loads(embed(*regions(work, model), "-o", broken, "--resume", "--json"))
    assert 0 < summary["computed_bases"] < summary["bases"]
    assert broken.read_bytes() == whole.read_bytes()
    assert not broken.with_name("broken.h5ad.parts").exists()


def refusals(work: Path) -> dict[str, tuple[list[str | Path], str]]:
    (work / "empty.fa").write_text("")
    (work / "empty.bed").write_text("")
    (work / "off.bed").write_text("chr1\t10\t20\tx\nchr2\t1990\t2001\tx\n")
    (work / "short.bed").write_text("chr1\t10\t12\tx\n")
    genome: list[str | Path] = ["--genome", work / "genome.fa"]
    return {
        "nothing to embed": ([], "no records to read"),
        "two inputs": (["--fasta", work / "genome.fa", "--csv", work / "x.csv"], "cannot go together"),
        "no genome": (["--regions", work / "regions.bed"], "need a genome"),
        "no file": (["--fasta", work / "missing.fa"], "missing.fa"),
        "empty FASTA": (["--fasta", work / "empty.fa"], "no sequences"),
        "no regions": ([*genome, "--regions", work / "empty.bed"], "no regions"),
        "off the end": ([*genome, "--regions", work / "off.bed"], "off.bed:2"),
        "fewer bases than bins": ([*genome, "--regions", work / "short.bed", "--pool", "bins:4"], "fewer than 4 bins"),
        "labels of a FASTA": (["--fasta", work / "genome.fa", "--probe", "label"], "no labels"),
        "overlap": (["--fasta", work / "genome.fa", "--overlap", "128"], "overlap"),
        "layer": (["--fasta", work / "genome.fa", "--layer", "3"], "blocks 1 to 2"),
        "color without plot": (["--fasta", work / "genome.fa", "--color", "label"], "--plot"),
        "consensus without regions": (["--bam", work / "x.bam", "--bam-mode", "consensus"], "x.bam|--regions"),
    }


CASES = ("nothing to embed", "two inputs", "no genome", "no file", "empty FASTA", "no regions", "off the end",
         "fewer bases than bins", "labels of a FASTA", "overlap", "layer", "color without plot",
         "consensus without regions")  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(work: Path, model: Path, case: str) -> None:
    arguments, message = refusals(work)[case]
    before = {path.name for path in work.iterdir()}
    with pytest.raises(InputError, match=message) as caught:
        embed("--model", model, "-o", work / "out.parquet", "--device", "cpu", *arguments)
    assert "\n" not in str(caught.value)
    assert {path.name for path in work.iterdir() if path.suffix != ".fai"} == before


def test_an_existing_output_is_kept(work: Path, model: Path) -> None:
    (work / "out.parquet").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        embed(*regions(work, model), "-o", work / "out.parquet")
    assert (work / "out.parquet").read_text() == "mine"
    embed(*regions(work, model), "-o", work / "out.parquet", "--force")
    assert len(read(work / "out.parquet")[0]) == 60


def test_a_folder_that_is_not_there_or_not_writable(work: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="does not exist"):
        embed(*regions(work, model), "-o", work / "none" / "out.parquet")
    # Tests may run as root, whom no permission stops.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="not writable"):
        check_output(work / "out.parquet")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("suffix", [".parquet", ".h5ad", ".npz", ".zarr"])
def test_a_full_disk_is_bad_input_and_leaves_nothing(
    work: Path, model: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    import hyena_dna.output.parts as parts

    real = vars(parts)["atomic_open"]

    def full(path: Path, mode: str = "wb", **options: Any) -> Any:
        if path.suffix == ".part":
            raise InputError("cannot be written: No space left on device", file=path)
        return real(path, mode, **options)

    monkeypatch.setattr(parts, "atomic_open", full)
    with pytest.raises(InputError, match="No space left"):
        embed(*regions(work, model), "-o", work / f"out{suffix}")
    assert not [path.name for path in work.iterdir() if path.name.startswith((".", "out"))]


def test_what_the_model_says_counts_where_nothing_is_said(work: Path, model: Path, tmp_path: Path) -> None:
    says = tmp_path / "says"
    save_model(load_model(model), says, embedding=EmbeddingDefaults(layer="1,2", pool="max", strands="concat"))
    explicit = ["--layer", "1,2", "--pool", "max", "--strands", "concat"]
    embed(*regions(work, says), "-o", work / "default.parquet")
    embed(*regions(work, model), *explicit, "-o", work / "explicit.parquet")
    embed(*regions(work, says), "--pool", "mean", "-o", work / "mean.parquet")
    embed(*regions(work, model), *explicit[:2], *explicit[4:], "--pool", "mean", "-o", work / "mean-explicit.parquet")
    for one, other in (("default", "explicit"), ("mean", "mean-explicit")):
        assert np.array_equal(read(work / f"{one}.parquet")[0], read(work / f"{other}.parquet")[0])


def test_without_a_model_the_bundled_one_is_taken(
    work: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "bundled"
    root.mkdir()
    monkeypatch.setattr("hyena_dna.model.checkpoint.models_root", lambda: root)
    options = regions(work, model)[2:]
    with pytest.raises(InputError, match="small"):
        embed(*options, "-o", work / "default.parquet")
    save_model(load_model(model), root / "small")
    embed(*options, "-o", work / "default.parquet")
    embed(*regions(work, model), "-o", work / "named.parquet")
    assert np.array_equal(read(work / "default.parquet")[0], read(work / "named.parquet")[0])
