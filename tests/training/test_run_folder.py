from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hyena_dna.errors import InputError
from hyena_dna.training.run_folder import open_run_folder


def _begin(path: Path) -> None:
    with open_run_folder(path, resume=False, force=False) as folder:
        folder.config.write_text("a: 1\n")
        (folder.checkpoints / "step-000000001.safetensors").write_text("x")
        folder.metrics.write_text("step\n")


def test_a_second_process_cannot_use_the_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hyena_dna.training.run_folder import open_run_folder\n"
        "try:\n  open_run_folder(Path(sys.argv[1]), resume=True, force=False).__enter__()\n"
        "except Exception as error: print(error)"
    )
    with open_run_folder(tmp_path / "run", resume=False, force=False):
        root = Path(__file__).resolve().parents[2]
        found = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True, cwd=root, check=True
        )
    assert "another run is using this folder" in found.stdout


def test_a_run_is_neither_overwritten_nor_resumed_unasked(tmp_path: Path) -> None:
    _begin(tmp_path / "run")
    with pytest.raises(InputError, match="holds a run already"):
        _begin(tmp_path / "run")
    with open_run_folder(tmp_path / "run", resume=True, force=False) as folder:
        assert (folder.checkpoints / "step-000000001.safetensors").exists()
    with open_run_folder(tmp_path / "run", resume=False, force=True) as folder:
        assert not folder.has_run()
        assert list(folder.checkpoints.iterdir()) == []
        assert not folder.metrics.exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, force: bool) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="thesis"), open_run_folder(tmp_path, resume=False, force=force):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "x"


def test_what_a_killed_process_left_half_written_is_swept(tmp_path: Path) -> None:
    _begin(tmp_path / "run")
    (tmp_path / "run/checkpoints/.ab12.tmp.step-000000002.safetensors").write_text("half")
    (tmp_path / "run/.ab12.tmp.model").mkdir()
    (tmp_path / "run/.ab12.tmp.model/config.json").write_text("half")
    with open_run_folder(tmp_path / "run", resume=True, force=False) as folder:
        assert [entry.name for entry in folder.checkpoints.iterdir()] == ["step-000000001.safetensors"]
        assert not list(folder.path.glob("*.tmp.*"))


def test_a_process_killed_before_the_first_file_can_begin_again(tmp_path: Path) -> None:
    with open_run_folder(tmp_path / "run", resume=False, force=False) as folder:
        folder.metrics.write_text("step\n")
    with open_run_folder(tmp_path / "run", resume=False, force=False) as folder:
        assert not folder.has_run()


def test_a_folder_that_refuses_writes_is_found_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Found at the first checkpoint otherwise, hours later; root ignores file modes, so the refusal is simulated.
    def refuse(self: Path, data: bytes) -> int:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    context = open_run_folder(tmp_path / "run", resume=False, force=False)
    with pytest.raises(InputError, match="Permission denied"), context:
        pass


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(InputError, match="a file is where"), open_run_folder(tmp_path / "run", resume=True, force=True):
        pass


def test_a_child_that_outlives_the_run_does_not_keep_its_lock(tmp_path: Path) -> None:
    # flock is inherited by fork: data workers of a killed run would lock its folder until they notice.
    pid = os.fork()
    if pid == 0:
        with open_run_folder(tmp_path / "run", resume=False, force=False):
            if os.fork() == 0:
                time.sleep(30)
            os._exit(0)
    os.waitpid(pid, 0)
    with open_run_folder(tmp_path / "run", resume=True, force=False):
        pass
