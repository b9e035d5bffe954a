"""`hyena-dna convert`: what it prints where, and that bad input writes nothing."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hyena_dna.errors import InputError
from hyena_dna.model.checkpoint import load_model, parameters_digest, save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.convert import export_model
from hyena_dna.model.model import HyenaDNA
from pipelines.convert import command

CONFIG = HyenaConfig(d_model=8, n_layer=1, max_length=18, filter_order=8)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    export_model(HyenaDNA(CONFIG), tmp_path / "hyenadna-tiny-1k-seqlen-hf", layout="hf")
    return tmp_path / "hyenadna-tiny-1k-seqlen-hf"


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    path = tmp_path / "genome.fa"
    path.write_text(">a\n" + "ACGTTGCAAT" * 30 + "\n")
    return path


def test_sizes_and_licence_are_said(published: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="hyena_dna"):
        result = run(published, tmp_path / "out")
    assert result.exit_code == 0
    assert result.stdout == ""
    before, after = ((folder / "model.safetensors").stat().st_size for folder in (published, tmp_path / "out"))
    assert f"weights: {before:,} -> {after:,} bytes" in caplog.text
    assert "BSD-3-Clause" in caplog.text
    assert "3 in the file, all equal to their formula" in caplog.text
    assert parameters_digest(load_model(tmp_path / "out")) == parameters_digest(load_model(published))


def test_json_is_one_line(published: Path, genome: Path, tmp_path: Path) -> None:
    result = run(published, tmp_path / "out", "--json", "--shift", "0.0", "--probe-shift", genome)
    summary = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert summary["modulation_shift"] == 0.0
    assert [score["shift"] for score in summary["shift_probe"]] == [0.05, 0.0]
    assert summary["recommended_shift"] in (0.05, 0.0)
    assert (summary["source_layout"], summary["layout"]) == ("hf", "native")
    assert load_model(tmp_path / "out").config.modulation_shift == 0.0


def test_the_probe_is_a_small_table(published: Path, genome: Path, tmp_path: Path) -> None:
    lines = run(published, tmp_path / "out", "--probe-shift", genome).stdout.splitlines()
    assert lines[0] == "shift  bits per base"
    assert [line.split()[0] for line in lines[1:3]] == ["0.05", "0.0"]
    assert lines[3].startswith("recommended: 0.0")
    # The probe informs; what is recorded is what was asked for.
    assert load_model(tmp_path / "out").config.modulation_shift == 0.05


def test_there_and_back(published: Path, tmp_path: Path) -> None:
    run(published, tmp_path / "ours")
    run(tmp_path / "ours", tmp_path / "theirs", "--to", "hf")
    for file in ("config.json", "model.safetensors"):
        assert (published / file).read_bytes() == (tmp_path / "theirs" / file).read_bytes()


def test_refusals_write_nothing(published: Path, genome: Path, tmp_path: Path) -> None:
    save_model(HyenaDNA(CONFIG), tmp_path / "ours")
    inside = sorted(tmp_path.iterdir())
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        ((published, tmp_path / "ours"), "exists already"),
        ((published, tmp_path / "absent" / "out"), "folder does not exist"),
        ((published, genome, "--force"), "no model directory"),
        ((tmp_path / "ours", tmp_path / "out", "--shift", "0.0"), r"known to be 0\.05"),
        ((published, tmp_path / "out", "--probe-shift", tmp_path / "absent.fa"), "absent.fa"),
        ((genome, tmp_path / "out"), r"config\.json"),
        ((tmp_path / "nothing", tmp_path / "out"), "no such file"),
        ((published, tmp_path / "out", "--shift", "0.0", "--to", "hf"), "no place for modulation_shift"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message):
            run(*arguments)
        assert sorted(tmp_path.iterdir()) == inside
    # Refused before the model is read: a long conversion is not to end in this.
    with pytest.raises(InputError, match="exists already"):
        run(tmp_path / "nothing", tmp_path / "ours")


def test_only_the_two_shifts_in_use_are_offered(published: Path, tmp_path: Path) -> None:
    result = run(published, tmp_path / "out", "--shift", "0.5")
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()
