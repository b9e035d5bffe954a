"""A long-context DNA language model: Hyena instead of attention, from a genome file to answers.

The public names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyena_dna.errors import InputError
    from hyena_dna.genome.interval import Interval
    from hyena_dna.genome.reads import AlignedReads
    from hyena_dna.genome.reference import Reference
    from hyena_dna.genome.variants import Variant
    from hyena_dna.inference.base_likelihood import per_base_likelihood
    from hyena_dna.inference.embedding import embed_sequences
    from hyena_dna.inference.likelihood import log_likelihood
    from hyena_dna.inference.variant_effects import score_variants
    from hyena_dna.model.checkpoint import load_model, save_model
    from hyena_dna.model.config import HyenaConfig
    from hyena_dna.model.model import HyenaDNA
    from hyena_dna.tokenizer import Tokenizer

__all__ = [
    "AlignedReads",
    "HyenaConfig",
    "HyenaDNA",
    "InputError",
    "Interval",
    "Reference",
    "Tokenizer",
    "Variant",
    "__version__",
    "embed_sequences",
    "load_model",
    "log_likelihood",
    "per_base_likelihood",
    "save_model",
    "score_variants",
]

_HOMES = {
    "AlignedReads": "genome.reads",
    "HyenaConfig": "model.config",
    "HyenaDNA": "model.model",
    "InputError": "errors",
    "Interval": "genome.interval",
    "Reference": "genome.reference",
    "Tokenizer": "tokenizer",
    "Variant": "genome.variants",
    "embed_sequences": "inference.embedding",
    "load_model": "model.checkpoint",
    "log_likelihood": "inference.likelihood",
    "per_base_likelihood": "inference.base_likelihood",
    "save_model": "model.checkpoint",
    "score_variants": "inference.variant_effects",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hyena-dna")
    if name not in _HOMES:
        raise AttributeError(f"module 'hyena_dna' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hyena_dna.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
