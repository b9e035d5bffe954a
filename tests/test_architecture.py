"""The direction of dependencies, which modules stay free of torch, and how light the command line is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASE = {"errors", "lengths", "files", "paths", "config"}

# What each part may import from hyena_dna besides itself and BASE.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "paths": set(),
    "lengths": set(),
    "files": set(),
    "config": set(),
    "genome": set(),
    "tokenizer": {"genome"},
    "datasets": {"genome", "tokenizer"},
    "baselines": {"genome", "tokenizer", "datasets", "evaluation"},
    "simulation": {"genome", "tokenizer"},
    "evaluation": set(),
    "output": {"genome", "tokenizer", "evaluation"},
    "ops": set(),
    "model": {"ops", "tokenizer", "genome"},
    "training": {"genome", "tokenizer", "datasets", "baselines", "evaluation", "ops", "model", "output"},
    "reproduction": {"genome", "baselines", "evaluation", "model", "training", "inference"},
    "benchmark": {"tokenizer", "ops", "model", "inference", "training"},
    "inference": {"genome", "tokenizer", "datasets", "evaluation", "ops", "model", "output"},
}
WITHOUT_TORCH = {*BASE, "genome", "tokenizer", "datasets", "baselines", "evaluation", "simulation", "output"}


def modules() -> list[Path]:
    return sorted((ROOT / "hyena_dna").rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(ROOT / "hyena_dna").parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", [p for p in modules() if part(p) != "__init__"], ids=lambda p: p.stem)
def test_dependencies_point_one_way(path: Path) -> None:
    own = part(path)
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] != "pipelines", f"{path} imports the command line"
        if parts[0] == "hyena_dna" and len(parts) > 1:
            # A flat module beside the parts, such as hyena_dna.config, is its own part.
            assert parts[1] in ALLOWED[own] | BASE | {own}, f"{own} may not import {name} ({path})"
        if own in WITHOUT_TORCH:
            assert parts[0] not in {"torch", "lightning"}, f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.stem)
def test_modules_stay_small(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    # About 300 is where one stops and thinks; nothing is split for the number's sake.
    assert lines <= 400, f"{path} has {lines} lines: two nouns in one?"


def test_base_modules_import_only_each_other() -> None:
    for name in BASE:
        for imported in imports(ROOT / "hyena_dna" / f"{name}.py"):
            if imported.startswith("hyena_dna."):
                assert imported.split(".")[1] in BASE


def test_the_command_line_loads_nothing_heavy() -> None:
    code = (
        "import sys, pipelines.cli as cli\n"
        "for name in cli.COMMANDS: cli.load_command(name)\n"
        "print([m for m in ('torch', 'numpy', 'pysam', 'lightning', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_public_names_load() -> None:
    import hyena_dna

    for name in hyena_dna.__all__:
        if name != "__version__":
            assert getattr(hyena_dna, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = hyena_dna.nothing
