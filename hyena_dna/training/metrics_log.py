"""Tables that grow by rows and can be cut back to a checkpoint, so that a resumed run writes the same bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hyena_dna.errors import InputError

__all__ = ["METRIC_COLUMNS", "SPEED_COLUMNS", "CsvLog", "genome_column"]

METRIC_COLUMNS = (
    "step",
    "tokens",
    "window",
    "loss",
    "lr",
    "grad_norm",
    "val_loss",
    "val_perplexity",
    "val_bits_per_base",
)
"""Columns of metrics.csv: what the same seed, configuration and data give again. Losses are in nats per token."""

SPEED_COLUMNS = ("step", "tokens", "seconds", "tokens_per_s")
"""Columns of speed.csv: what differs from run to run, kept apart so that metrics.csv can be compared byte by byte."""


def genome_column(name: str) -> str:
    """The column of metrics.csv with the validation bits per base of one genome of several."""
    return "val_bits_per_base_" + re.sub(r"[^0-9A-Za-z_.-]", "_", name)


class CsvLog:
    """Append rows to a CSV file.

    Args:
        path: the file.
        columns: names of the columns, the header of a new file.
        offset: bytes of an existing file to keep; what follows them is cut off. None starts a new file.

    Raises:
        InputError: the existing file is shorter than `offset`, or cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, offset: int | None = None) -> None:
        self._path = path
        self._columns = tuple(columns)
        # Unbuffered: the position of the file is the number of bytes that have been handed over.
        try:
            self._handle = open(path, "wb" if offset is None else "r+b", buffering=0)  # noqa: SIM115 - stays open
            if offset is None:
                self._append(",".join(columns))
            else:
                if self._handle.seek(0, os.SEEK_END) < offset:
                    raise InputError(f"shorter than the {offset} bytes that the checkpoint remembers", file=path)
                self._handle.truncate(offset)
                self._handle.seek(offset)
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", file=path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def write(self, row: Mapping[str, int | float]) -> None:
        """Append one row; columns that are not given stay empty, floats keep nine digits."""
        unknown = set(row) - set(self._columns)
        assert not unknown, f"no such columns: {unknown}"
        self._append(",".join(_format(row.get(column)) for column in self._columns))

    def sync(self) -> int:
        """Make the rows so far survive a crash of the machine; returns the size of the file in bytes."""
        os.fsync(self._handle.fileno())
        return self._handle.tell()

    def close(self) -> None:
        """Close the file."""
        self._handle.close()

    def _append(self, line: str) -> None:
        try:
            self._handle.write(line.encode("ascii") + b"\n")
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", file=self._path) from error


def _format(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.9g}"
