"""Finished pieces of a long run, kept beside its output until that is whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from hyena_dna.errors import InputError
from hyena_dna.files import atomic_open, exclusive_lock

__all__ = ["Parts", "open_parts"]


class Parts:
    """A folder of numbered parts, each with a record that is written after it and makes it count.

    Args:
        folder: the folder, made by `open_parts`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def data(self, index: int) -> Path:
        """The data of a part, unchecked."""
        return self.folder / f"{index:08d}.part"

    def _record(self, index: int) -> Path:
        return self.folder / f"{index:08d}.json"

    def done(self, index: int) -> bool:
        """Whether a part is finished."""
        return self._record(index).exists()

    @contextlib.contextmanager
    def write(self, index: int) -> Iterator[tuple[IO[bytes], dict[str, Any]]]:
        """Yield a file for a part's data and a record for what is known of it; the part counts when the block ends."""
        record: dict[str, Any] = {}
        with atomic_open(self.data(index)) as handle:
            yield handle, record
        data = self.data(index)
        record["part"] = {"size": data.stat().st_size, "crc32": _crc32(data)}
        with atomic_open(self._record(index), "w") as handle:
            json.dump(record, handle)

    def record(self, index: int) -> dict[str, Any]:
        """What is known of a finished part."""
        record: dict[str, Any] = json.loads(self._record(index).read_text("utf-8"))
        return record

    def checked(self, index: int) -> Path:
        """The data of a finished part.

        Raises:
            InputError: they are not what was written.
        """
        data, known = self.data(index), self.record(index)["part"]
        if not data.exists() or (data.stat().st_size, _crc32(data)) != (known["size"], known["crc32"]):
            raise InputError("a finished part is damaged", file=data, remedy="start again with --force")
        return data


def _crc32(path: Path) -> int:
    value = 0
    with open(path, "rb") as handle:
        while data := handle.read(1 << 20):
            value = zlib.crc32(data, value)
    return value


@contextlib.contextmanager
def open_parts(output: Path, run: Mapping[str, Any], *, resume: bool, force: bool) -> Iterator[Parts]:
    """Open the folder of parts of an output, under a lock.

    It is removed when the block ends well, and also when it ends with an `InputError` (the same input would end so
    again); it stays after an interruption, for a later run to go on.

    Args:
        output: the file to be made.
        run: inputs and settings that decide the result; parts of another run are never used.
        resume: go on with the parts that are there.
        force: throw away the parts that are there.

    Raises:
        InputError: parts are there and neither is asked for, or they are of another run, or a run is using them.
    """
    folder = output.with_name(f"{output.name}.parts")
    settings = folder / "run.json"
    wanted = json.loads(json.dumps(run))
    if settings.exists() and not resume and not force:
        remedy = "go on with --resume or start again with --force"
        raise InputError("an unfinished run left its parts here", file=folder, remedy=remedy)
    folder.mkdir(exist_ok=True)
    with exclusive_lock(folder / "lock", wait=False):
        if not resume:
            _empty(folder)
        if settings.exists():
            found = json.loads(settings.read_text("utf-8"))
            differing = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
            if differing:
                reason = f"the unfinished run had other settings: {', '.join(sorted(differing))}"
                raise InputError(reason, file=folder, remedy="repeat its settings or start again with --force")
        else:
            with atomic_open(settings, "w") as handle:
                json.dump(wanted, handle)
        parts = Parts(folder)
        try:
            yield parts
        except InputError:
            shutil.rmtree(folder)
            raise
    shutil.rmtree(folder)


def _empty(folder: Path) -> None:
    for entry in os.scandir(folder):
        if entry.name != "lock":
            os.unlink(entry.path)
