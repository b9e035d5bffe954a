"""`hyena-dna bench` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hyena_dna.errors import InputError
from pipelines.bench import command

SMALL = ["--d-model", "16", "--n-layer", "1", "--device", "cpu", "--threads", "1", "--sweep", "batch-1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--levels", "oprator"], "no level"),
        (["--lengths", "1k,ten"], "not a length"),
        (["--lengths", "1"], "at least 2"),
        (["--contenders", "fastest"], "no contender"),
        (["--preset", "huge"], "no preset"),
        (["--contenders", "official", "--lengths", "64", "--levels", "operator"], "--official"),
    ],
)
def test_bad_input(options: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [*SMALL, *options, "-o", str(tmp_path / "out")], standalone_mode=False)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_an_output_is_kept(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [*SMALL, "-o", str(tmp_path)], standalone_mode=False)
    assert isinstance(result.exception, InputError)
    assert "exists already" in str(result.exception)


def test_dry_run_lists_and_writes_nothing(tmp_path: Path) -> None:
    options = ["--levels", "mixer", "--lengths", "64,128", "--dry-run", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(command, [*SMALL, *options], standalone_mode=False)
    assert result.stdout.splitlines()[0] == "mixer, forward: 64 x 1 (high, plain, transformer)"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_with_a_process_per_cell(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = [
        "--levels",
        "forward",
        "--lengths",
        "64,128",
        "--contenders",
        "high,plain",
        "--cell-seconds",
        "1",
        "--json",
    ]
    result = CliRunner().invoke(command, [*SMALL, *options, "-o", str(out)], standalone_mode=False)
    assert result.exception is None
    assert result.return_value == 0
    assert json.loads(result.stdout)["cells"] == 4
    document = json.loads((out / "bench.json").read_text())
    assert document["status"] == "done"
    assert all(cell["peak_bytes"] > 50e6 and cell["ms"]["iterations"] >= 5 for cell in document["cells"])
    assert (out / "bench.png").stat().st_size > 10_000
    assert "Every cell" in (out / "bench.md").read_text()
