"""A table of results: rows for people, numbers for programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hyena_dna.errors import InputError

__all__ = ["Table", "data_file"]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it shows.
        columns: names of the columns.
        rows: the cells.
        numbers: every measured number by a name that says what it is.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str | float, ...]] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)

    def markdown(self) -> str:
        """The table in Markdown, numbers with four digits after the point."""
        lines = [self.columns, ("---",) * len(self.columns), *(tuple(map(_text, row)) for row in self.rows)]
        return "\n".join([f"**{self.title}**", "", *("| " + " | ".join(line) + " |" for line in lines)])


def data_file(folder: str | os.PathLike[str], names: Sequence[str]) -> str:
    """The first of several places in a data folder where a file may lie.

    Raises:
        InputError: it is at none of them.
    """
    for name in names:
        if (Path(folder) / name).is_file():
            return str(Path(folder) / name)
    raise InputError(f"holds no {' or '.join(names)}", file=folder, remedy="data/README.md says where to get the data")


def _text(cell: str | float) -> str:
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
