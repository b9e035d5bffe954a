"""`hyena-dna release`: a run in, a model directory to pass on out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hyena_dna.errors import InputError
from hyena_dna.inference.expected_scores import check_expected
from hyena_dna.model.checkpoint import load_model, read_model
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.pretrain import RunOptions, pretrain
from pipelines.release import command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two genomes."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        bases = ["".join(rng.choice(list("ACGT"), size)) for size in (3000, 600)]
        (folder / f"{name}.fa").write_text(f">chr1\n{bases[0]}\n>chr2\n{bases[1]}\n")
    config = PretrainConfig.model_validate(
        {
            "model": {"d_model": 16, "n_layer": 2, "max_length": 66, "filter_order": 8},
            "data": {"window": 64, "genomes": [str(folder / "one.fa"), str(folder / "two.fa")],
                     "val_contigs": ["chr2"]},
            "optim": {"duration": "4 steps", "batch_tokens": 512, "precision": "fp32"},
            "trainer": {"val_windows": 8, "markov": False},
        }
    )  # fmt: skip
    pretrain(config, folder / "run", RunOptions("test", device="cpu", quiet=True))
    return folder / "run"


def release(*arguments: str | Path) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_run_becomes_a_model_to_pass_on(run: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"AUROC of something": 0.98765}))
    options: list[str | Path] = [
        "--licence",
        "Apache-2.0",
        "--layer",
        "1,2",
        "--pool",
        "max",
        "--results",
        results,
        "--note",
        "A note.",
    ]
    summary = json.loads(release(run, tmp_path / "made", *options, "--json"))
    made = read_model(tmp_path / "made")
    assert made.embedding is not None
    assert (made.embedding.layer, made.embedding.pool, made.embedding.strands) == ("1,2", "max", "mean")
    assert made.card.licence == "Apache-2.0"
    assert made.card.metrics["AUROC of something"] == 0.9877
    assert {"validation bits per base, one", "validation bits per base, two"} <= set(made.card.metrics)
    text = (tmp_path / "made" / "README.md").read_text()
    assert "license: apache-2.0" in text
    assert "A note." in text
    assert "one:chr2, two:chr2" in text
    assert str(run.parent) not in text, "nobody needs the folders of whoever trained it"
    assert summary["bytes"] == sum(path.stat().st_size for path in (tmp_path / "made").iterdir())
    assert max(check_expected(tmp_path / "made").values()) < 1e-5
    full = load_model(run)
    for (name, value), wanted in zip(made.model.named_parameters(), full.parameters(), strict=True):
        assert value.allclose(wanted, rtol=1e-3, atol=1e-7), name


def test_what_cannot_be_released_leaves_nothing(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "made"
    cases: list[tuple[list[str | Path], str]] = [
        (["--layer", "3"], "blocks 1 to 2"),
        (["--pool", "none"], "no vector of a record"),
        (["--results", run / "metrics.csv"], "not JSON"),
        (["--results", run / "run.json"], "not a mapping of names to numbers"),
    ]
    for options, reason in cases:
        with pytest.raises(InputError, match=reason):
            release(run, target, *options)
    record = json.loads((run / "run.json").read_text())
    broken = tmp_path / "stopped"
    broken.mkdir()
    (broken / "run.json").write_text(json.dumps(record | {"status": "stopped"}))
    with pytest.raises(InputError, match="has not finished"):
        release(broken, target)
    assert not target.exists()
    target.mkdir()
    (target / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="exists"):
        release(run, target, "--force")
    assert (target / "thesis.txt").read_text() == "precious"
