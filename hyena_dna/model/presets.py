"""The published HyenaDNA models by name: their dimensions, not their weights."""

from __future__ import annotations

from hyena_dna.config import nearest
from hyena_dna.errors import InputError
from hyena_dna.model.config import HyenaConfig

__all__ = ["PRESETS", "PUBLISHED_NAMES", "is_published_name", "preset"]

PRESETS: dict[str, HyenaConfig] = {
    "tiny-1k": HyenaConfig(d_model=128, n_layer=2, max_length=1_026),
    "tiny-1k-d256": HyenaConfig(d_model=256, n_layer=2, max_length=1_026),
    "tiny-16k": HyenaConfig(d_model=128, n_layer=2, max_length=16_386),
    "small-32k": HyenaConfig(d_model=256, n_layer=4, max_length=32_770),
    "medium-160k": HyenaConfig(d_model=256, n_layer=8, max_length=160_002),
    "medium-450k": HyenaConfig(d_model=256, n_layer=8, max_length=450_002),
    "large-1m": HyenaConfig(d_model=256, n_layer=8, max_length=1_000_002),
}
"""Architecture of every published model; `max_length` counts two special tokens, as published."""

PUBLISHED_NAMES: dict[str, str] = {
    "hyenadna-tiny-1k-seqlen": "tiny-1k",
    "hyenadna-tiny-1k-seqlen-d256": "tiny-1k-d256",
    "hyenadna-tiny-16k-seqlen-d128": "tiny-16k",
    "hyenadna-small-32k-seqlen": "small-32k",
    "hyenadna-medium-160k-seqlen": "medium-160k",
    "hyenadna-medium-450k-seqlen": "medium-450k",
    "hyenadna-large-1m-seqlen": "large-1m",
}
"""Name on the Hugging Face hub, without owner and without `-hf`, to preset."""


def preset(name: str) -> HyenaConfig:
    """The architecture of a published model.

    Args:
        name: a key of `PRESETS`, or a published name with or without `LongSafari/` and `-hf`.

    Raises:
        InputError: no model has that name; gives the nearest one.
    """
    short = _published_stem(name)
    config = PRESETS.get(PUBLISHED_NAMES.get(short, short))
    if config is None:
        raise InputError(
            f"there is no preset {name!r}",
            remedy=nearest(short, [*PRESETS, *PUBLISHED_NAMES]) or f"one of {', '.join(PRESETS)}",
        )
    return config


def is_published_name(name: str) -> bool:
    """Whether this is the name under which weights were published, such as `LongSafari/hyenadna-tiny-1k-seqlen-hf`."""
    return _published_stem(name) in PUBLISHED_NAMES


def _published_stem(name: str) -> str:
    return name.removeprefix("LongSafari/").removesuffix("-hf")
