"""`hyena-dna generate` from prompts to FASTA, and every refusal before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from hyena_dna.errors import InputError
from hyena_dna.genome.bgzf import is_bgzf
from hyena_dna.genome.records import read_records
from hyena_dna.inference.likelihood import log_likelihood
from hyena_dna.model.checkpoint import load_model, save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from pipelines.generate import command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "m"
    save_model(HyenaDNA(HyenaConfig(d_model=8, n_layer=2, max_length=300, initializer_range=0.3)), path)
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.fa"
    path.write_text(">one\nACGTACGT\n>two\nTTTTT\n")
    return path


def run(model: Path, *arguments: str | Path) -> str:
    given = ["--model", model, "--device", "cpu", *arguments]
    result = CliRunner().invoke(command, [str(argument) for argument in given], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_continuing_prompts(model: Path, prompts: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.fa"
    summary = json.loads(
        run(model, "--prompts", prompts, "--length", "90", "--samples", "2", "-o", output, "--with-prompt", "--json")
    )
    records = list(read_records(output))
    assert [record.name for record in records] == ["one_1", "one_2", "two_1", "two_2"]
    assert [len(record.sequence) for record in records] == [98, 98, 95, 95]
    assert records[0].sequence.startswith(b"ACGTACGT")
    assert (summary["samples"], summary["bases"]) == (4, 360)
    # What the header says is what the model says.
    text = records[2].description
    whole, before = log_likelihood(load_model(model), [records[2].sequence, b"TTTTT"])
    assert float(text.split("log_likelihood=")[1]) == pytest.approx(float(whole - before), abs=1e-3)
    assert max(map(len, output.read_text().splitlines())) <= 120
    # Without the prompt, the same bases; one at a time, too.
    run(
        model, "--prompts", prompts, "--length", "90", "--samples", "2", "-o", tmp_path / "new.fna", "--batch-size", "1"
    )
    assert [record.sequence[-90:] for record in records] == [r.sequence for r in read_records(tmp_path / "new.fna")]


def test_nothing_to_continue_bgzf_and_standard_output(model: Path, tmp_path: Path) -> None:
    run(model, "--length", "50", "--seed", "4", "-o", tmp_path / "out.fa.gz")
    (record,) = read_records(tmp_path / "out.fa.gz")
    assert is_bgzf((tmp_path / "out.fa.gz").read_bytes())
    text = run(model, "--length", "50", "--seed", "4", "-o", "-")
    assert text.splitlines()[1].encode() == record.sequence
    assert text.splitlines()[0].startswith(">sample_1 seed=4 temperature=1 log_likelihood=-")
    slow = run(model, "--length", "50", "--seed", "4", "-o", "-", "--method", "full")
    assert slow.splitlines()[1] == text.splitlines()[1]


def test_a_dry_run_writes_nothing(model: Path, tmp_path: Path) -> None:
    plan = json.loads(run(model, "--length", "50", "--samples", "3", "-o", tmp_path / "x.fa", "--dry-run", "--json"))
    assert (plan["samples"], plan["bases"]) == (3, 150)
    assert not list(tmp_path.iterdir())


CASES: dict[str, tuple[list[str], str]] = {
    "temperature": (["--temperature", "0"], "temperature is above 0"),
    "top-k": (["--top-k", "0"], "top-k"),
    "top-p": (["--top-p", "1.5"], "top-p"),
    "too long": (["--length", "301"], "301 new bases are longer than the model's 300"),
    "prompt too long": (["--prompts", "long.fa"], "after a prompt of 260 bp"),
    "no length": (["--length", "0"], "at least 1"),
    "no DNA": (["--prompts", "bad.fa"], "bad.fa:x:3: 'X' is no base"),
    "no prompts": (["--prompts", "empty.fa"], "empty.fa"),
    "no file": (["--prompts", "missing.fa"], "missing.fa"),
    "no FASTA": (["-o", "out.txt"], "samples are FASTA"),
    "no folder": (["-o", "none/out.fa"], "does not exist"),
    "precision": (["--precision", "bf16"], "too coarse"),
    "two on stdout": (["-o", "-", "--json"], "share standard output"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(
    model: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("long.fa").write_text(f">x\n{'A' * 260}\n")
    Path("bad.fa").write_text(">x\nACXT\n")
    Path("empty.fa").write_text("")
    before = set(tmp_path.iterdir())
    arguments, message = CASES[case]
    with pytest.raises(InputError, match=message) as caught:
        run(model, "--length", "50", "-o", "out.fa", *arguments)
    assert "\n" not in str(caught.value)
    assert set(tmp_path.iterdir()) == before


def test_an_existing_output_is_kept(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.fa"
    output.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        run(model, "--length", "5", "-o", output)
    assert output.read_text() == "mine"
    run(model, "--length", "5", "-o", output, "--force")
    assert len(next(iter(read_records(output))).sequence) == 5
