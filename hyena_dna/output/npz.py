"""Writing .npz archives piece by piece, so that no array need be in memory."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["NpzWriter", "open_npz"]

_EPOCH = (1980, 1, 1, 0, 0, 0)


class NpzWriter(Protocol):
    """Writes one array of an archive."""

    def __call__(self, name: str, dtype: str, shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]) -> None:
        """Write an array.

        Args:
            name: its key.
            dtype: as numpy writes it, such as `<f4`.
            shape: of the whole array.
            pieces: its elements in C order.
        """


@contextlib.contextmanager
def open_npz(path: Path) -> Iterator[NpzWriter]:
    """Open an archive that `numpy.load` reads with `allow_pickle=False`; yields the function that adds arrays.

    The same arrays give the same bytes.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def write(name: str, dtype: str, shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]) -> None:
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
            # A fixed date: the same data give the same bytes.
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as handle:
                handle.write(header.getvalue())
                for piece in pieces:
                    handle.write(np.ascontiguousarray(piece, dtype).data.cast("B") if piece.size else b"")

        yield write
