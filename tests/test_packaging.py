"""What users install: the wheel, in an environment of its own, run from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "data" / "models"


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as built from the source distribution, as an installer that gets only that would build it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert len(list(folder.glob("*.tar.gz"))) == 1
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; the dependencies are those of the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A path entry does not process the .pth files in it, so an editable install of this project stays out of sight.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_holds_two_packages_configurations_and_models(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"hyena_dna", "pipelines"}
    shipped = [path for root in ("configs", "data/models") for path in (ROOT / root).rglob("*") if path.is_file()]
    wanted = {f"hyena_dna/{path.relative_to(ROOT)}".replace("data/models", "models") for path in shipped}
    assert {"hyena_dna/configs/pretrain/release-splits.bed", "hyena_dna/models/README.md"} <= wanted
    assert wanted | {"hyena_dna/py.typed", "hyena_dna/output/report.html.j2"} <= set(names)


def test_the_command_works_from_another_folder(environment: Path, tmp_path: Path) -> None:
    command = environment / "hyena-dna"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"hyena-dna {version}" in run(command, "--version", cwd=tmp_path)
    assert "pretrain" in run(command, "--help", cwd=tmp_path)
    where = "import hyena_dna, hyena_dna.config as c; print(hyena_dna.__file__, *c.list_configs('pretrain'))"
    package, *configs = run(environment / "python", "-c", where, cwd=tmp_path).split()
    assert Path(package).is_relative_to(environment.parent)
    assert configs == sorted(path.stem for path in (ROOT / "configs" / "pretrain").glob("*.yaml"))


def test_the_installed_command_knows_its_models(environment: Path, tmp_path: Path) -> None:
    """Every bundled model is found by name from another folder, and says what it said when it was made."""
    known = json.loads(run(environment / "hyena-dna", "info", "--json", cwd=tmp_path))
    assert [facts["name"] for facts in known] == sorted(path.parent.name for path in MODELS.glob("*/config.json"))
    check = "import sys; from hyena_dna.inference.expected_scores import check_expected as c; print(c(sys.argv[1]))"
    for facts in known:
        assert Path(facts["weights"]).is_relative_to(environment.parent)
        assert "log_likelihood" in run(environment / "python", "-c", check, facts["name"], cwd=tmp_path)


def test_the_installed_command_trains_and_reports(environment: Path, tmp_path: Path) -> None:
    """The shortest whole journey: simulate a genome, train on it for a few steps, look at the model."""
    command = environment / "hyena-dna"
    run(command, "simulate", "-o", "set", "--length", "300k", "--quiet", cwd=tmp_path)
    settings = ["model.d_model=16", "model.d_inner=32", "optim.duration=3 steps", "trainer.val_windows=4"]
    changes = [part for setting in settings for part in ("--set", setting)]
    run(command, "pretrain", "--config", "example", "-g", "set/genome.fa.gz", "-o", "run", *changes, cwd=tmp_path)
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert "checksums verified  yes" in run(command, "info", "run/model", cwd=tmp_path)
