"""`hyena-dna inspect` from a region or record to pictures and arrays, and every refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from hyena_dna.errors import InputError
from hyena_dna.genome.sequence import reverse_complement
from hyena_dna.model.checkpoint import save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from pipelines.inspect import command

ALL = ["filters", "matrix", "influence", "receptive-field", "comparison"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    made: dict[str, dict[str, Any]] = {
        "hyena": {},
        "attention": {"mixer": "attention"},
        "wide": {"mixer": "attention", "d_model": 32},
    }
    for name, changes in made.items():
        torch.manual_seed(0)
        config: dict[str, Any] = {"d_model": 16, "n_layer": 2, "max_length": 130, "initializer_range": 0.2} | changes
        save_model(HyenaDNA(HyenaConfig(**config)), folder / name)
    return {name: folder / name for name in made}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    bases = bytes(np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 6000)).decode()
    (tmp_path / "genome.fa").write_text(f">chr1\n{bases}\n")
    (tmp_path / "two.fa").write_text(f">a\n{bases[:40]}\n>b\n{bases[100:140]}\n")
    (tmp_path / "bad.fa").write_text(">a\nACXT\n")
    return tmp_path


def run(model: Path, *arguments: str | Path) -> str:
    given = ["--model", model, "--device", "cpu", *arguments]
    result = CliRunner().invoke(command, [str(argument) for argument in given], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_all_pictures_of_a_region(models: dict[str, Path], work: Path) -> None:
    place: list[str | Path] = ["-g", work / "genome.fa", "--region", "chr1:1,001-1,060(-)"]
    out = run(models["hyena"], *place, "--attention-model", models["attention"], "-o", work / "look", "--json")
    facts = json.loads(out)
    assert facts["matrix_error"] < 1e-5
    assert facts["layer"] == 2
    assert 1 <= facts["half_within_bp"] <= facts["ninety_percent_within_bp"] <= 60
    assert sorted(path.name for path in (work / "look").iterdir()) == sorted(
        [*(f"{n}.png" for n in ALL), "inspect.npz"]
    )
    assert all((work / "look" / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in ALL)
    arrays = np.load(work / "look" / "inspect.npz", allow_pickle=False)
    genome = (work / "genome.fa").read_text().splitlines()[1].encode()
    assert str(arrays["sequence"]).encode() == reverse_complement(genome[1000:1060])
    assert str(arrays["place"]) == "chr1:1,001-1,060 (-)"
    assert arrays["matrix"].shape == (2, 60, 60)
    products = np.einsum("cij,cj->ci", arrays["matrix"].astype(float), arrays["matrix_values"])
    np.testing.assert_allclose(products, arrays["matrix_outputs"], atol=1e-5 * np.abs(products).max())
    np.testing.assert_allclose(arrays["matrix_share"].sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(arrays["attention_share"].sum(1), 1, rtol=1e-5)
    assert arrays["influence"].shape == (60, 60)
    assert arrays["filters"].shape == arrays["windows"].shape == (1, 16, 130)


def test_one_picture_of_a_record_as_svg(models: dict[str, Path], work: Path) -> None:
    run(models["hyena"], "--fasta", work / "two.fa", "--record", "b", "--show", "matrix", "--layer", "1",
        "--channel", "3", "--channel", "0", "--format", "svg", "-o", work / "svg")  # fmt: skip
    assert {path.name for path in (work / "svg").iterdir()} == {"matrix.svg", "inspect.npz"}
    assert "channel 3" in (work / "svg" / "matrix.svg").read_text()
    arrays = np.load(work / "svg" / "inspect.npz")
    assert arrays["channels"].tolist() == [3, 0]
    assert int(arrays["layer"]) == 1


def test_a_model_with_attention(models: dict[str, Path], work: Path) -> None:
    run(models["attention"], "--fasta", work / "two.fa", "--record", "a", "--show", "matrix", "-o", work / "att")
    arrays = np.load(work / "att" / "inspect.npz")
    np.testing.assert_allclose(arrays["matrix"].sum(-1), 1, rtol=1e-5)


def test_a_dry_run_writes_nothing(models: dict[str, Path], work: Path) -> None:
    out = run(models["hyena"], "--fasta", work / "two.fa", "--record", "a", "-o", work / "x", "--dry-run", "--json")
    assert json.loads(out)["pictures"] == [f"{name}.png" for name in ALL[:-1]]
    assert not (work / "x").exists()


CASES: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "one sequence is needed"),
    "two": (["--region", "chr1:1-10", "--fasta", "two.fa"], "one sequence is needed"),
    "no genome": (["--region", "chr1:1-10"], "needs a genome"),
    "off the end": (["-g", "genome.fa", "--region", "chr1:5990-6001"], "ends after the contig's 6,000 bp"),
    "no contig": (["-g", "genome.fa", "--region", "chr9:1-10"], "names no contig"),
    "no range": (["-g", "genome.fa", "--region", "chr1:0-10"], "not a range"),
    "too long": (["-g", "genome.fa", "--region", "chr1:1-4097"], "4,097 bp are too many"),
    "longer than the model": (["-g", "genome.fa", "--region", "chr1:1-131"], "131 tokens"),
    "several records": (["--fasta", "two.fa"], "several records"),
    "no record": (["--fasta", "two.fa", "--record", "c"], "no record 'c'"),
    "record of a region": (["-g", "genome.fa", "--region", "chr1:1-9", "--record", "c"], "record of --fasta"),
    "no DNA": (["--fasta", "bad.fa"], "bad.fa:a:3: 'X' is no base"),
    "layer": (["--fasta", "two.fa", "--record", "a", "--layer", "3"], "blocks 1 to 2"),
    "channel": (["--fasta", "two.fa", "--record", "a", "--channel", "16"], "channels 0 to 15"),
    "negative channel": (["--fasta", "two.fa", "--record", "a", "--channel", "-1"], "channels 0 to 15"),
    "nothing to compare": (["--fasta", "two.fa", "--record", "a", "--show", "comparison"], "--attention-model"),
    "a Hyena model": (["--fasta", "two.fa", "--record", "a", "--attention-model", "HYENA"], "no attention"),
    "another backbone": (["--fasta", "two.fa", "--record", "a", "--attention-model", "WIDE"], "d_model is 32, not 16"),
    "no folder": (["--fasta", "two.fa", "--record", "a", "-o", "none/x"], "does not exist"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(
    models: dict[str, Path], work: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    before = set(work.iterdir())
    arguments, message = CASES[case]
    paths = {"HYENA": str(models["hyena"]), "WIDE": str(models["wide"])}
    with pytest.raises(InputError, match=message) as caught:
        run(models["hyena"], "-o", "out", *(paths.get(argument, argument) for argument in arguments))
    assert "\n" not in str(caught.value)
    assert set(work.iterdir()) == before


def test_an_output_is_kept_unless_forced_and_only_ever_replaced_by_its_like(
    models: dict[str, Path], work: Path
) -> None:
    arguments: list[str | Path] = [
        "--fasta",
        work / "two.fa",
        "--record",
        "a",
        "--show",
        "filters",
        "-o",
        work / "look",
    ]
    run(models["hyena"], *arguments)
    with pytest.raises(InputError, match="exists already"):
        run(models["hyena"], *arguments)
    run(models["hyena"], *arguments, "--force")
    (work / "mine").mkdir()
    (work / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="not made by inspect"):
        run(models["hyena"], *arguments[:-1], work / "mine", "--force")
    assert (work / "mine" / "thesis.txt").exists()
