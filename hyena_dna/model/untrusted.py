"""Reads torch checkpoint files of unknown origin without running anything in them.

The archive is checked as a zip and its pickle as data (`pickled`) before torch sees the file: record names, sizes,
checksums, declared shapes. Then `torch.load` with `weights_only=True` reads the tensors; where it refuses because the
file also holds objects of other packages, as Lightning checkpoints with OmegaConf settings do, the tensors are taken
from the archive's records directly.
"""

from __future__ import annotations

import math
import os
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyena_dna.errors import InputError
from hyena_dna.model.pickled import ITEM_SIZES, SIZE_LIMIT, Pickle, TensorRecord, read_pickle

__all__ = ["TorchFile", "read_torch_file"]

_RECORD = re.compile(
    r"(?P<root>[^/]+)/(data\.pkl|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id"
    r"|data/(?P<storage>[0-9]+))"
)
_DTYPES = {
    "BFloat16Storage": torch.bfloat16, "BoolStorage": torch.bool, "ByteStorage": torch.uint8,
    "CharStorage": torch.int8, "ComplexDoubleStorage": torch.complex128, "ComplexFloatStorage": torch.complex64,
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "IntStorage": torch.int32, "LongStorage": torch.int64, "ShortStorage": torch.int16,
}  # fmt: skip


@dataclass(frozen=True)
class TorchFile:
    """A state dict from a torch checkpoint.

    Attributes:
        tensors: name to tensor, on the CPU.
        step: optimiser steps done (`global_step`), where the file says so.
        restricted: whether torch's own reader refused the file, so that the tensors were taken from its records.
    """

    tensors: dict[str, Tensor]
    step: int | None
    restricted: bool


def read_torch_file(path: Path) -> TorchFile:
    """Read the state dict of a `torch.save` or Lightning checkpoint.

    Raises:
        InputError: not a torch zip archive, damaged, compressed, with records or names that checkpoints do not have,
            with shapes that do not fit their data, or without a state dict.
    """
    try:
        with _open_archive(path) as archive:
            pickled = read_pickle(archive.read("data.pkl", limit=SIZE_LIMIT))
            archive.check(pickled)
            records, step = _state_dict(pickled.content)
            official = _load_official(path)
            if official is None:
                return TorchFile(archive.tensors(records), step, restricted=True)
    except InputError as error:
        raise InputError(error.reason, file=path, remedy=error.remedy) from None
    # Names in a damaged table of contents may be no text at all: UnicodeDecodeError.
    except (
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        NotImplementedError,
        UnicodeError,
    ) as error:
        raise _incomplete(path, error) from None
    tensors = official.get("state_dict", official)
    for name, record in records.items():
        tensor = tensors.get(name) if isinstance(tensors, Mapping) else None
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != record.shape:
            # Two readers that see different things in one file: it was made to deceive one of them.
            raise InputError(f"refused: torch reads {name} differently", file=path, remedy="do not trust this file")
    return TorchFile({name: tensors[name] for name in records}, step, restricted=False)


def _incomplete(path: Path, error: Exception) -> InputError:
    return InputError(f"not a complete checkpoint: {error}", file=path, remedy="download or copy it again")


def _load_official(path: Path) -> Mapping[str, Any] | None:
    """What torch's own restricted reader makes of the file; None where it refuses a global or an opcode."""
    try:
        # A handle, because torch goes by the suffix of a name; its warning is about protocols that we then read.
        with open(path, "rb") as handle, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(handle, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return None
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError) as error:
        raise _incomplete(path, error) from None
    assert isinstance(content, Mapping)
    return content


def _state_dict(content: Any) -> tuple[dict[str, TensorRecord], int | None]:
    if not isinstance(content, dict):
        raise InputError(f"holds a {type(content).__name__}, not a state dict")
    step = content.get("global_step")
    state = content.get("state_dict", content)
    if not isinstance(state, dict) or not state:
        raise InputError("holds no state dict", remedy="a checkpoint is a dict of tensors, or has one at 'state_dict'")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, TensorRecord):
            raise InputError(f"its state dict holds {name!r}, which is not a tensor")
    return state, step if type(step) is int else None


class _Archive:
    """A zip archive as `torch.save` writes it: stored records below one folder."""

    def __init__(self, file: zipfile.ZipFile, size: int) -> None:
        self._file = file
        self._records: dict[str, zipfile.ZipInfo] = {}
        roots = set()
        for info in file.infolist():
            match = _RECORD.fullmatch(info.filename)
            if match is None:
                raise InputError(f"refused: the archive holds {info.filename!r}, which no torch checkpoint has")
            # torch never compresses, so whatever is compressed here is there to expand.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
                raise InputError(f"refused: {info.filename} is compressed or encrypted, which torch never does")
            roots.add(match["root"])
            name = info.filename.removeprefix(f"{match['root']}/")
            if name in self._records:
                raise InputError(f"refused: the archive holds {info.filename} twice")
            self._records[name] = info
        if "data.pkl" not in self._records or len(roots) != 1:
            raise InputError("a zip archive, but not a torch checkpoint")
        if sum(info.file_size for info in self._records.values()) > size:
            raise InputError("refused: the archive declares more data than the file holds")
        if "byteorder" in self._records and self.read("byteorder", limit=16) != b"little":
            raise InputError("a big-endian checkpoint, which is not supported")

    def read(self, name: str, *, limit: int | None = None) -> bytes:
        """One record, its CRC checked.

        Raises:
            InputError: it is longer than `limit` bytes, or its bytes differ from what was written.
        """
        info = self._records[name]
        if limit is not None and info.file_size > limit:
            raise InputError(f"refused: {info.filename} has {info.file_size:,} bytes")
        try:
            return self._file.read(info)
        except (zipfile.BadZipFile, UnicodeError) as error:
            raise InputError(f"damaged: {error}", remedy="download or copy it again") from None

    def check(self, pickled: Pickle) -> None:
        """Check every storage that the pickle refers to: it is there, has the size declared, and is undamaged."""
        for storage in pickled.storages.values():
            info = self._records.get(f"data/{storage.key}")
            if info is None:
                raise InputError(f"the record of storage {storage.key!r} is missing")
            if info.file_size != storage.numel * ITEM_SIZES[storage.kind]:
                raise InputError(
                    f"storage {storage.key!r} is declared to have {storage.numel:,} elements ({storage.kind}), "
                    f"its record has {info.file_size:,} bytes"
                )
            self.read(f"data/{storage.key}")

    def tensors(self, records: Mapping[str, TensorRecord]) -> dict[str, Tensor]:
        """The tensors themselves, from their records' bytes."""
        return {name: self._tensor(record) for name, record in records.items()}

    def _tensor(self, record: TensorRecord) -> Tensor:
        dtype = _DTYPES[record.storage.kind]
        if not math.prod(record.shape):
            return torch.empty(record.shape, dtype=dtype)
        elements = torch.frombuffer(bytearray(self.read(f"data/{record.storage.key}")), dtype=dtype)
        return elements.as_strided(record.shape, record.stride, record.offset).clone()


@contextmanager
def _open_archive(path: Path) -> Iterator[_Archive]:
    with open(path, "rb") as handle:
        head = handle.read(8)
        if not head.startswith(b"PK\x03\x04"):
            raise InputError(_not_an_archive(head))
        handle.seek(0)
        with zipfile.ZipFile(handle) as file:
            yield _Archive(file, os.fstat(handle.fileno()).st_size)


def _not_an_archive(head: bytes) -> str:
    if head.startswith(b"\x80"):
        return "refused: a bare pickle, which can only be read by running it"
    if head.startswith(b"\x93NUMPY"):
        return "a numpy array, not a checkpoint"
    if not head:
        return "not a complete checkpoint: the file is empty"
    return "not a torch checkpoint (a zip archive written by torch 1.6 or later)"
