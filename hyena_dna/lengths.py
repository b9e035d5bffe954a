"""Lengths as people write them."""

from __future__ import annotations

import re

from hyena_dna.errors import InputError

__all__ = ["parse_length"]

_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(|k|kb|kbp|m|mb|mbp|g|gb|gbp|bp)", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def parse_length(text: str | int) -> int:
    """Read a length in base pairs: `1024`, `32k`, `1.5kb`, `1M`; decimal units, as base pairs are counted.

    Raises:
        InputError: not a length, or not a whole number of base pairs.
    """
    match = _LENGTH.fullmatch(str(text).strip())
    if match is None:
        raise InputError(f"{str(text)!r} is not a length", remedy="write base pairs such as 1024, 32k or 1M")
    number, unit = match.groups()
    length = float(number) * _UNITS[unit[:1].lower()]
    if not length.is_integer():
        raise InputError(f"{str(text)!r} is not a whole number of base pairs")
    return int(length)
