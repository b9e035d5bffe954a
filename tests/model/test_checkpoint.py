"""Model directories: what is saved is what is loaded, and golden numbers of the official code through `load_model`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from hyena_dna import paths
from hyena_dna.errors import InputError
from hyena_dna.model import checkpoint
from hyena_dna.model.checkpoint import bundled_models, find_model, load_model, parameters_digest, read_model, save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.convert import export_model
from hyena_dna.model.embedding_defaults import EmbeddingDefaults
from hyena_dna.model.model import HyenaDNA

CONFIG = HyenaConfig(d_model=8, n_layer=2, max_length=18, filter_order=8)
GOLDEN = ("standalone", "hf", "order3", "lightning")
TOLERANCE = 2e-4


def model(**changes: Any) -> HyenaDNA:
    return HyenaDNA(CONFIG.model_copy(update=changes)).eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(model(), tmp_path / "model", card={"data": ["hg38.fa"], "steps": 7, "metrics": {"bits per base": 1.9}})
    return tmp_path / "model"


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_numbers(name: str, shared_golden: Path) -> None:
    loaded = load_model(shared_golden / name)
    expected = np.load(shared_golden / name / "expected.npz", allow_pickle=False)
    cases = sorted(key.removeprefix("ids_") for key in expected.files if key.startswith("ids_"))
    assert cases
    for case in cases:
        with torch.inference_mode():
            out = loaded(torch.from_numpy(expected[f"ids_{case}"]), output_residuals=True)
        assert out.residuals is not None
        assert len(out.residuals) == loaded.config.n_layer
        found = {f"residual_{case}_block{index}": value for index, value in enumerate(out.residuals)}
        for key, value in {**found, f"logits_{case}": out.logits, f"hidden_{case}": out.hidden}.items():
            assert np.abs(value.numpy() - expected[key]).max() <= TOLERANCE, key


def test_golden_numbers_depend_on_the_shift(shared_golden: Path) -> None:
    # The value that no checkpoint stores: with the other one the model loads without complaint and is another model.
    expected = np.load(shared_golden / "standalone" / "expected.npz", allow_pickle=False)
    other = read_model(shared_golden / "standalone", shift=0.0).model
    with torch.inference_mode():
        logits = other(torch.from_numpy(expected["ids_2"])).logits
    assert np.abs(logits.numpy() - expected["logits_2"]).max() > 100 * TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_embeddings": False},
        {"mixer": "attention", "num_heads": 2},
        {"leading_conv": True, "order": 1},
        {"order": 3, "modulation_shift": 0.0},
    ],
)
def test_what_is_saved_is_loaded(changes: dict[str, Any], tmp_path: Path) -> None:
    original = model(**changes)
    with torch.no_grad():
        if changes.get("tie_embeddings") is False:
            # Equal by chance is not tied.
            original.lm_head.weight.copy_(original.backbone.embeddings.word_embeddings.weight)
    save_model(original, tmp_path / "m")
    assert {path.name for path in (tmp_path / "m").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "README.md"
    }  # fmt: skip
    loaded = load_model(tmp_path / "m")
    assert loaded.config == original.config
    assert not loaded.training
    assert parameters_digest(loaded) == parameters_digest(original)
    ids = torch.randint(7, 11, (2, 17))
    with torch.inference_mode():
        assert torch.equal(loaded(ids).logits, original(ids).logits)


def test_only_parameters_are_stored(saved: Path) -> None:
    stored = safetensors.torch.load_file(saved / "model.safetensors")
    assert set(stored) == {name for name, _ in model().named_parameters()}


def test_equal_models_give_equal_files(tmp_path: Path) -> None:
    same = model()
    for name in ("a", "b"):
        save_model(same, tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_half_precision_for_shipping(tmp_path: Path) -> None:
    original = HyenaDNA(HyenaConfig(d_model=64, n_layer=1, max_length=18)).eval()
    save_model(original, tmp_path / "full")
    save_model(original, tmp_path / "half", dtype=torch.float16)
    half = load_model(tmp_path / "half")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    for (name, found), wanted in zip(half.named_parameters(), original.parameters(), strict=True):
        assert found.dtype == torch.float32
        kept = "filter_fn" in name
        assert torch.equal(found, wanted if kept else wanted.detach().half().float()), name
    # A weight beyond float16's range would become infinite in silence.
    with torch.no_grad():
        original.backbone.ln_f.weight[0] = 1e6
    with pytest.raises(InputError, match=r"ln_f\.weight holds NaN or infinity"):
        save_model(original, tmp_path / "overflow", dtype=torch.float16)
    assert not (tmp_path / "overflow").exists()
    with pytest.raises(InputError, match="float32 or float16"):
        save_model(original, tmp_path / "other", dtype=torch.float64)


def test_dtype_and_device(saved: Path) -> None:
    loaded = load_model(saved, dtype=torch.float64, device=torch.device("cpu"))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float64}


def test_loading_leaves_the_random_state_alone(saved: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    load_model(saved)
    assert torch.equal(torch.rand(3), wanted)


def test_the_card_is_kept_and_readable(saved: Path) -> None:
    card = read_model(saved).card
    assert (card.data, card.steps, card.metrics, card.licence) == (["hg38.fa"], 7, {"bits per base": 1.9}, None)
    text = (saved / "README.md").read_text()
    for part in ("| data | hg38.fa |", "| steps | 7 |", "| bits per base | 1.9 |", "| licence | unknown |"):
        assert part in text


def test_an_existing_directory_needs_force(saved: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        save_model(model(), saved)
    other = model()
    save_model(other, saved, force=True)
    assert parameters_digest(load_model(saved)) == parameters_digest(other)


def test_force_never_replaces_something_else(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="no model directory"):
        save_model(model(), tmp_path / "home", force=True)
    assert (tmp_path / "home" / "thesis.txt").exists()


def test_where_models_are_found(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = saved / "model.safetensors"
    assert find_model(saved) == find_model(str(weights)) == weights
    # A run directory has its model in a folder.
    assert find_model(tmp_path) == weights
    monkeypatch.setattr(checkpoint, "models_root", lambda: tmp_path)
    assert find_model("model") == weights
    with pytest.raises(InputError, match=r"no such file, directory or model: modle.*did you mean 'model'"):
        find_model("modle")
    with pytest.raises(InputError, match=r"weights do not come with this package.*hf:LongSafari"):
        find_model("hyenadna-tiny-1k-seqlen")


def test_without_bundled_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checkpoint, "models_root", lambda: tmp_path / "absent")
    assert paths.models_root() != tmp_path / "absent"
    with pytest.raises(InputError, match="no such file"):
        find_model("anything")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "not valid JSON"),
        ("config.json", "[1]", "not the configuration of a model"),
        ("config.json", "[" * 100_000, "not valid JSON"),
        ("config.json", " " * (2 << 20), "not the configuration"),
        ("config.json", '{"model_type": "bert"}', "not the configuration of a HyenaDNA model"),
        ("config.json", '{"format": "hyena-dna", "format_version": 9}', "version 9 is unknown"),
        ("config.json", '{"format": "hyena-dna", "format_version": 1, "model": {"d_modle": 1}}', "d_model"),
        ("config.json", None, "holds no model"),
        ("model.safetensors", None, "holds no model"),
        ("model.safetensors", "", "not a complete checkpoint"),
        ("tokenizer.json", "{}", "tokenizer"),
        ("tokenizer.json", None, "cannot be read"),
    ],
)
def test_bad_model_directories(file: str, content: str | None, message: str, saved: Path) -> None:
    if content is None:
        (saved / file).unlink()
    else:
        (saved / file).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


def test_another_vocabulary_is_refused(saved: Path) -> None:
    # With A and T exchanged every number would be wrong, and nothing would say so.
    vocab = json.loads((saved / "tokenizer.json").read_text())["vocab"]
    vocab[7], vocab[10] = vocab[10], vocab[7]
    edit(saved / "tokenizer.json", vocab=vocab)
    with pytest.raises(InputError, match="another vocabulary"):
        load_model(saved)


def test_another_architecture_is_refused(saved: Path) -> None:
    edit(saved / "config.json", model=CONFIG.model_copy(update={"n_layer": 3}).model_dump())
    with pytest.raises(InputError, match=r"3 layers: 23 missing: backbone\.layers\.2"):
        load_model(saved)


def test_weights_without_or_with_other_checksums_are_refused(saved: Path) -> None:
    path = saved / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(InputError, match="no checksums"):
        load_model(saved)
    for metadata in ("{}", "[", '{"sha256": {}}', '{"sha256": 1}'):
        safetensors.torch.save_file(tensors, path, metadata={"hyena-dna": metadata})
        with pytest.raises(InputError, match="checksums"):
            load_model(saved)


def test_a_weights_file_needs_its_configuration(saved: Path, tmp_path: Path) -> None:
    shutil.copy(saved / "model.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(InputError, match=r"needs its config\.json"):
        load_model(tmp_path / "alone.safetensors")


def test_the_wrong_length_is_found_by_the_tables(tmp_path: Path) -> None:
    # Filters are functions of position / max_length: 1,024 for 1,026 would load and be slightly wrong everywhere.
    export_model(model(), tmp_path / "hf", layout="hf")
    edit(tmp_path / "hf" / "config.json", max_seq_len=16)
    with pytest.raises(InputError, match=r"pos_emb\.. is \(1, 18, \d\) and not \(1, 16, \d\)"):
        load_model(tmp_path / "hf")


def test_double_precision_is_rounded_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export_model(model(), tmp_path / "hf", layout="hf")
    path = tmp_path / "hf" / "model.safetensors"
    tensors = {name: value.double() for name, value in safetensors.torch.load_file(path).items()}
    safetensors.torch.save_file(tensors, path)
    load_model(tmp_path / "hf")
    assert "float64 tensors are rounded" in caplog.text


def test_a_known_shift_is_not_overruled(saved: Path) -> None:
    with pytest.raises(InputError, match=r"known to be 0\.05"):
        read_model(saved, shift=0.0)
    assert read_model(saved, shift=0.05).model.config.modulation_shift == 0.05


def test_the_embedding_section_is_kept_and_checked(tmp_path: Path) -> None:
    wanted = EmbeddingDefaults(layer="1", pool="max", strands="concat")
    save_model(model(), tmp_path / "m", embedding=wanted)
    assert read_model(tmp_path / "m").embedding == wanted
    path = tmp_path / "m" / "config.json"
    path.write_text(path.read_text().replace('"concat"', '"both"'))
    with pytest.raises(InputError, match=r"embedding\.strands") as caught:
        read_model(tmp_path / "m")
    assert str(caught.value.file).endswith("config.json")


def test_bundled_models_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "not-a-model").mkdir()
    save_model(model(), tmp_path / "tiny")
    monkeypatch.setattr("hyena_dna.model.checkpoint.models_root", lambda: tmp_path)
    assert bundled_models() == ["tiny"]
    assert parameters_digest(load_model("tiny")) == parameters_digest(load_model(tmp_path / "tiny"))
    with pytest.raises(InputError, match="small") as caught:
        load_model("small")
    assert caught.value.remedy == "bundled models: tiny"
