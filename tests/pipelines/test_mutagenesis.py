"""`hyena-dna mutagenesis` from files to files, against scores of the same variants and direct predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from hyena_dna.errors import InputError
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.variants import Variant
from hyena_dna.inference import mutagenesis
from hyena_dna.inference.variant_effects import score_variants
from hyena_dna.model.checkpoint import load_model, save_model
from hyena_dna.model.classifier import SequenceClassifier, TaskConfig, load_classifier, save_classifier
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.output.tracks import TRACK_SUFFIXES
from hyena_dna.tokenizer import Tokenizer
from pipelines.mutagenesis import command

CONTIGS = {"chr2": 600, "chr10": 300}


def network() -> HyenaDNA:
    torch.manual_seed(0)
    return HyenaDNA(HyenaConfig(d_model=16, n_layer=2, max_length=66, initializer_range=0.15)).eval()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m"
    save_model(network(), path)
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "c"
    task = TaskConfig(kind="multiclass", labels=("promoter", "enhancer (distal)", "other"), window=40)
    found = SequenceClassifier(network(), task).eval()
    torch.nn.init.normal_(found.classifier.output.weight)
    save_classifier(found, path)
    return path


@pytest.fixture(scope="module")
def genome() -> dict[str, str]:
    rng = np.random.default_rng(0)
    found = {name: "".join(rng.choice(list("ACGT"), size)) for name, size in CONTIGS.items()}
    return found | {"chr2": found["chr2"][:303] + "N" + found["chr2"][304:]}


@pytest.fixture
def work(tmp_path: Path, genome: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mutagenesis, "_PIECE", 8)
    monkeypatch.setattr(mutagenesis, "_CHUNK", 16)
    (tmp_path / "genome.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in genome.items()))
    (tmp_path / "r.bed").write_text("chr10\t270\t300\tend\nchr2\t295\t315\tn\nchr2\t300\t325\toverlapping\n")
    return tmp_path


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def shared(work: Path, model: Path) -> list[str | Path]:
    return ["--model", model, "--genome", work / "genome.fa", "--device", "cpu"]


def test_effects_are_the_scores_of_the_same_variants(work: Path, model: Path, genome: dict[str, str]) -> None:
    run(*shared(work, model), "--region", "chr10:1-21", "--flank", "5", "-o", work / "m.parquet")
    rows = pq.read_table(work / "m.parquet").to_pylist()
    assert [(row["start"], row["ref"]) for row in rows] == [(p, genome["chr10"][p]) for p in range(26) for _ in "123"]
    variants = [Variant(row["chrom"], row["end"], row["ref"], row["alt"]) for row in rows]
    assert len(set(variants)) == 26 * 3
    with Reference(work / "genome.fa") as reference:
        expected = score_variants(load_model(model), reference, variants, window=64)
    for field in ("llr", "llr_fwd", "llr_rev", "dist"):
        found = [row[field] for row in rows]
        np.testing.assert_allclose(found, [getattr(score, field) for score in expected], atol=1e-5)
    assert [row["status"] for row in rows] == [score.status for score in expected]
    assert rows[0]["status"] == "ok|edge_padded"


def test_matrices_tables_and_tracks_agree(work: Path, model: Path, genome: dict[str, str]) -> None:
    run(*shared(work, model), "--regions", work / "r.bed", "-o", work / "m.npz", "--tracks", work / "m.bedgraph")
    run(*shared(work, model), "--regions", work / "r.bed", "-o", work / "m.tsv")
    with np.load(work / "m.npz", allow_pickle=False) as archive:
        llr, position, chrom = archive["llr"], archive["position"], archive["chrom"]
        assert "".join(archive["ref"]) == genome["chr10"][270:] + genome["chr2"][295:315] + genome["chr2"][300:325]
        assert json.loads(str(archive["facts"]))["window"] == 64
        assert archive["name"][[0, 30, 50]].tolist() == ["end", "n", "overlapping"]
    assert llr.shape == (75, 4)
    assert np.isnan(llr).sum() == 75 + 2 * 3
    header, *lines = [line.split("\t") for line in (work / "m.tsv").read_text().splitlines()]
    assert len(lines) == (75 - 2) * 3
    for line in lines:
        row = dict(zip(header, line, strict=True))
        where = np.flatnonzero((chrom == row["chrom"]) & (position == int(row["start"])))
        assert float(row["llr"]) == pytest.approx(llr[where[0], "ACGT".index(row["alt"])], rel=1e-8)
    track = [line.split("\t") for line in (work / "m.bedgraph").read_text().splitlines()]
    assert [(row[0], int(row[1])) for row in track] == [
        *(("chr2", p) for p in range(295, 325) if p != 303),
        *(("chr10", p) for p in range(270, 300)),
    ]
    assert float(track[-1][3]) == pytest.approx(np.nanmean(llr[29]), rel=1e-5)


def test_a_fine_tuned_model_gives_changes_of_its_logits(work: Path, classifier: Path, genome: dict[str, str]) -> None:
    # The window of 40 bp about the centre of the region reaches beyond the contig's end, where it holds N.
    run(*shared(work, classifier), "--region", "chr10:281-300", "-o", work / "c.parquet", "--tracks",
        work / "c.bedgraph", "--score", "delta_enhancer__distal_", "--plot", work / "c.svg")  # fmt: skip
    rows = pq.read_table(work / "c.parquet").to_pylist()
    assert list(rows[0])[7:] == ["delta_promoter", "delta_enhancer__distal_", "delta_other"]
    found = load_classifier(classifier)
    window = genome["chr10"][270:] + "N" * 10
    with torch.inference_mode():
        reference = found.predict(torch.from_numpy(Tokenizer().encode(window))[None])
        for row in (rows[0], rows[31], rows[59]):
            at = row["start"] - 270
            mutated = window[:at] + row["alt"] + window[at + 1 :]
            expected = (found.predict(torch.from_numpy(Tokenizer().encode(mutated))[None]) - reference)[0]
            np.testing.assert_allclose(list(row.values())[7:], expected.numpy(), atol=1e-5)
    assert "<svg" in (work / "c.svg").read_text()
    # The language model in it still has likelihoods.
    run(*shared(work, classifier), "--region", "chr10:281-285", "-o", work / "lm.tsv", "--effect", "lm")
    assert "llr_fwd" in (work / "lm.tsv").read_text().splitlines()[0]


def test_pictures_of_one_region_and_of_several(work: Path, model: Path) -> None:
    run(*shared(work, model), "--region", "chr2:1-110", "-o", work / "a.tsv", "--plot", work / "a.png")
    run(*shared(work, model), "--regions", work / "r.bed", "-o", work / "b.tsv", "--plot", work / "b.svg")
    assert (work / "a.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in work.glob("b.*.svg")) == ["b.1.svg", "b.2.svg", "b.3.svg"]


class Killed(BaseException):
    pass


def test_resuming_gives_the_bytes_of_an_uninterrupted_run(
    work: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*shared(work, model), "--regions", work / "r.bed"]
    run(*options, "-o", work / "whole.npz")
    write = vars(mutagenesis)["write_mutagenesis_part"]

    def dying(parts: Any, index: int, *rest: Any) -> None:
        if index == 3:
            raise Killed
        write(parts, index, *rest)

    monkeypatch.setattr(mutagenesis, "write_mutagenesis_part", dying)
    with pytest.raises(Killed):
        run(*options, "-o", work / "broken.npz")
    monkeypatch.setattr(mutagenesis, "write_mutagenesis_part", write)
    with pytest.raises(InputError, match="--resume"):
        run(*options, "-o", work / "broken.npz")
    run(*options, "-o", work / "broken.npz", "--resume")
    assert (work / "broken.npz").read_bytes() == (work / "whole.npz").read_bytes()


def test_a_dry_run_counts_and_writes_nothing(work: Path, model: Path) -> None:
    before = {path.name for path in work.iterdir()}
    plan = json.loads(run(*shared(work, model), "--region", "chr2:1-100", "-o", work / "x.tsv", "--dry-run", "--json"))
    assert (plan["positions"], plan["substitutions"], plan["effect"]) == (100, 300, "lm")
    assert {path.name for path in work.iterdir() if path.suffix != ".fai"} == before


REFUSALS: dict[str, tuple[list[str], str]] = {
    "no region": (["-o", "x.tsv"], "either --region or --regions"),
    "both": (["--region", "chr2:1-5", "--regions", "r.bed", "-o", "x.tsv"], "either --region or --regions"),
    "off the end": (["--region", "chr10:290-301", "-o", "x.tsv"], "ends beyond chr10"),
    "regions off the end": (["--regions", "off.bed", "-o", "x.tsv"], "off.bed:2"),
    "no regions": (["--regions", "empty.bed", "-o", "x.tsv"], "no regions"),
    "1-based": (["--region", "chr10:0-5", "-o", "x.tsv"], "1-based"),
    "suffix": (["--region", "chr2:1-5", "-o", "x.vcf"], "effects are written as"),
    "picture": (["--region", "chr2:1-5", "-o", "x.tsv", "--plot", "x.gif"], "a picture is written as"),
    "track": (["--region", "chr2:1-5", "-o", "x.tsv", "--tracks", "x.wig"], TRACK_SUFFIXES[0]),
    "score": (["--region", "chr2:1-5", "-o", "x.tsv", "--score", "delta_x"], "the scores are llr"),
    "class": (["--region", "chr2:1-5", "-o", "x.tsv", "--effect", "class"], "predicts no labels"),
    "window": (["--region", "chr2:1-5", "-o", "x.tsv", "--window", "65"], "longer than the model"),
    "no folder": (["--region", "chr2:1-5", "-o", "none/x.tsv"], "does not exist"),
    "precision": (["--region", "chr2:1-5", "-o", "x.tsv", "--precision", "bf16"], "too coarse"),
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
    with pytest.raises(InputError, match=message) as caught:
        run("--model", model, "--device", "cpu", "--genome", "genome.fa", *arguments)
    assert "\n" not in str(caught.value)
    assert {path.name for path in work.iterdir() if path.suffix != ".fai"} == before


def test_a_region_longer_than_the_classifier_reads(work: Path, classifier: Path) -> None:
    with pytest.raises(InputError, match="has 41 bp; the model reads 40"):
        run(*shared(work, classifier), "--region", "chr2:1-41", "-o", work / "x.tsv")
