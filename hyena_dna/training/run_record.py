"""`run.json`: what ran, on what, from what, and what came out."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hyena_dna.errors import InputError
from hyena_dna.files import atomic_open

__all__ = ["now", "piece", "read_record", "start_record", "versions", "write_record"]

_FORMAT = "hyena-dna run 1"
_PACKAGES = ("hyena-dna", "torch", "lightning", "numpy", "pysam", "pyfaidx")


def now() -> str:
    """The time, as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        # A plain checkout runs without being installed.
        return "not installed"


def start_record(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run that begins: its command, its environment, and the given facts about it."""
    return {
        "format": _FORMAT,
        "name": name,
        "status": "running",
        "command": ["hyena-dna", *sys.argv[1:]],
        "folder": os.getcwd(),
        "started": now(),
        "ended": None,
        "host": platform.node(),
        "versions": versions(),
        "step": 0,
        "tokens": 0,
        "seconds": {"training": 0.0, "validation": 0.0, "markov": 0.0},
        "peak_memory_bytes": {},
        "pieces": [],
        "result": None,
        **facts,
    }


def read_record(path: Path) -> dict[str, Any]:
    """Read `run.json`.

    Raises:
        InputError: it is not one of this version.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"not the record of a run: {error}", file=path) from None
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise InputError("not the record of a run of this version", file=path)
    return record


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write `run.json` atomically."""
    with atomic_open(path, "w") as handle:
        json.dump(record, handle, indent=2)
        handle.write("\n")


def piece(from_step: int) -> dict[str, Any]:
    """The record of one uninterrupted piece of a run."""
    return {"started": now(), "ended": None, "from_step": from_step, "to_step": from_step, "host": platform.node()}
