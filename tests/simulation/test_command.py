from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cli import main


def _run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_command_writes_the_set_and_one_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "set"
    assert _run(["simulate", "-o", str(folder), "--length", "100k", "--contigs", "3", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["length"] == 100_000
    assert (folder / "reads.bam.bai").is_file()


@pytest.mark.parametrize(
    "wrong", [["--length", "12q"], ["--length", "10k"], ["--seed", "-1"], ["--contigs", "2"], ["--length", "900M"]]
)
def test_bad_values_exit_2_with_one_line(wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["simulate", "-o", str(tmp_path / "set"), *wrong]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_shows_examples_and_coordinates(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["simulate", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.count("hyena-dna simulate -o") >= 2
    assert "0-based half-open" in text
