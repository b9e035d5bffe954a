"""Outputs are refused before any work, where they cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyena_dna.errors import InputError
from hyena_dna.files import check_output


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    assert check_output(tmp_path / "new") == tmp_path / "new"
    assert check_output(tmp_path / "folder", force=True, folder=True) == tmp_path / "folder"
    for name, message in (
        ("nowhere/new", "the output folder does not exist .mkdir -p"),
        ("file/new", "the output folder is a file"),
        ("file", "exists already"),
    ):
        with pytest.raises(InputError, match=message):
            check_output(tmp_path / name)
    with pytest.raises(InputError, match="the output is a folder; a file is written"):
        check_output(tmp_path / "folder", force=True)
