"""Tensor names and settings of every published layout: nothing missing, nothing unused, nothing silently replaced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.errors import InputError
from hyena_dna.model import official_config
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.names import EMBEDDING, LM_HEAD, Layout, check_names, from_native, to_native
from hyena_dna.model.official_config import from_hf, from_official, to_hf, to_official
from hyena_dna.model.tables import check_tables, make_tables

CONFIG = HyenaConfig(d_model=8, n_layer=2, max_length=18, filter_order=8)
FREQUENCY = "backbone.layers.0.mixer.filter_fn.implicit_filter.{}.freq"


def parameters(config: HyenaConfig = CONFIG) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in HyenaDNA(config).named_parameters()}


def shapes(config: HyenaConfig = CONFIG) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in parameters(config).items()}


@pytest.mark.parametrize("layout", ["native", "standalone", "lightning", "hf"])
@pytest.mark.parametrize("tied", [True, False])
def test_there_and_back(layout: Layout, tied: bool) -> None:
    config = CONFIG.model_copy(update={"tie_embeddings": tied})
    ours = parameters(config)
    tables = {} if layout == "native" else make_tables(config)
    theirs = from_native(ours, tables, config, layout)
    back = to_native(theirs)
    assert back.layout == layout
    assert back.tied == tied
    if tied:
        back.parameters.pop(LM_HEAD, None)
    assert set(back.parameters) == set(ours)
    assert all(torch.equal(back.parameters[name], ours[name]) for name in ours)
    assert set(back.tables) == set(tables)
    assert not back.ignored


def test_key_counts_are_the_published_ones() -> None:
    for layers, count in ((2, 59), (4, 115), (8, 227)):
        config = CONFIG.model_copy(update={"n_layer": layers})
        theirs = from_native(parameters(config), make_tables(config), config, "standalone")
        assert len(theirs) == count


@given(st.lists(st.sampled_from(["model.", "module.", "_orig_mod.", "hyena."]), max_size=4), st.booleans())
@settings(max_examples=30, deadline=None)
def test_any_wrapper_and_recomputation_is_seen_through(wrappers: list[str], recomputed: bool) -> None:
    # A loader that goes by one prefix loads nothing for another, and without strictness it says nothing.
    ours = parameters()
    theirs = {}
    for name, value in from_native(ours, {}, CONFIG, "standalone").items():
        inner = name.replace("mixer.", "mixer.layer.").replace("mlp.", "mlp.layer.") if recomputed else name
        theirs["".join(wrappers) + inner] = value
    back = to_native(theirs).parameters
    check_names(back, shapes())
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_the_file_may_hold_one_frequency_or_three_equal_ones() -> None:
    hf = from_native(parameters(), {}, CONFIG, "hf")
    assert "hyena." + FREQUENCY.format(1) in hf
    assert "hyena." + FREQUENCY.format(3) not in hf
    three = from_native(parameters(), {}, CONFIG, "standalone")
    assert [FREQUENCY.format(index) in three for index in range(7)] == [False, True] * 3 + [False]
    check_names(to_native(three).parameters, shapes())
    # The last one to be read would win in a loader that copies them one after the other.
    three[FREQUENCY.format(5)] = three[FREQUENCY.format(5)] * (1 + 1e-6)
    with pytest.raises(InputError, match=r"implicit_filter\.5\.freq differs from another tensor"):
        to_native(three)


def test_counters_are_ignored_and_heads_are_not() -> None:
    found = to_native({**parameters(), "train_torchmetrics.num_tokens.count": torch.tensor(1)})
    assert found.ignored == ["train_torchmetrics.num_tokens.count"]
    # The head of a fine-tuned model: dropping it would silently give the model without its task.
    for head in ("score.weight", "decoder.0.output_transform.weight", "head.output_transform.bias"):
        found = to_native({**parameters(), head: torch.zeros(2, 8)})
        with pytest.raises(InputError, match=f"1 not part of the model: {head}"):
            check_names(found.parameters, shapes())


def test_the_first_mismatches_are_named() -> None:
    wrong = parameters(CONFIG.model_copy(update={"d_model": 16}))
    with pytest.raises(InputError, match=r"d_model 8, 2 layers: 3\d of another shape: .*\(16, 16\) and not \(16, 8\)"):
        check_names(wrong, shapes(), CONFIG)
    less = parameters()
    for name in [name for name in less if ".layers.1." in name]:
        del less[name]
    with pytest.raises(InputError, match=r"23 missing: .*norm1\.weight"):
        check_names(less, shapes())
    with pytest.raises(InputError, match="missing"):
        # What strict=False would accept without a word.
        check_names(to_native({f"x.{name}": value for name, value in parameters().items()}).parameters, shapes())


def test_an_equal_head_is_tied_and_another_is_not() -> None:
    ours = parameters()
    assert to_native(ours).tied
    assert to_native({**ours, LM_HEAD: ours[EMBEDDING].clone()}).tied
    assert not to_native({**ours, LM_HEAD: ours[EMBEDDING] + 1}).tied


def test_tables_are_compared() -> None:
    tables = make_tables(CONFIG)
    check_tables(tables, CONFIG)
    for name in (n.format(0) for n in ("backbone.layers.{}.mixer.filter_fn.pos_emb.z",
                                       "backbone.layers.{}.mixer.filter_fn.modulation.deltas")):  # fmt: skip
        for change in (1e-4, float("nan")):
            with pytest.raises(InputError, match=f"{name} differs from its formula"):
                check_tables(tables | {name: tables[name] + change}, CONFIG)
    with pytest.raises(InputError, match=r"\(1, 18, 5\) and not \(1, 20, 5\)"):
        check_tables(tables, CONFIG.model_copy(update={"max_length": 20}))
    with pytest.raises(InputError, match="no table of this architecture"):
        check_tables({"backbone.layers.7.mixer.filter_fn.pos_emb.z": torch.zeros(1)}, CONFIG)


CONFIGS = [
    CONFIG,
    HyenaConfig(d_model=32, n_layer=2, max_length=258, order=3),
    HyenaConfig(d_model=32, n_layer=1, max_length=258, d_inner=48, filter_num_inner_mlps=1, filter_freq=1.0),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_settings_there_and_back(config: HyenaConfig) -> None:
    assert from_official(to_official(config)) == config
    assert from_hf(to_hf(config)) == config


def test_a_shift_survives_where_the_layout_has_a_place_for_it() -> None:
    config = CONFIG.model_copy(update={"modulation_shift": 0.0})
    assert to_official(config)["layer"]["shift"] == 0.0
    assert from_official(to_official(config)) == config
    # Their code would compute with 0.05 and give other numbers without a word.
    with pytest.raises(InputError, match=r"no place for modulation_shift 0\.0"):
        to_hf(config)


OFFICIAL: dict[str, Any] = {
    "d_model": 128, "n_layer": 2, "d_inner": 512, "vocab_size": 12, "resid_dropout": 0.0, "embed_dropout": 0.1,
    "fused_mlp": False, "fused_dropout_add_ln": True, "checkpoint_mixer": True, "checkpoint_mlp": True,
    "residual_in_fp32": True, "pad_vocab_size_multiple": 8, "return_hidden_state": True,
    "layer": {"_name_": "hyena", "emb_dim": 5, "filter_order": 64, "local_order": 3, "l_max": 1026, "modulate": True,
              "w": 10, "lr": 6e-4, "wd": 0.0, "lr_pos_emb": 0.0},
}  # fmt: skip
HF: dict[str, Any] = {
    "_name_or_path": "x", "activation_freq": 10, "architectures": ["HyenaDNAForCausalLM"], "auto_map": {},
    "bidirectional": False, "d_inner": 512, "d_model": 128, "emb_dim": 5, "embed_dropout": 0.1, "filter_order": 64,
    "hyena_dropout": 0.0, "hyena_filter_dropout": 0.0, "hyena_order": 2, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05, "max_seq_len": 1026, "model_type": "hyenadna", "n_layer": 2, "num_inner_mlps": 2,
    "pad_token_id": 4, "pad_vocab_size_multiple": 8, "short_filter_order": 3, "tie_word_embeddings": False,
    "torch_dtype": "float32", "train_freq": True, "transformers_version": "4.35.0.dev0", "use_bias": True,
    "vocab_size": 12,
}  # fmt: skip


def test_both_published_shapes_are_the_tiny_model() -> None:
    wanted = HyenaConfig(d_model=128, n_layer=2, max_length=1026)
    # `local_order: 3` is the short filter of an older code base, not order 3.
    assert from_official(OFFICIAL) == from_hf(HF) == wanted
    assert official_config.is_official(OFFICIAL)
    assert official_config.is_hf(HF)


@pytest.mark.parametrize(("option", "value"), [("bidirectional", True), ("hyena_dropout", 0.1), ("use_bias", False),
                                               ("attention_window", 3)])  # fmt: skip
def test_unsupported_options_of_the_port_are_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(InputError, match=option):
        from_hf(HF | {option: value})


@pytest.mark.parametrize(("option", "value"), [("bidirectional", True), ("normalized", True), ("modulate", False),
                                               ("num_heads", 2), ("_name_", "mha"), ("postorder", 1)])  # fmt: skip
def test_unsupported_options_of_a_layer_are_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(InputError, match=option):
        from_official(OFFICIAL | {"layer": OFFICIAL["layer"] | {option: value}})


def test_impossible_settings_are_one_line() -> None:
    for change in ({"d_model": -1}, {"d_model": "wide"}, {"attn_layer_idx": [1]}, {"n_layer": None}):
        with pytest.raises(InputError) as caught:
            from_official(OFFICIAL | change)
        assert "\n" not in str(caught.value)


def test_what_no_layout_can_express_is_refused() -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"mixer": "attention"},
        {"leading_conv": True},
        {"filter_waves": "octaves"},
        {"modulation_rates": "geometric"},
    )
    for change in changes:
        for export in (to_hf, to_official):
            with pytest.raises(InputError, match="no published layout"):
                export(HyenaConfig(d_model=8, n_layer=1, max_length=18, **change))
    with pytest.raises(InputError, match="short filter"):
        to_official(HyenaConfig(d_model=8, n_layer=1, max_length=18, short_filter_length=5))
