"""Corrected scores and class deltas: what they are of, which alleles have none, and that they reach every output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pysam
import pytest
import torch

from hyena_dna.datasets.alleles import WindowSpec
from hyena_dna.datasets.token_tiles import TokenTiles
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.variants import Trimmed
from hyena_dna.inference.background import Background
from hyena_dna.inference.extra_scores import ClassDeltas, ContextCorrection, ScoredAllele
from hyena_dna.model.checkpoint import save_model
from hyena_dna.model.classifier import SequenceClassifier, TaskConfig, load_classifier, save_classifier
from hyena_dna.model.model import HyenaDNA
from pipelines import merge, score_variants

MakeModel = Callable[..., HyenaDNA]


@pytest.fixture(scope="module")
def sequence() -> str:
    return "".join(np.random.default_rng(3).choice(list("ACGT"), 3000))


@pytest.fixture
def reference(tmp_path: Path, sequence: str) -> Reference:
    path = tmp_path / "genome.fa"
    path.write_text(f">chr1\n{sequence}\n")
    return Reference(path)


def other(base: str) -> str:
    return "ACGT"[("ACGT".index(base) + 1) % 4]


def classifier_of(model: HyenaDNA, **task: object) -> SequenceClassifier:
    torch.manual_seed(1)
    made = SequenceClassifier(model, TaskConfig.model_validate(task)).eval()
    torch.nn.init.normal_(made.classifier.output.weight)
    return made


def test_a_corrected_score_lacks_the_mean_of_its_context(reference: Reference, sequence: str) -> None:
    tiles = TokenTiles(reference.fetch, reference.contigs, WindowSpec.make(128))
    at = next(i for i in range(500, 2000) if sequence[i : i + 3] == "ACG")
    mirrored = next(i for i in range(500, 2000) if sequence[i : i + 3] == "CGT")
    correction = ContextCorrection(Background({"ACG>ATG": -1.5}, {"ACG>ATG": 9}, 0), tiles)
    changes = [
        Trimmed(at + 1, "C", "T"), Trimmed(mirrored + 1, "G", "A"), Trimmed(at + 1, "C", "A"), Trimmed(at + 1, "C", ""),
        Trimmed(at + 1, "CG", "TT"), Trimmed(0, sequence[0], other(sequence[0])),
        Trimmed(2999, sequence[-1], other(sequence[-1])),
    ]  # fmt: skip
    values = correction.values([ScoredAllele("chr1", change, -4.0) for change in changes])
    np.testing.assert_array_equal(values[:, 0], [-2.5, -2.5] + [np.nan] * 5)


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ({"kind": "binary", "labels": ["background", "my promoter"]}, ["HYENA_DELTA_my_promoter"]),
        (
            {"kind": "multiclass", "labels": ["a b", "a+b", "c"]},
            ["HYENA_DELTA_a_b_1", "HYENA_DELTA_a_b_2", "HYENA_DELTA_c"],
        ),
        ({"kind": "regression", "labels": ["level"], "scale": 3.0, "shift": 2.0}, ["HYENA_DELTA_level"]),
    ],
    ids=["binary", "multiclass", "regression"],
)  # fmt: skip
@pytest.mark.parametrize("batch_size", [None, 2])
def test_class_deltas_are_differences_of_predictions(
    make_model: MakeModel, reference: Reference, sequence: str, task: dict[str, object], names: list[str],
    batch_size: int | None,
) -> None:  # fmt: skip
    classifier, spec = classifier_of(make_model(130), window=64, **task), WindowSpec.make(64)
    deltas = ClassDeltas(classifier, spec, TokenTiles(reference.fetch, reference.contigs, spec).windows_of, batch_size)
    assert [field.info for field in deltas.fields] == names
    changes = [
        Trimmed(1000, sequence[1000], other(sequence[1000])), Trimmed(1200, sequence[1200:1204], ""),
        Trimmed(1300, "", "A" * 33), Trimmed(1000, sequence[1000], other(other(sequence[1000]))),
    ]  # fmt: skip
    values = deltas.values([ScoredAllele("chr1", change, 0.0) for change in changes])
    assert np.isnan(values[2]).all(), "longer than half of the window"

    def predict(text: str) -> np.ndarray:
        with torch.inference_mode():
            ids = torch.from_numpy(classifier.model.tokenizer.encode(text))[None]
            found: np.ndarray = classifier.predict(ids).double().numpy()[0]
            return found

    for row, change in zip(values[[0, 1, 3]], (changes[0], changes[1], changes[3]), strict=True):
        changed = sequence[: change.start] + change.alt + sequence[change.end :]
        whole = slice(change.start - 32, change.start + 32)
        np.testing.assert_allclose(row, predict(changed[whole]) - predict(sequence[whole]), atol=1e-5)
        assert np.abs(row).max() > 1e-3


def score(tmp_path: Path, model: Path, vcf: Path, output: str, *options: str) -> Path:
    args = ["--model", str(model), "--genome", str(tmp_path / "genome.fa"), "--vcf", str(vcf), "--window", "64"]
    code = score_variants.command.main([*args, "-o", str(tmp_path / output), *options], standalone_mode=False)
    assert code == 0
    return tmp_path / output


@pytest.fixture
def vcf(tmp_path: Path, sequence: str, reference: Reference) -> Path:
    assert reference.contigs
    path = tmp_path / "in.vcf"
    base = sequence[999]
    rows = [f"chr1\t1000\t.\t{base}\t{other(base)},*,{base}AA", f"chr1\t1500\t.\t{sequence[1499]}\t<DEL>"]
    rows.append(f"chr1\t1600\t.\t{other(sequence[1599])}\t{sequence[1599]}")
    head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    path.write_text(head + "".join(f"{row}\t.\t.\t.\n" for row in rows))
    return path


def test_every_output_has_them(make_model: MakeModel, tmp_path: Path, vcf: Path, sequence: str) -> None:
    model = tmp_path / "model"
    classifier = classifier_of(make_model(130, n_layer=1), kind="binary", labels=["no", "yes"], window=32)
    save_classifier(classifier, model)
    options = ["--background", "--background-sites", "10", "--on-ref-mismatch", "flip"]
    out = score(tmp_path, model, vcf, "out.vcf.gz", *options)
    with pysam.VariantFile(str(out)) as file:
        first, second, third = list(file)
        assert "HYENA_DELTA_yes" in file.header.info
    for key in ("HYENA_LLR_CORRECTED", "HYENA_DELTA_yes"):
        assert [value is None for value in first.info[key]][:2] == [False, True]
        assert key not in second.info
        assert len(third.info[key]) == 1
    assert first.info["HYENA_LLR_CORRECTED"][2] is None
    assert first.info["HYENA_DELTA_yes"][2] is not None
    assert first.info["HYENA_LLR_CORRECTED"][0] != first.info["HYENA_LLR"][0]
    # The flipped variant's delta is that of its REF against the genome, turned round.
    assert third.info["HYENA_STATUS"] == ("ok|flipped",)
    deltas = load_classifier(model)
    genome = sequence[1599 - 16 : 1599 + 16]
    changed = genome[:16] + other(sequence[1599]) + genome[17:]
    with torch.inference_mode():
        rows = [torch.from_numpy(deltas.model.tokenizer.encode(text))[None] for text in (genome, changed)]
        expected = float(deltas.predict(rows[0]) - deltas.predict(rows[1]))
    assert third.info["HYENA_DELTA_yes"][0] == pytest.approx(expected, abs=1e-4)

    table = pq.read_table(score(tmp_path, model, vcf, "out.parquet", *options)).to_pylist()
    lines = score(tmp_path, model, vcf, "out.tsv", *options).read_text().splitlines()
    assert lines[0].split("\t")[-2:] == list(table[0])[-2:] == ["llr_corrected", "delta_yes"]
    assert len(lines) == 1 + len(table) == 6
    assert [row["delta_yes"] is None for row in table] == [False, True, False, True, False]
    assert table[0]["delta_yes"] == pytest.approx(first.info["HYENA_DELTA_yes"][0], rel=1e-5)
    for line, row in zip(lines[1:], table, strict=True):
        assert line.split("\t")[-1] == ("" if row["delta_yes"] is None else f"{row['delta_yes']:.9g}")
    # Without a background the field is gone after --overwrite-field, and not left over from the run before.
    again = score(tmp_path, model, out, "again.vcf", "--overwrite-field").read_text()
    assert "HYENA_LLR_CORRECTED" not in again.replace("##hyena-dna", "")
    assert "HYENA_DELTA_yes=" in again


@pytest.mark.parametrize("suffix", [".vcf.gz", ".tsv.gz", ".parquet"])
def test_shards_with_them_are_merged(make_model: MakeModel, tmp_path: Path, vcf: Path, suffix: str) -> None:
    model = tmp_path / "model"
    save_classifier(classifier_of(make_model(130), kind="binary", labels=["no", "yes"]), model)
    whole = score(tmp_path, model, vcf, f"whole{suffix}")
    shards = [str(score(tmp_path, model, vcf, f"{i}{suffix}", "--shard", f"{i}/2")) for i in (1, 2)]
    merge.command.main([*shards, "-o", str(tmp_path / f"merged{suffix}")], standalone_mode=False)
    assert (tmp_path / f"merged{suffix}").read_bytes() == whole.read_bytes()


def test_a_background_is_made_once_for_a_model_a_genome_and_settings(
    make_model: MakeModel, tmp_path: Path, vcf: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    caplog.set_level("INFO", logger="hyena_dna")
    model = tmp_path / "model"
    save_model(make_model(130, n_layer=1), model)

    def made(*options: str) -> bool:
        caplog.clear()
        score(tmp_path, model, vcf, "out.vcf", "--force", "--background", "--background-sites", "10", *options)
        return "once for this model" in caplog.text

    assert made()
    first = (tmp_path / "out.vcf").read_bytes()
    assert not made()
    assert (tmp_path / "out.vcf").read_bytes() == first
    assert made("--seed", "1")
    assert made("--position", "left")
    assert "background=True,background_sites=10,seed=1" in (
        score(tmp_path, model, vcf, "seed.vcf", "--background", "--background-sites", "10", "--seed", "1").read_text()
    )
