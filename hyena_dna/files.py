"""Files that are whole or absent: atomic writing, locks, fingerprints.

Outputs are written to a temporary name in the destination directory (never `TMPDIR`, which may be another file
system), synced, and renamed. A reader sees the old file or the new one; a crash leaves the old one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from hyena_dna.errors import InputError

__all__ = [
    "atomic_directory",
    "atomic_open",
    "atomic_path",
    "check_output",
    "exclusive_lock",
    "fingerprint",
    "sha256_file",
]

_EDGE = 64 * 1024


def check_output(path: str | os.PathLike[str], *, force: bool = False, folder: bool = False) -> Path:
    """Check, before any work, that an output can be written.

    Args:
        path: the file or folder to be written.
        force: allow an existing output to be replaced.
        folder: whether the output is a folder.

    Returns:
        The path as a `Path`.

    Raises:
        InputError: it exists and `force` is off, it is a folder where a file is to be written, its folder does not
            exist, or that folder is not writable.
    """
    path = Path(path)
    parent = path.parent
    if not parent.is_dir():
        if parent.exists():
            raise InputError("the output folder is a file", file=parent, remedy="choose another folder")
        raise InputError("the output folder does not exist", file=parent, remedy=f"mkdir -p {parent}")
    if path.is_dir() and not folder:
        raise InputError("the output is a folder; a file is written", file=path, remedy="choose another name")
    if path.exists() and not force:
        raise InputError("the output exists already", file=path, remedy="choose another name or add --force")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError("the output folder is not writable", file=parent, remedy="choose another folder")
    return path


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed onto `path`, on failure removed.

    For libraries that insist on opening a file by name. The temporary name keeps the suffixes of `path`, because many
    of them choose the format by suffix.

    Raises:
        InputError: the disk is full or the folder cannot be written; the old file, if any, is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp.{path.name}")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        # Only errors of the file being written are the user's disk; others keep their own meaning.
        if error.filename in (None, str(temporary)) and error.errno is not None:
            raise InputError(f"cannot be written: {os.strerror(error.errno)}", file=path) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_open(path: str | os.PathLike[str], mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Like `open(path, mode)` for writing, but the file appears under its name only when it is complete."""
    if "b" not in mode:
        options.setdefault("encoding", "utf-8")
        options.setdefault("newline", "")
    with atomic_path(path) as temporary, open(temporary, mode, **options) as handle:
        yield handle


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary directory beside `path` that takes its name when complete.

    Args:
        path: the directory to make.
        force: replace an existing directory; it is moved aside first and deleted last.

    Raises:
        InputError: `path` exists and `force` is off, or the folder cannot be written.
    """
    path = check_output(path, force=force, folder=True)
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp.{path.name}")
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        if path.exists():
            aside = path.with_name(f".{secrets.token_hex(6)}.old.{path.name}")
            os.replace(path, aside)
            os.replace(temporary, path)
            _remove(aside)
        else:
            os.replace(temporary, path)
        _sync(path.parent)
    finally:
        if temporary.exists():
            _remove(temporary)


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive_lock(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[int]:
    """Hold an advisory lock on `path` (created if needed), released when the process ends however it ends.

    Yields the lock's file descriptor. Processes forked meanwhile hold the lock too, until they close it.

    Args:
        path: the lock file.
        wait: wait for the holder; otherwise fail at once.

    Raises:
        InputError: another process holds the lock and `wait` is off.
    """
    with open(path, "a+b") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise InputError("another run is using this folder", file=Path(path).parent) from None
        yield handle.fileno()


def fingerprint(path: str | os.PathLike[str]) -> dict[str, int | str]:
    """Identify a file's content cheaply: size in bytes, mtime in ns, sha256 of its first and last 64 KiB."""
    with open(path, "rb") as handle:
        status = os.fstat(handle.fileno())
        digest = hashlib.sha256(handle.read(_EDGE))
        handle.seek(max(0, status.st_size - _EDGE))
        digest.update(handle.read(_EDGE))
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "edges_sha256": digest.hexdigest()}


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The sha256 of a whole file, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
