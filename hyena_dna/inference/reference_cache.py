"""Keeps the most recent reference passes within a budget of memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from hyena_dna.inference.reference_pass import ReferenceTail, Stretch

__all__ = ["Key", "ReferenceCache"]

Key = tuple[str, int, str]
"""What identifies a reference window: contig, start, strand."""


class ReferenceCache:
    """Passes over reference windows, the least recently used forgotten first.

    Args:
        limit: memory to keep, in bytes; the pass kept last always stays.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._passes: OrderedDict[int, tuple[ReferenceTail, dict[Key, int]]] = OrderedDict()
        self._homes: dict[Key, int] = {}
        self._made = 0

    def find(self, needed: Mapping[Key, Stretch]) -> tuple[list[tuple[ReferenceTail, dict[Key, int]]], list[Key]]:
        """The passes that hold what is needed, each with the rows of the keys asked of it, and the keys in none.

        Args:
            needed: positions wanted of each window.
        """
        found: dict[int, dict[Key, int]] = {}
        missing = []
        for key, stretch in needed.items():
            number = self._homes.get(key)
            if number is not None:
                passes, rows = self._passes[number]
                if passes.stretch.start <= stretch.start and stretch.end <= passes.stretch.end:
                    found.setdefault(number, {})[key] = rows[key]
                    continue
            missing.append(key)
        for number in found:
            self._passes.move_to_end(number)
        return [(self._passes[number][0], rows) for number, rows in found.items()], missing

    def keep(self, passes: ReferenceTail, keys: Sequence[Key]) -> None:
        """Keep a pass whose rows are these windows."""
        self._made += 1
        for key in keys:
            self._homes[key] = self._made
        self._passes[self._made] = passes, {key: row for row, key in enumerate(keys)}
        while len(self._passes) > 1 and sum(one.nbytes for one, _ in self._passes.values()) > self._limit:
            number, (_, rows) = self._passes.popitem(last=False)
            for key in rows:
                if self._homes[key] == number:
                    del self._homes[key]
