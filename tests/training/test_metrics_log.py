from __future__ import annotations

from pathlib import Path

import pytest

from hyena_dna.errors import InputError
from hyena_dna.training.metrics_log import CsvLog


def test_a_log_cut_back_to_an_offset_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    with CsvLog(path, ["step", "loss", "lr"]) as log:
        log.write({"step": 1, "loss": 1 / 3})
        offset = log.sync()
        log.write({"step": 2, "lr": 1e-4})
    whole = path.read_bytes()
    assert whole == b"step,loss,lr\n1,0.333333333,\n2,,0.0001\n"
    path.write_bytes(whole + b"3,half a ro")
    with CsvLog(path, ["step", "loss", "lr"], offset=offset) as log:
        log.write({"step": 2, "lr": 1e-4})
    assert path.read_bytes() == whole


def test_a_log_that_lost_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"step\n1\n")
    with pytest.raises(InputError, match="shorter"):
        CsvLog(path, ["step"], offset=100)
    with pytest.raises(InputError, match="cannot be written"):
        CsvLog(tmp_path / "none.csv", ["step"], offset=5)


def test_rows_are_on_disk_as_soon_as_they_are_written(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "m.csv", ["step"])
    log.write({"step": 1})
    assert (tmp_path / "m.csv").read_text() == "step\n1\n"
    log.close()
