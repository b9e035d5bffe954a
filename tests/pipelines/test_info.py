"""`hyena-dna info`: every fact that was recorded is shown, and differences are found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from hyena_dna.errors import InputError
from hyena_dna.model.checkpoint import save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.convert import export_model
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.run_record import start_record
from pipelines.info import command

CONFIG = HyenaConfig(d_model=8, n_layer=1, max_length=18, filter_order=8)
CARD = {"data": ["hg38.fa", "mm39.fa"], "steps": 1234, "tokens": 5_000_000, "licence": "MIT",
        "metrics": {"validation bits per base": 1.9}, "held out": "chr8"}  # fmt: skip


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def rows(text: str) -> dict[str, str]:
    """Label to value of an aligned table."""
    return dict(re.split(r" {2,}", line, maxsplit=1) for line in text.splitlines() if line[:1] != " ")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(HyenaDNA(CONFIG), tmp_path / "model", card=CARD)
    return tmp_path / "model"


def test_what_a_model_is(model: Path) -> None:
    text = run(model).stdout
    found = rows(text)
    size = (model / "model.safetensors").stat().st_size
    for label, value in {
        "bytes": f"{size:,} bytes", "context": "18 tokens (bp)", "layers": "1", "width": "8", "steps": "1,234",
        "mixer": "Hyena, order 2 (HyenaDNA form)", "modulation shift": "0.05", "tokens": "5,000,000 tokens (bp)",
        "licence": "MIT", "held out": "chr8", "metrics": "validation bits per base  1.9", "checksums verified": "yes",
        "training data": "hg38.fa", "source": "unknown",
    }.items():  # fmt: skip
        assert found[label] == value, label
    assert "mm39.fa" in text


def test_json_has_the_same_facts(model: Path) -> None:
    result = run(model, "--json")
    facts = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert facts["steps"] == 1234
    assert facts["parameters"] == sum(value.numel() for value in HyenaDNA(CONFIG).parameters())
    assert facts["training_data"] == CARD["data"]


def test_a_published_layout(tmp_path: Path) -> None:
    export_model(HyenaDNA(CONFIG), tmp_path / "hf", layout="hf")
    found = rows(run(tmp_path / "hf").stdout)
    assert found["kind"] == "safetensors, hf layout"
    assert (found["checksums verified"], found["tables verified"], found["shift stored"]) == ("no", "3", "no")


def test_a_run_with_and_without_its_model(model: Path) -> None:
    run_folder = model.parent
    record = start_record("run-1", {"device": "cpu"}) | {"step": 1234, "status": "finished"}
    (run_folder / "run.json").write_text(json.dumps(record))
    found = rows(run(run_folder).stdout)
    assert (found["run name"], found["run status"], found["run step"]) == ("run-1", "finished", "1,234")
    assert found["licence"] == "MIT"
    assert "metrics" in found
    model.rename(run_folder / "elsewhere")
    assert rows(run(run_folder).stdout)["model"] == "none yet"
    difference = json.loads(run(run_folder / "elsewhere", "--diff", run_folder / "elsewhere", "--json").stdout)
    assert difference["facts"] == {}


def test_differences(model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = HyenaDNA(CONFIG)
    with torch.no_grad():
        other.backbone.ln_f.weight.add_(0.25)
    save_model(other, tmp_path / "other", card=CARD | {"steps": 2000})
    lines = run(model, "--diff", tmp_path / "other").stdout.splitlines()
    assert next(line for line in lines if line.startswith("steps")).split() == ["steps", "1,234", "2,000"]
    assert not any(line.startswith("context") for line in lines)
    assert lines[-1].startswith("tensors: ")
    assert ", 1 different (by up to 0.25)" in lines[-1]
    difference = json.loads(run(model, "--diff", tmp_path / "other", "--json").stdout)
    assert difference["facts"]["steps"] == [1234, 2000]
    assert difference["weights"]["different"] == ["backbone.ln_f.weight"]


def test_control_characters_of_a_card_do_not_reach_the_terminal(tmp_path: Path) -> None:
    save_model(HyenaDNA(CONFIG), tmp_path / "m", card={"source": "\x1b[2Jgone", "notes": ["a\rb"], "\x1b]0;x": 1})
    text = run(tmp_path / "m").stdout
    assert "\x1b" not in text
    assert "\r" not in text
    assert "\\x1b[2Jgone" in text


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "weights.ckpt").write_bytes(b"\x80\x02.")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "weights.ckpt"):
        with pytest.raises(InputError) as caught:
            run(path)
        assert "\n" not in str(caught.value)


def test_without_a_path_the_bundled_models_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyena_dna.model.checkpoint.models_root", lambda: tmp_path)
    assert run().stdout == "no pretrained models come with this installation\n"
    for name in ("tiny", "small"):
        save_model(HyenaDNA(CONFIG), tmp_path / name, card=CARD)
    first, metric, second, _ = run().stdout.splitlines()
    assert first.startswith("small: ")
    assert first.endswith("context 18 tokens, 1 layers of width 8, MIT  (the default of --model)")
    assert metric == "  validation bits per base: 1.9"
    assert second.startswith("tiny: ")
    assert [facts["name"] for facts in json.loads(run("--json").stdout)] == ["small", "tiny"]
    assert run("--diff", "tiny").exit_code == 2
