"""`hyena-dna likelihood` from files to files: the right value at the right base, refusals, resuming."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from hyena_dna.errors import InputError
from hyena_dna.inference import base_likelihood, likelihood_run
from hyena_dna.inference.base_likelihood import per_base_likelihood
from hyena_dna.inference.likelihood import log_likelihood
from hyena_dna.model.checkpoint import load_model, save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from pipelines.likelihood import command

pybigtools = pytest.importorskip("pybigtools", reason="bigWig needs hyena-dna[tracks]")

CONTIGS = {"chr2": 1000, "chr10": 300}
WINDOW, CONTEXT = 64, 32
CLOSE = 3e-5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "m"
    save_model(HyenaDNA(HyenaConfig(d_model=16, n_layer=2, max_length=66, initializer_range=0.15)), path)
    return path


@pytest.fixture(scope="module")
def genome() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    found = {name: bytes(rng.choice(np.frombuffer(b"ACGT", np.uint8), size)) for name, size in CONTIGS.items()}
    # A gap of the assembly.
    return found | {"chr2": found["chr2"][:500] + b"N" * 20 + found["chr2"][520:]}


@pytest.fixture
def work(tmp_path: Path, genome: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    # Pieces of 96 bp, so that contigs have several.
    monkeypatch.setattr(base_likelihood, "_PIECE", 96)
    (tmp_path / "genome.fa").write_text("".join(f">{name}\n{bases.decode()}\n" for name, bases in genome.items()))
    (tmp_path / "r.bed").write_text(
        "chr10\t250\t300\tlast\nchr2\t0\t40\tfirst\nchr2\t480\t540\tgap\nchr2\t500\t510\tn\n"
    )
    return tmp_path


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def shared(work: Path, model: Path) -> list[str | Path]:
    return ["--model", model, "--genome", work / "genome.fa", "--device", "cpu"]


def direct(model: HyenaDNA, bases: bytes) -> float:
    """log P of the last base given those before it, from the model's likelihoods alone."""
    with_last, without = log_likelihood(model, [bases, bases[:-1]]).tolist() if len(bases) > 2 else (
        log_likelihood(model, [bases]).item(), 0.0)  # fmt: skip
    return with_last - without


def reverse_complement(sequence: bytes) -> bytes:
    return sequence[::-1].translate(bytes.maketrans(b"ACGT", b"TGCA"))


def test_tracks_of_a_genome_hold_what_the_model_says_of_each_base(
    work: Path, model: Path, genome: dict[str, bytes]
) -> None:
    run(*shared(work, model), "--tracks", work / "t.bw", "--strands", "all")
    names = [f"t.{q}_{s}.bw" for q in ("log_prob", "entropy") for s in ("mean", "fwd", "rev")]
    tracks = {name: pybigtools.open(str(work / name)) for name in names}
    assert {name: track.chroms() for name, track in tracks.items()} == dict.fromkeys(names, CONTIGS)
    network = load_model(model)
    fwd, rev, mean = (tracks[f"t.log_prob_{s}.bw"] for s in ("fwd", "rev", "mean"))
    step = 96
    for chrom, size in CONTIGS.items():
        bases = genome[chrom]
        values = {s: track.values(chrom, fillna=None) for s, track in (("fwd", fwd), ("rev", rev), ("mean", mean))}
        assert len(values["fwd"]) == size
        unknown = np.frombuffer(bases, np.uint8) == ord("N")
        assert np.isnan(values["fwd"]).tolist() == (unknown | (np.arange(size) == 0)).tolist()
        assert np.isnan(values["rev"]).tolist() == (unknown | (np.arange(size) == size - 1)).tolist()
        np.testing.assert_allclose(values["mean"], (values["fwd"] + values["rev"]) / 2, atol=1e-6)
        # The ends of the contig, the borders of pieces, those of tiles inside them, and the first base after the gap.
        for at in {1, 2, 31, 32, 63, 64, 95, 96, 97, 127, 128, 200, 287, 288, 298, size - 1} & set(range(size)):
            first = at // step * step
            begin = max(0, first - CONTEXT)
            if at - begin >= WINDOW:
                begin += -(-(at - begin - WINDOW + 1) // (WINDOW - CONTEXT)) * (WINDOW - CONTEXT)
            # The last tile of a piece ends with it.
            begin = min(begin, max(0, first - CONTEXT, min(size, first + step) - WINDOW))
            assert values["fwd"][at] == pytest.approx(direct(network, bases[begin : at + 1]), abs=CLOSE)
        for at in (size - 2, size - 30):
            expected = direct(network, reverse_complement(bases[at:]))
            assert values["rev"][at] == pytest.approx(expected, abs=CLOSE)
    entropy = tracks["t.entropy_fwd.bw"].values("chr10", fillna=None)[1:]
    assert ((entropy > 0) & (entropy <= math.log(4) + 1e-5)).all()


def rows(path: Path) -> dict[str, dict[str, str]]:
    header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    return {line[header.index("name")]: dict(zip(header, line, strict=True)) for line in lines}


def test_a_table_of_regions_takes_context_from_the_genome(work: Path, model: Path, genome: dict[str, bytes]) -> None:
    summary = json.loads(run(*shared(work, model), "--regions", work / "r.bed", "-o", work / "t.tsv", "--json"))
    found = rows(work / "t.tsv")
    assert list(found) == ["last", "first", "gap", "n"]
    network = load_model(model)
    assert float(found["first"]["log_likelihood_fwd"]) == pytest.approx(
        log_likelihood(network, [genome["chr2"][:40]]).item(), abs=1e-3
    )
    with_context, context = log_likelihood(
        network, [reverse_complement(genome["chr10"][250:]), reverse_complement(genome["chr10"][250:])[:1]]
    ).tolist()
    assert float(found["last"]["log_likelihood_rev"]) == pytest.approx(with_context - context, abs=1e-3)
    assert [found[name]["scored_fwd"] for name in found] == ["50", "39", "40", "0"]
    assert found["n"]["perplexity"] == ""
    one = found["gap"]
    nats = -(float(one["log_likelihood_fwd"]) + float(one["log_likelihood_rev"])) / 80
    assert float(one["perplexity"]) == pytest.approx(math.exp(nats))
    assert float(one["bits_per_base"]) == pytest.approx(nats / math.log(2))
    assert float(one["log_likelihood"]) == pytest.approx(-40 * nats)
    assert (summary["records"], summary["bases"], summary["scored"]) == (4, 160, 50 + 49 + 39 + 40 + 80)


def test_pieces_of_a_record_add_up(work: Path, model: Path) -> None:
    run(*shared(work, model), "--region", "chr2:101-400", "--region", "chr10", "-o", work / "t.parquet",
        "--bases", work / "b.npz")  # fmt: skip
    table = pq.read_table(work / "t.parquet").to_pylist()
    assert [(row["name"], row["start"], row["end"], row["bases"]) for row in table] == [
        ("chr2:101-400", 100, 400, 300),
        ("chr10", 0, 300, 300),
    ]
    with np.load(work / "b.npz", allow_pickle=False) as archive:
        values, offsets = archive["log_prob_mean"], archive["offsets"]
        assert archive["name"].tolist() == ["chr2:101-400", "chr10"]
    assert offsets.tolist() == [0, 300, 600]
    # Both strands of every base but the two ends of chr10 are scored.
    assert np.nansum(values[:300].astype(np.float64)) == pytest.approx(table[0]["log_likelihood"], abs=1e-3)
    assert np.isnan(values).sum() == 2


@pytest.mark.parametrize("suffix", [".npz", ".zarr", ".parquet"])
def test_values_of_every_base_of_sequences(work: Path, model: Path, genome: dict[str, bytes], suffix: str) -> None:
    sequences = [genome["chr10"], genome["chr2"][:30]]
    (work / "s.fa").write_text("".join(f">s{i}\n{s.decode()}\n" for i, s in enumerate(sequences)))
    run("--model", model, "--fasta", work / "s.fa", "--bases", work / f"b{suffix}", "--strands", "all")
    expected = [(s.log_prob, s.entropy) for s in per_base_likelihood(load_model(model), sequences)]
    flat = [np.concatenate([found[q] for found in expected], -1) for q in (0, 1)]
    names = [f"{q}_{s}" for q in ("log_prob", "entropy") for s in ("mean", "fwd", "rev")]
    if suffix == ".npz":
        with np.load(work / "b.npz", allow_pickle=False) as archive:
            found = {name: archive[name] for name in names}
    elif suffix == ".zarr":
        zarr = pytest.importorskip("zarr")
        group = zarr.open_group(work / "b.zarr", mode="r")
        assert group["name"][:].tolist() == ["s0", "s1"]
        found = {name: group[name][:] for name in names}
    else:
        table = pq.read_table(work / "b.parquet")
        assert table["record"].to_pylist() == [0] * 300 + [1] * 30
        assert table["position"].to_pylist() == [*range(300), *range(30)]
        found = {name: table[name].to_numpy() for name in names}
    for number, quantity in enumerate(("log_prob", "entropy")):
        for row, strand in enumerate(("fwd", "rev")):
            np.testing.assert_allclose(found[f"{quantity}_{strand}"], flat[number][row], atol=1e-5)


def test_tracks_of_sequences_and_of_overlapping_unsorted_regions(work: Path, model: Path) -> None:
    run(*shared(work, model), "--regions", work / "r.bed", "--tracks", work / "t.bedgraph", "--values", "log_prob")
    lines = [line.split("\t") for line in (work / "t.log_prob_mean.bedgraph").read_text().splitlines()]
    places = [(chrom, int(start)) for chrom, start, *_ in lines]
    assert places == [*(("chr2", p) for p in [*range(1, 40), *range(480, 500), *range(520, 540)]),
                      *(("chr10", p) for p in range(250, 299))]  # fmt: skip
    run("--model", model, "--fasta", work / "genome.fa", "--tracks", work / "s.bw", "--values", "entropy")
    assert pybigtools.open(str(work / "s.entropy_mean.bw")).chroms() == CONTIGS
    (work / "twice.fa").write_text(">a\nACGT\n>b\nACGT\n>a\nACGT\n")
    with pytest.raises(InputError, match=r"two sequences are called 'a'|duplicate|twice"):
        run("--model", model, "--fasta", work / "twice.fa", "--tracks", work / "x.bw")


class Killed(BaseException):
    pass


def test_resuming_gives_the_bytes_of_an_uninterrupted_run(
    work: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hyena_dna.inference.inputs import ChunkLimits

    monkeypatch.setattr(ChunkLimits.__new__, "__defaults__", (3, 1 << 20, None, 0))
    options = ["--values", "log_prob"]
    run(*shared(work, model), "-o", work / "whole.tsv", "--tracks", work / "whole.bw", *options)
    write = vars(likelihood_run)["write_likelihood_part"]

    def dying(parts: Any, index: int, *rest: Any, **named: Any) -> None:
        if index == 2:
            raise Killed
        write(parts, index, *rest, **named)

    monkeypatch.setattr(likelihood_run, "write_likelihood_part", dying)
    broken = [*shared(work, model), "-o", work / "broken.tsv", "--tracks", work / "broken.bw", *options]
    with pytest.raises(Killed):
        run(*broken)
    assert not (work / "broken.tsv").exists()
    monkeypatch.setattr(likelihood_run, "write_likelihood_part", write)
    with pytest.raises(InputError, match="--resume"):
        run(*broken)
    with pytest.raises(InputError, match="other settings: context"):
        run(*broken, "--resume", "--context", "8")
    run(*broken, "--resume")
    assert (work / "broken.tsv").read_bytes() == (work / "whole.tsv").read_bytes()
    assert (work / "broken.log_prob_mean.bw").read_bytes() == (work / "whole.log_prob_mean.bw").read_bytes()
    assert not list(work.glob("*.parts"))


def test_a_dry_run_counts_and_writes_nothing(work: Path, model: Path) -> None:
    before = {path.name for path in work.iterdir()}
    plan = json.loads(run(*shared(work, model), "--tracks", work / "t.bw", "--dry-run", "--json", "--batch-size", "8"))
    assert (plan["records"], plan["bases"], plan["window"], plan["context"]) == (2, 1300, WINDOW, CONTEXT)
    assert plan["tokens"] > 2 * 1300
    assert {path.name for path in work.iterdir() if path.suffix != ".fai"} == before


def test_the_default_context_is_said_and_max_reads_more(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    save_model(HyenaDNA(HyenaConfig(d_model=16, n_layer=1, max_length=2002, filter_order=8)), work / "long")
    options = [*shared(work, work / "long"), "-o", work / "x.tsv", "--dry-run", "--json"]
    with caplog.at_level("INFO", "hyena_dna"):
        plan = json.loads(run(*options))
    assert (plan["window"], plan["context"]) == (2000, 256)
    assert "at least 256 bp before every scored base; --context max reads 1,000" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO", "hyena_dna"):
        plan = json.loads(run(*options, "--context", "max"))
    assert (plan["window"], plan["context"]) == (2000, 1000)
    assert "--context" not in caplog.text


REFUSALS: dict[str, tuple[list[str], str]] = {
    "off the end": (["--regions", "off.bed", "-o", "t.tsv"], "off.bed:2"),
    "region off the end": (["--region", "chr10:290-301", "-o", "t.tsv"], "ends beyond chr10"),
    "unknown contig": (["--region", "chr3:1-5", "-o", "t.tsv"], "no contig of the genome"),
    "no regions": (["--regions", "empty.bed", "-o", "t.tsv"], "no regions"),
    "empty FASTA": (["--fasta", "empty.bed", "-o", "t.tsv"], "no sequences"),
    "two inputs": (["--regions", "r.bed", "--region", "chr2", "-o", "t.tsv"], "cannot go together"),
    "nothing to write": (["--region", "chr2"], "nothing to write"),
    "table suffix": (["-o", "t.xlsx"], "a table is written as"),
    "track suffix": (["--tracks", "t.wig"], "a track is written as"),
    "bases suffix": (["--bases", "t.h5"], "every base are written as"),
    "no folder": (["-o", "none/t.tsv"], "does not exist"),
    "precision": (["-o", "t.tsv", "--precision", "bf16"], "too coarse"),
    "context": (["-o", "t.tsv", "--context", "64"], "does not fit windows"),
    "window": (["-o", "t.tsv", "--window", "65"], "longer than the model"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_one_line_and_leaves_nothing(
    work: Path, model: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    (work / "off.bed").write_text("chr2\t0\t5\nchr10\t290\t301\n")
    (work / "empty.bed").write_text("")
    arguments, message = REFUSALS[case]
    before = {path.name for path in work.iterdir()}
    genome = [] if "--fasta" in arguments else ["--genome", "genome.fa"]
    with pytest.raises(InputError, match=message) as caught:
        run("--model", model, "--device", "cpu", *genome, *arguments)
    assert "\n" not in str(caught.value)
    assert {path.name for path in work.iterdir() if path.suffix != ".fai"} == before


def test_no_input_at_all(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no records to read"):
        run("--model", model, "-o", tmp_path / "t.tsv")


def test_weights_that_are_no_numbers_are_refused(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = HyenaDNA(HyenaConfig(d_model=16, n_layer=2, max_length=66)).eval()
    with torch.no_grad():
        network.backbone.ln_f.weight.fill_(torch.nan)
    with pytest.raises(InputError, match="no finite likelihood of '1'"):
        per_base_likelihood(network, ["ACGT"])


@pytest.mark.parametrize(
    "output",
    [["-o", "t.tsv"], ["--bases", "b.npz"], ["--bases", "b.parquet"], ["--bases", "b.zarr"], ["--tracks", "t.bw"]],
)
def test_a_full_disk_is_bad_input_and_leaves_nothing(
    work: Path, model: Path, small_disk: Path, output: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    (small_disk / "filler").write_bytes(bytes(small_disk_free(small_disk) - 8192))
    with pytest.raises(InputError, match="No space left on device"):
        run(*shared(work, model), output[0], small_disk / output[1])
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def small_disk_free(folder: Path) -> int:
    import shutil

    return shutil.disk_usage(folder).free


def test_a_folder_that_is_not_writable(work: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    # Tests may run as root, whom no permission stops.
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    for option in ("-o", "--bases", "--tracks"):
        name = {"-o": "t.tsv", "--bases": "t.npz", "--tracks": "t.bw"}[option]
        with pytest.raises(InputError, match="not writable"):
            run(*shared(work, model), option, work / name)
