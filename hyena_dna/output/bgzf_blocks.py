"""Writing BGZF in pieces that can be joined by concatenation (SAM specification, section 4.1)."""

from __future__ import annotations

import struct
import zlib

__all__ = ["BGZF_EOF", "compress_blocks"]

# htslib's block size: what is left of 64 KiB where data do not compress.
_BLOCK = 0xFF00
_LEVEL = 6
_HEADER = struct.Struct("<4BI2BH2BHH")
_TRAILER = struct.Struct("<II")
_STORED = struct.Struct("<BHH")


def _block(data: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush()
    if len(body) > len(data) + _STORED.size:
        body = _STORED.pack(1, len(data), len(data) ^ 0xFFFF) + data
    total = _HEADER.size + len(body) + _TRAILER.size
    head = _HEADER.pack(0x1F, 0x8B, 8, 4, 0, 0, 0xFF, 6, 0x42, 0x43, 2, total - 1)
    return head + body + _TRAILER.pack(zlib.crc32(data), len(data))


BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block that ends every BGZF file."""


def compress_blocks(data: bytes) -> bytes:
    """Compress data to whole BGZF blocks, without the end-of-file block.

    The result depends on the data alone, and a BGZF file is any number of such results followed by `BGZF_EOF`.
    """
    return b"".join(_block(data[at : at + _BLOCK]) for at in range(0, len(data), _BLOCK))
