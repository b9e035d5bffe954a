"""Text from a file or from standard input, plain or compressed, line by line with its number.

What comes out is whole: a gzip or BGZF stream that ends early or fails its checksum is an error, never a short file.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterable, Iterator

from hyena_dna.errors import InputError
from hyena_dna.genome.bgzf import BgzfBlocks, is_bgzf

__all__ = ["LINE_LIMIT", "open_source", "read_lines"]

LINE_LIMIT = 1 << 20
"""Longest line of a table, in bytes: what is longer is no table."""

_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"


class _Pieces(io.RawIOBase):
    """A stream over byte strings."""

    def __init__(self, pieces: Iterable[bytes], below: io.BufferedReader) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")
        self._below = below

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed: WriteableBuffer has no len()
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._below.close()
        super().close()


def open_source(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading, decompressed: plain, gzip or BGZF, decided by its first bytes; `-` is standard input.

    Raises:
        InputError: the file is missing, a directory or not readable.
    """
    name = os.fspath(path)
    try:
        handle = open(sys.stdin.fileno(), "rb", closefd=False) if name == "-" else open(name, "rb")  # noqa: SIM115
        head = handle.peek(64)
    except OSError as error:
        raise InputError(f"cannot be read: {os.strerror(error.errno or 0)}", file=name) from None
    if is_bgzf(head):
        return io.BufferedReader(_Pieces(BgzfBlocks(handle), handle))
    if head.startswith(_GZIP):
        return io.BufferedReader(gzip.GzipFile(fileobj=handle))
    return handle


def read_lines(path: str | os.PathLike[str], *, limit: int = LINE_LIMIT) -> Iterator[tuple[int, str]]:
    """Yield (1-based line number, text without its line end), in bounded memory.

    LF and CRLF both end a line; a UTF-8 byte order mark at the start is dropped.

    Args:
        path: the file, or `-` for standard input; see `open_source`.
        limit: longest line allowed, in bytes.

    Raises:
        InputError: the file cannot be read, is damaged or truncated, is not UTF-8, has a line beyond `limit`, or a
            carriage return inside a line.
    """
    number = offset = 0
    with open_source(path) as handle:
        while True:
            try:
                line = handle.readline(limit + 1)
            except (EOFError, gzip.BadGzipFile, zlib.error):
                raise InputError("the gzip data are damaged or truncated", file=path, line=number + 1) from None
            except OSError as error:
                raise InputError(f"cannot be read: {os.strerror(error.errno or 0)}", file=path) from None
            if not line:
                return
            number += 1
            if len(line) > limit:
                raise InputError(f"the line is longer than {limit:,} bytes", file=path, line=number)
            try:
                text = line.removeprefix(_BOM).decode() if number == 1 else line.decode()
            except UnicodeDecodeError as error:
                place = offset + error.start + (len(_BOM) if number == 1 and line.startswith(_BOM) else 0)
                raise InputError(f"not UTF-8 text at byte {place}", file=path, line=number) from None
            offset += len(line)
            text = text.removesuffix("\n").removesuffix("\r")
            if "\r" in text:
                raise InputError(
                    "a carriage return inside a line",
                    file=path,
                    line=number,
                    remedy="write LF line ends: dos2unix -c mac",
                )
            yield number, text
