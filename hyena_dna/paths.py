"""Where the project's own files are, in a wheel, an editable install and a plain checkout alike."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_root", "config_root", "models_root"]

_PACKAGE = Path(__file__).resolve().parent


def _shipped(inside: str, beside: str) -> Path:
    # A wheel carries these folders inside the package; a checkout and an editable install have them beside it.
    packaged = _PACKAGE / inside
    return packaged if packaged.is_dir() else _PACKAGE.parent / beside


def config_root() -> Path:
    """The folder of the shipped run configurations (`pretrain/tiny-1k.yaml` and so on)."""
    return _shipped("configs", "configs")


def models_root() -> Path:
    """The folder of the bundled pretrained models."""
    return _shipped("models", "data/models")


def cache_root() -> Path:
    """The user's folder for indexes and token stores: `$XDG_CACHE_HOME/hyena-dna`, by default under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative value is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "hyena-dna"
