"""Conversion between layouts is exact in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import safetensors.torch
import torch

from hyena_dna.errors import InputError
from hyena_dna.genome.reference import Reference
from hyena_dna.model import names
from hyena_dna.model.checkpoint import load_model, parameters_digest, read_model, save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.convert import Target, convert, export_model
from hyena_dna.model.describe import compare_weights, describe_model
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.official_config import from_hf, from_official
from hyena_dna.model.shift_probe import probe_shift
from hyena_dna.model.tables import TOLERANCE, make_tables
from hyena_dna.model.weights import read_weights
from hyena_dna.tokenizer import BASE_IDS

CONFIG = HyenaConfig(d_model=8, n_layer=2, max_length=66, filter_order=8)


@pytest.mark.parametrize(("name", "layout", "file"), [
    ("standalone", "standalone", "model.safetensors"), ("order3", "standalone", "model.safetensors"),
    ("hf", "hf", "model.safetensors"), ("lightning", "lightning", "weights.ckpt"),
])  # fmt: skip
def test_golden_files_come_back_bit_for_bit(
    name: str, layout: names.Layout, file: str, shared_golden: Path, tmp_path: Path
) -> None:
    source = shared_golden / name
    convert(read_model(source), str(source), tmp_path / "ours")
    native = read_model(tmp_path / "ours")
    original = read_weights(source / file).tensors
    if layout == "lightning":
        # A pickle is never written; the names are those of the file.
        parameters = dict(native.model.named_parameters())
        back = names.from_native(parameters, make_tables(native.model.config), native.model.config, layout)
        dropped = {"train_torchmetrics.num_tokens.count"}
    else:
        convert(native, str(tmp_path / "ours"), tmp_path / "back", to=layout)
        back = safetensors.torch.load_file(tmp_path / "back" / "model.safetensors")
        read = from_hf if layout == "hf" else from_official
        configs = [json.loads((folder / "config.json").read_text()) for folder in (source, tmp_path / "back")]
        assert read(configs[0]) == read(configs[1])
        dropped = set()
    assert set(original) - set(back) == dropped
    assert set(back) <= set(original)
    for key, value in back.items():
        wanted = original[key]
        assert value.shape == wanted.shape
        assert value.dtype == wanted.dtype
        if key.endswith((".z", ".t", ".deltas")):
            assert float((value - wanted).abs().max() / wanted.abs().max()) <= TOLERANCE, key
        else:
            assert torch.equal(value, wanted), key


@pytest.mark.parametrize("to", ["native", "hf", "standalone"])
@pytest.mark.parametrize("order", [2, 3])
def test_every_target_loads_as_the_same_model(to: Target, order: int, tmp_path: Path) -> None:
    original = HyenaDNA(CONFIG.model_copy(update={"order": order})).eval()
    save_model(original, tmp_path / "a")
    result = convert(read_model(tmp_path / "a"), "a", tmp_path / "b", to=to)
    loaded = load_model(tmp_path / "b")
    assert loaded.config == original.config
    assert parameters_digest(loaded) == parameters_digest(original)
    assert result.layout == to
    assert result.bytes_after == (tmp_path / "b" / "model.safetensors").stat().st_size


def test_an_untied_head_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    original = HyenaDNA(CONFIG.model_copy(update={"tie_embeddings": False})).eval()
    export_model(original, tmp_path / "hf", layout="hf")
    with caplog.at_level("INFO", logger="hyena_dna"):
        loaded = load_model(tmp_path / "hf")
    assert not loaded.config.tie_embeddings
    assert "LM head differs from the embeddings" in caplog.text
    assert torch.equal(loaded.lm_head.weight, original.lm_head.weight)
    with pytest.raises(InputError, match="no LM head of its own"):
        export_model(original, tmp_path / "standalone", layout="standalone")


def test_tables_are_the_size_of_published_files(tmp_path: Path) -> None:
    # Published tiny-1k: parameters, a separate LM head and tables, all float32; ours: parameters alone.
    config = HyenaConfig(d_model=128, n_layer=2, max_length=1026)
    export_model(HyenaDNA(config), tmp_path / "hf", layout="hf")
    result = convert(read_model(tmp_path / "hf"), "LongSafari/hyenadna-tiny-1k-seqlen-hf", tmp_path / "ours")
    assert 0 <= result.bytes_before - 4 * (438_144 + 12_568) < 10_000
    assert 0 <= result.bytes_after - 4 * 436_096 < 20_000
    assert (result.tables, result.parameters, result.source_layout) == (6, 436_096, "hf")
    assert load_model(tmp_path / "ours").config == config


@pytest.mark.parametrize(("source", "licence"), [
    ("hf:LongSafari/hyenadna-tiny-1k-seqlen-hf@main", "BSD-3-Clause"), ("x/hyenadna-large-1m-seqlen", "BSD-3-Clause"),
    ("runs/mine", None),
])  # fmt: skip
def test_the_licence_is_recorded_where_the_name_tells(source: str, licence: str | None, tmp_path: Path) -> None:
    export_model(HyenaDNA(CONFIG), tmp_path / "hf", layout="hf")
    convert(read_model(tmp_path / "hf"), source, tmp_path / "ours")
    card = read_model(tmp_path / "ours").card
    assert (card.licence, card.source) == (licence, source)
    assert "not stored in the file" in card.notes[0]
    text = (tmp_path / "ours" / "README.md").read_text()
    assert ("license: bsd-3-clause" in text) == bool(licence)


def test_the_shift_is_recorded(tmp_path: Path) -> None:
    export_model(HyenaDNA(CONFIG), tmp_path / "hf", layout="hf")
    convert(read_model(tmp_path / "hf", shift=0.0), "x", tmp_path / "ours")
    assert load_model(tmp_path / "ours").config.modulation_shift == 0.0


def test_hf_files_say_what_their_loader_insists_on(tmp_path: Path) -> None:
    export_model(HyenaDNA(CONFIG), tmp_path / "hf", layout="hf")
    with safetensors.safe_open(tmp_path / "hf" / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert "lm_head.weight" in file.keys()  # noqa: SIM118 - not a mapping


@pytest.mark.parametrize("truth", [0.0, 0.05])
def test_the_probe_finds_the_shift_of_the_model_that_wrote_the_dna(truth: float, tmp_path: Path) -> None:
    # Sequences drawn from a model are likelier under it than under its twin, whatever shift the twin's file says.
    config = CONFIG.model_copy(update={"tie_embeddings": False, "modulation_shift": truth})
    torch.manual_seed(0)
    model = HyenaDNA(config).eval()
    bases = torch.tensor(BASE_IDS)
    ids = torch.full((24, 66), BASE_IDS[0])
    with torch.inference_mode():
        model.lm_head.weight.zero_()
        model.lm_head.weight[bases] = torch.randn(4, 8)
        # The other tokens get no probability worth the name, so that drawing bases is drawing from the model.
        model.backbone.ln_f.weight[0], model.backbone.ln_f.bias[0] = 0.0, 1.0
        model.lm_head.weight[bases, 0] = 30.0
        # Mixers and filters so strong that their window matters.
        for name, parameter in model.named_parameters():
            if name.endswith(("in_proj.weight", "out_proj.weight", "implicit_filter.6.weight")):
                parameter.mul_(30)
        for position in range(1, 66):
            weights = model(ids[:, :position]).logits[:, -1, bases].exp()
            ids[:, position] = bases[torch.multinomial(weights, 1)[:, 0]]
    path = tmp_path / "genome.fa"
    sequences = [model.tokenizer.decode(row) for row in ids.tolist()]
    path.write_text(f">n\n{'N' * 66}\n" + "".join(f">{index}\n{row}\n" for index, row in enumerate(sequences)))
    twin = HyenaDNA(config.model_copy(update={"modulation_shift": 0.05 - truth})).eval()
    twin.load_state_dict(model.state_dict())
    with Reference(path) as reference:
        scores = probe_shift(twin, reference)
    assert [score.shift for score in scores] == [0.05, 0.0]
    assert min(scores, key=lambda score: score.bits_per_base).shift == truth
    assert twin.config.modulation_shift == 0.05 - truth


def test_the_probe_needs_bases(tmp_path: Path) -> None:
    path = tmp_path / "n.fa"
    path.write_text(f">n\n{'N' * 200}\n")
    with Reference(path) as reference, pytest.raises(InputError, match="fewer than 5 % N"):
        probe_shift(HyenaDNA(CONFIG).eval(), reference)


@pytest.mark.parametrize("layout", ["hf", "native"])
def test_a_model_is_described(layout: Literal["hf", "native"], tmp_path: Path) -> None:
    model = HyenaDNA(CONFIG)
    if layout == "hf":
        export_model(model, tmp_path / "m", layout="hf")
    else:
        save_model(model, tmp_path / "m", card={"steps": 3, "held out": "chrV"})
    facts = describe_model(read_model(tmp_path / "m"))
    assert facts["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert facts["context"] == 66
    assert facts["modulation_shift"] == 0.05
    assert facts["shift_stored"] == facts["checksums_verified"] == (layout == "native")
    assert facts["weights_sha256"] == parameters_digest(model)
    assert facts.get("tables_verified") == (6 if layout == "hf" else None)
    assert facts.get("held out") == (None if layout == "hf" else "chrV")
    json.dumps(facts)


def test_models_are_compared(tmp_path: Path) -> None:
    made: dict[str, Any] = {}
    one = HyenaDNA(CONFIG)
    save_model(one, tmp_path / "one")
    with torch.no_grad():
        one.backbone.ln_f.bias[0] += 0.5
    save_model(one, tmp_path / "two")
    save_model(HyenaDNA(CONFIG.model_copy(update={"n_layer": 1, "d_inner": 16})), tmp_path / "three")
    made = {name: read_model(tmp_path / name) for name in ("one", "two", "three")}
    near = compare_weights(made["one"], made["two"])
    assert near["different"] == ["backbone.ln_f.bias"]
    assert near["largest_difference"] == 0.5
    far = compare_weights(made["one"], made["three"])
    assert len(far["only_in_one"]) == 23
    assert far["only_in_other"] == []
    assert far["other_shape"] == [f"backbone.layers.0.mlp.{name}" for name in ("fc1.weight", "fc1.bias", "fc2.weight")]
