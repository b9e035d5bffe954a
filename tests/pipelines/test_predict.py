"""`hyena-dna predict` from files to files: formats, tiles, resuming, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.inference import embed_run
from hyena_dna.inference.inputs import ChunkLimits
from hyena_dna.model.classifier import SequenceClassifier, TaskConfig, save_classifier
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from pipelines.cli import main

RNG = np.random.default_rng(0)
GENOME = {"b": "".join(RNG.choice(list("ACGT"), 500)), "a": "".join(RNG.choice(list("ACGT"), 130)) + "N" * 90 + "ACGT"}


def save(folder: Path, **task: Any) -> Path:
    torch.manual_seed(0)
    model = HyenaDNA(HyenaConfig(d_model=16, n_layer=1, max_length=66, filter_order=8))
    found = SequenceClassifier(model, TaskConfig.model_validate(task))
    torch.nn.init.normal_(found.classifier.output.weight, std=1.0)
    save_classifier(found, folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "binary": save(folder / "binary", kind="binary", labels=("no", "yes"), window=32, thresholds=(0.4,)),
        "multiclass": save(folder / "multiclass", kind="multiclass", labels=("name", "y/1", "z"), window=32),
        "multilabel": save(folder / "multilabel", kind="multilabel", labels=("p", "q"), window=32),
        "regression": save(folder / "regression", kind="regression", labels=("level",), scale=3.0, shift=1.0),
    }


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "g.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in GENOME.items()))
    (tmp_path / "r.bed").write_text(
        "b\t90\t120\tfirst\t0\t-\nb\t10\t40\tsecond\t0\t+\nb\t30\t50\tthird\t0\t.\na\t140\t180\tn\t0\t+\n"
    )
    (tmp_path / "s.csv").write_text(
        f"sequence,name,label\n{GENOME['b'][:32]},one,yes\n{GENOME['b'][40:60].lower()},two,no\n"
    )
    (tmp_path / "s.fa").write_text(f">one\n{GENOME['b'][:32]}\n>two\n{GENOME['b'][40:60]}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def predict(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--threads", "1", "--device", "cpu", *map(str, arguments)])
    assert (stop.value.code or 0) == code


def rows(path: Path) -> list[dict[str, str]]:
    head, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_regions_become_a_table(models: dict[str, Path], files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict("--model", models["binary"], "--genome", "g.fa", "--regions", "r.bed", "-o", "o.tsv", "--json")
    found = rows(files / "o.tsv")
    assert list(found[0]) == ["chrom", "start", "end", "name", "strand", "label", "yes", "predicted", "status"]
    assert [row["name"] for row in found] == ["first", "second", "third", "n"]
    assert [row["status"] for row in found] == ["ok", "ok", "ok", "n_fraction"]
    assert (found[3]["yes"], found[3]["predicted"]) == (".", ".")
    assert [row["predicted"] for row in found[:3]] == ["yes" if float(r["yes"]) >= 0.4 else "no" for r in found[:3]]
    told = json.loads(capsys.readouterr().out)
    assert told["records"] == 4
    assert told["n_fraction"] == 1
    assert sum(told["predicted"].values()) == 3


def test_formats_agree(models: dict[str, Path], files: Path) -> None:
    for suffix in ("tsv", "parquet", "bed"):
        predict("--model", models["multiclass"], "--genome", "g.fa", "--regions", "r.bed", "-o", f"o.{suffix}", "-q")
    table = rows(files / "o.tsv")
    names = ["predicted_name", "y/1", "z"]
    parquet = pq.read_table(files / "o.parquet")
    assert parquet.column_names == ["chrom", "start", "end", "name", "strand", "label", *names, "predicted", "status"]
    assert parquet["z"].to_pylist()[3] is None
    assert parquet["predicted"].to_pylist()[3] is None
    bed = rows(files / "o.bed")
    for row, line, record in zip(table[:3], bed[:3], parquet.to_pylist()[:3], strict=True):
        values = [float(row[name]) for name in names]
        assert sum(values) == pytest.approx(1, abs=1e-5)
        assert [record[name] for name in names] == pytest.approx(values, abs=1e-5)
        assert int(line["score"]) == round(1000 * max(values))
        assert line["name"] == row["name"]
        assert record["predicted"] == row["predicted"] == ("name", "y/1", "z")[int(np.argmax(values))]
    assert (bed[3]["score"], bed[3]["z"]) == ("0", ".")


def test_sequences_in_csv_and_fasta_are_the_same_and_so_are_both_strands(models: dict[str, Path], files: Path) -> None:
    flipped = reverse_complement(GENOME["b"][:32].encode()).decode()
    (files / "r.csv").write_text(f"sequence\n{flipped}\n")
    for name, option in (("s.csv", "--csv"), ("s.fa", "--fasta"), ("r.csv", "--csv")):
        predict("--model", models["multilabel"], option, name, "-o", f"{name}.tsv", "-q")
    one, other = rows(files / "s.csv.tsv"), rows(files / "s.fa.tsv")
    assert [row["label"] for row in one] == ["yes", "no"]
    assert [(row["p"], row["q"]) for row in one] == [(row["p"], row["q"]) for row in other]
    assert float(rows(files / "r.csv.tsv")[0]["p"]) == pytest.approx(float(one[0]["p"]), abs=1e-5)
    wanted = [";".join(label for label in "pq" if float(row[label]) >= 0.5) or "." for row in one]
    assert [row["predicted"] for row in one] == wanted


def test_a_regression_gives_numbers(models: dict[str, Path], files: Path) -> None:
    predict("--model", models["regression"], "--csv", "s.csv", "-o", "o.tsv", "-q")
    found = rows(files / "o.tsv")
    assert [row["predicted"] for row in found] == [".", "."]
    assert all(np.isfinite(float(row["level"])) for row in found)


def test_tiles_of_a_genome_as_track_and_bed(models: dict[str, Path], files: Path) -> None:
    pybigtools = pytest.importorskip("pybigtools")
    base = ["--model", models["binary"], "--genome", "g.fa", "--tile", "30", "-q"]
    predict(*base, "-o", "o.bed")
    predict(*base, "-o", "o.bw")
    bed = rows(files / "o.bed")
    assert [(row["#chrom"], row["start"]) for row in bed[:2]] == [("b", "0"), ("b", "30")]
    assert len(bed) == 17 + 8
    assert bed[16]["end"] == "500"
    track = pybigtools.open(str(files / "o.bw"))
    known = [row for row in bed if row["yes"] != "."]
    assert len(known) < len(bed)
    found = [(chrom, *record) for chrom in ("b", "a") for record in track.records(chrom)]
    assert [(c, str(s), str(e)) for c, s, e, _ in found] == [(r["#chrom"], r["start"], r["end"]) for r in known]
    assert [value for *_, value in found] == pytest.approx([float(row["yes"]) for row in known], abs=1e-5)
    # A tile is the region of its stretch, in the same window; another batch rounds it otherwise.
    (files / "t.bed").write_text("b\t60\t90\n")
    predict("--model", models["binary"], "--genome", "g.fa", "--regions", "t.bed", "-o", "t.tsv", "-q")
    assert float(rows(files / "t.tsv")[0]["yes"]) == pytest.approx(float(bed[2]["yes"]), abs=2e-6)
    predict(*base, "--region", "b:31-100", "-o", "part.bed")
    assert [(row["start"], row["end"]) for row in rows(files / "part.bed")] == [
        ("30", "60"),
        ("60", "90"),
        ("90", "100"),
    ]


def test_regions_that_overlap_become_a_track_and_labels_one_each(models: dict[str, Path], files: Path) -> None:
    predict("--model", models["multilabel"], "--genome", "g.fa", "--regions", "r.bed", "-o", "o.bedgraph", "-q")
    predict("--model", models["multilabel"], "--genome", "g.fa", "--regions", "r.bed", "-o", "o.tsv", "-q")
    table = {row["name"]: row for row in rows(files / "o.tsv")}
    for label in "pq":
        lines = [line.split("\t") for line in (files / f"o.{label}.bedgraph").read_text().splitlines()]
        assert [line[:3] for line in lines] == [["b", "10", "40"], ["b", "40", "50"], ["b", "90", "120"]]
        wanted = [float(table[name][label]) for name in ("second", "third", "first")]
        assert [float(line[3]) for line in lines] == pytest.approx(wanted, abs=1e-5)


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    models: dict[str, Path], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyena_dna.inference.inputs.ChunkLimits", lambda: ChunkLimits(records=5))
    base = ["--model", models["binary"], "--genome", "g.fa", "--tile", "10", "-q"]
    predict(*base, "-o", "whole.tsv")
    show, seen = embed_run.Progress.show, 0

    def stop(self: embed_run.Progress, *done: int) -> None:
        nonlocal seen
        seen += 1
        if seen == 5:
            raise KeyboardInterrupt
        show(self, *done)

    monkeypatch.setattr(embed_run.Progress, "show", stop)
    predict(*base, "-o", "o.tsv", code=130)
    assert not (files / "o.tsv").exists()
    assert list((files / "o.tsv.parts").glob("*.part"))
    predict(*base, "-o", "o.tsv", code=2)
    predict(*base, "-o", "o.tsv", "--max-n", "0.2", "--resume", code=2)
    predict(*base, "-o", "o.tsv", "--resume")
    assert (files / "o.tsv").read_bytes() == (files / "whole.tsv").read_bytes()
    assert not (files / "o.tsv.parts").exists()


def test_a_dry_run_does_nothing(models: dict[str, Path], files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict("--model", models["binary"], "--genome", "g.fa", "--tile", "10", "-o", "o.bed", "--dry-run", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["records"] == 50 + 23
    assert told["tokens"] == 2 * 32 * 73
    assert told["seconds"] > 0
    assert not (files / "o.bed").exists()


BAD_BED = {
    "end beyond": (b"b\t10\t600\n", "length"),
    "empty interval": (b"b\t10\t10\n", "r.bed:1"),
    "negative": (b"b\t-1\t10\n", "r.bed:1"),
    "1-based place": (b"b:10-20\n", "1-based"),
    "unknown contig": (b"chrB\t1\t9\n", "chrB"),
    "columns": (b"b\t1\t9\nb\t1\n", "r.bed:2"),
    "number": (b"b\t1_0\t90\n", "r.bed:1"),
    "full-width": ("b\t\uff11\t90\n".encode(), "r.bed:1"),
    "not utf-8": (b"b\t1\t9\t\xff\xfe\n", "r.bed:1"),
    "empty": (b"", "no regions"),
    "comments only": (b"# nothing\n", "no regions"),
    "too long": (b"b\t0\t400\n", "more than the model reads"),
}


@pytest.mark.parametrize("name", BAD_BED)
def test_bad_regions(name: str, models: dict[str, Path], files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, said = BAD_BED[name]
    (files / "r.bed").write_bytes(content)
    model = models["regression" if name == "too long" else "binary"]
    predict("--model", model, "--genome", "g.fa", "--regions", "r.bed", "-o", "o.tsv", code=2)
    refused(files, capsys, said)


BAD_TABLES = {
    "no sequence": ("s.csv", b"label\nx\n", "sequence"),
    "other letters": ("s.csv", b"sequence\nACGT\nAC!T\n", "s.csv:3"),
    "empty sequence": ("s.csv", b"sequence,name\nACGT,a\n,b\n", "s.csv:3"),
    "header only": ("s.csv", b"sequence,label\n", "s.csv"),
    "swallowed lines": ("s.csv", b'sequence,name\nACGT,"a\nACGT,b\n', "s.csv"),
    "columns": ("s.csv", b"sequence,name\nACGT\n", "s.csv:2"),
    "protein": ("s.fa", b">p\nMKLVQQ\n", "s.fa"),
    "empty record": ("s.fa", b">p\n>q\nACGT\n", "p"),
    "empty file": ("s.fa", b"", "s.fa"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_sequences(name: str, models: dict[str, Path], files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, content, said = BAD_TABLES[name]
    (files / file).write_bytes(content)
    option = "--csv" if file.endswith("csv") else "--fasta"
    predict("--model", models["binary"], option, file, "-o", "o.tsv", code=2)
    refused(files, capsys, said)


BAD_USE = {
    "no input": ((), "nothing|no records"),
    "two inputs": (("--csv", "s.csv", "--fasta", "s.fa"), "together"),
    "regions without genome": (("--regions", "r.bed"), "genome"),
    "tile and regions": (("--genome", "g.fa", "--regions", "r.bed", "--tile", "10"), "--tile"),
    "region without tile": (("--genome", "g.fa", "--region", "b"), "--tile"),
    "overlapping places": (("--genome", "g.fa", "--tile", "10", "--region", "b", "--region", "b:1-9"), "overlap"),
    "window": (("--csv", "s.csv", "--window", "100"), "longer than the model"),
    "suffix": (("--csv", "s.csv", "-o", "o.txt"), "written as one of"),
    "places": (("--csv", "s.csv", "-o", "o.bed"), "without a place"),
    "missing file": (("--csv", "nothing.csv"), "nothing.csv"),
}


@pytest.mark.parametrize("name", BAD_USE)
def test_bad_use(name: str, models: dict[str, Path], files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, said = BAD_USE[name]
    predict("--model", models["binary"], "-o", "o.tsv", *arguments, code=2)
    refused(files, capsys, said)


def test_bad_models(models: dict[str, Path], files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hyena_dna.model.checkpoint import save_model

    save_model(HyenaDNA(HyenaConfig(d_model=16, n_layer=1, max_length=66, filter_order=8)), files / "plain")
    predict("--model", "plain", "--csv", "s.csv", "-o", "o.tsv", code=2)
    refused(files, capsys, "predicts no labels")
    predict("--model", models["regression"], "--genome", "g.fa", "--tile", "10", "-o", "o.bed", code=2)
    refused(files, capsys, "--tile needs a window")
    (files / "o.tsv").write_text("mine")
    predict("--model", models["binary"], "--csv", "s.csv", "-o", "o.tsv", code=2)
    assert "exists already" in capsys.readouterr().err
    assert (files / "o.tsv").read_text() == "mine"


def refused(files: Path, capsys: pytest.CaptureFixture[str], said: str) -> None:
    """One line that says why, and nothing written."""
    import re

    told = capsys.readouterr()
    assert told.out == ""
    errors = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in told.err
    assert re.search(said, errors[0]), errors[0]
    assert not list(files.glob("o.*"))
