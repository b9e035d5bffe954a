"""The `config.json` of published HyenaDNA models, to and from `HyenaConfig`.

Two shapes are in use: the official one, with the mixer's settings under `layer`, and the one of the Hugging Face port,
which is flat and has other names. Every option is translated, known to have no effect on a loaded model, or required to
have the one value that this project implements; anything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hyena_dna.errors import InputError
from hyena_dna.model.config import HyenaConfig

__all__ = ["from_hf", "from_official", "is_hf", "is_official", "to_hf", "to_official"]

_COMMON = {name: name for name in ("d_model", "n_layer", "d_inner", "vocab_size", "pad_vocab_size_multiple",
                                   "embed_dropout", "resid_dropout", "layer_norm_epsilon")}  # fmt: skip
_FILTER = {"emb_dim": "filter_emb_dim", "filter_order": "filter_order", "num_inner_mlps": "filter_num_inner_mlps",
           "short_filter_order": "short_filter_length"}  # fmt: skip

OFFICIAL_FIELDS = _COMMON | {"residual_in_fp32": "residual_in_fp32"}
LAYER_FIELDS = _FILTER | {
    "l_max": "max_length", "order": "order", "w": "filter_freq", "shift": "modulation_shift",
    "fast_decay_pct": "modulation_fast_decay", "slow_decay_pct": "modulation_slow_decay",
    "target": "modulation_target",
}  # fmt: skip
HF_FIELDS = _COMMON | _FILTER | {
    "max_seq_len": "max_length", "hyena_order": "order", "activation_freq": "filter_freq",
    "initializer_range": "initializer_range",
}  # fmt: skip
"""Their name to the field of `HyenaConfig`."""

# Where the official code's own default is not the value of every published model.
OFFICIAL_DEFAULTS = {"pad_vocab_size_multiple": 1, "residual_in_fp32": False}
LAYER_DEFAULTS = {"emb_dim": 3, "w": 1.0}

OFFICIAL_REQUIRED: dict[str, Any] = {"attn_layer_idx": None, "attn_cfg": None, "max_position_embeddings": 0}
LAYER_REQUIRED: dict[str, Any] = {
    "_name_": "hyena", "modulate": True, "bidirectional": False, "normalized": False, "dropout": 0, "filter_dropout": 0,
    "bias": True, "use_bias": True, "num_heads": 1, "num_blocks": 1, "inner_factor": 1, "outer_mixing": False,
    "post_order_ffn": False, "linear_mixer": False, "activation": "id", "return_state": False,
    "filter_cls": "hyena-filter",
}  # fmt: skip
HF_REQUIRED: dict[str, Any] = {"model_type": "hyenadna", "bidirectional": False, "hyena_dropout": 0,
                               "hyena_filter_dropout": 0, "use_bias": True}  # fmt: skip
"""The one value that is implemented; absent is right too."""

OFFICIAL_IGNORED = {"layer", "fused_mlp", "fused_dropout_add_ln", "checkpoint_mixer", "checkpoint_mlp",
                    "return_hidden_state", "_name_", "initializer_cfg"}  # fmt: skip
# `local_order` is the length of the short filter in an older code base, not the order of the recurrence.
LAYER_IGNORED = {"local_order", "lr", "wd", "lr_pos_emb", "modulation_lr", "fused_fft_conv", "jit_filter",
                 "fused_bias_fc", "train_freq", "channels", "d_model"}  # fmt: skip
HF_IGNORED = {"architectures", "auto_map", "torch_dtype", "dtype", "transformers_version", "pad_token_id",
              "tie_word_embeddings", "train_freq", "use_cache", "eos_token_id", "bos_token_id", "sep_token_id",
              "problem_type"}  # fmt: skip
"""Options of training or of their software, without effect on what a loaded model computes."""


def is_official(content: Mapping[str, Any]) -> bool:
    """Whether this is the official shape."""
    return isinstance(content.get("layer"), Mapping)


def is_hf(content: Mapping[str, Any]) -> bool:
    """Whether this is the shape of the Hugging Face port."""
    return content.get("model_type") == "hyenadna" or "max_seq_len" in content


def from_official(content: Mapping[str, Any]) -> HyenaConfig:
    """Translate an official configuration; order 2 and shift 0.05 where it does not say.

    Raises:
        InputError: an option is unknown or has a value that is not implemented, or a value is impossible.
    """
    content, layer = OFFICIAL_DEFAULTS | dict(content), LAYER_DEFAULTS | dict(content["layer"])
    values = _translate(content, OFFICIAL_FIELDS, OFFICIAL_REQUIRED, OFFICIAL_IGNORED)
    return _build(values | _translate(layer, LAYER_FIELDS, LAYER_REQUIRED, LAYER_IGNORED))


def from_hf(content: Mapping[str, Any]) -> HyenaConfig:
    """Translate a configuration of the Hugging Face port, whose residual is float32 and whose shift is 0.05.

    Raises:
        InputError: an option is unknown or has a value that is not implemented, or a value is impossible.
    """
    return _build(_translate(content, HF_FIELDS, HF_REQUIRED, HF_IGNORED))


def to_official(config: HyenaConfig) -> dict[str, Any]:
    """The official configuration of a model; options that equal the official code's defaults are left out.

    Raises:
        InputError: the official code cannot express the model.
    """
    _check_expressible(config)
    default = HyenaConfig(d_model=config.d_model, n_layer=config.n_layer, max_length=config.max_length)
    if config.short_filter_length != default.short_filter_length:
        raise InputError(f"the standalone layout always has a short filter of {default.short_filter_length} bp",
                         remedy="use --to hf or --to native")  # fmt: skip
    optional = {"order", "short_filter_order", "num_inner_mlps", "shift", "fast_decay_pct", "slow_decay_pct", "target"}
    layer = {
        theirs: getattr(config, ours)
        for theirs, ours in LAYER_FIELDS.items()
        if theirs not in optional or getattr(config, ours) != getattr(default, ours)
    }
    top = {theirs: getattr(config, ours) for theirs, ours in OFFICIAL_FIELDS.items() if theirs != "layer_norm_epsilon"}
    if config.layer_norm_epsilon != default.layer_norm_epsilon:
        top["layer_norm_epsilon"] = config.layer_norm_epsilon
    software = {"fused_mlp": False, "fused_dropout_add_ln": False, "return_hidden_state": True}
    training = {"modulate": True, "lr": 6e-4, "wd": 0.0, "lr_pos_emb": 0.0}
    return top | software | {"layer": {"_name_": "hyena"} | layer | training}


def to_hf(config: HyenaConfig) -> dict[str, Any]:
    """The configuration of a model for the Hugging Face port.

    Raises:
        InputError: the port cannot express the model: it fixes the window's shift, decay and epsilon of its norms.
    """
    _check_expressible(config)
    default = HyenaConfig(d_model=config.d_model, n_layer=config.n_layer, max_length=config.max_length)
    for field in ("modulation_shift", "modulation_fast_decay", "modulation_slow_decay", "modulation_target",
                  "residual_in_fp32", "layer_norm_epsilon", "resid_dropout"):  # fmt: skip
        if getattr(config, field) != getattr(default, field):
            value, fixed = getattr(config, field), getattr(default, field)
            raise InputError(f"the HF layout has no place for {field} {value}: its code always has {fixed}",
                             remedy="use --to standalone or --to native")  # fmt: skip
    values = {theirs: getattr(config, ours) for theirs, ours in HF_FIELDS.items() if theirs != "resid_dropout"}
    fixed = {"architectures": ["HyenaDNAForCausalLM"], "tie_word_embeddings": False, "train_freq": True,
             "pad_token_id": 4, "torch_dtype": "float32"}  # fmt: skip
    return dict(sorted((HF_REQUIRED | fixed | values).items()))


def _check_expressible(config: HyenaConfig) -> None:
    forms = {
        "an attention mixer": config.mixer != "hyena",
        "a leading convolution": config.leading_conv,
        "filters on octaves": config.filter_waves != "linear",
        "windows with geometric decay rates": config.modulation_rates != "linear",
    }
    for form, has in forms.items():
        if has:
            raise InputError(f"no published layout has {form}", remedy="only --to native can hold this model")


def _translate(
    content: Mapping[str, Any], fields: Mapping[str, str], required: Mapping[str, Any], ignored: set[str]
) -> dict[str, Any]:
    for name, value in content.items():
        if name in required and value != required[name]:
            raise InputError(f"{name}: {value!r} is not supported, only {required[name]!r}")
        if name not in fields and name not in required and name not in ignored and name[:1] != "_":
            raise InputError(f"unknown option {name!r}", remedy="remove it if it does not change what is computed")
    return {ours: content[theirs] for theirs, ours in fields.items() if theirs in content}


def _build(values: dict[str, Any]) -> HyenaConfig:
    try:
        return HyenaConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{place}: {first['msg']}" if place else first["msg"]) from None
