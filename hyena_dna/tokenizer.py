"""Nucleotide tokens: one base, one id, the ids of the published HyenaDNA checkpoints.

The numbering is fixed by those checkpoints: seven special tokens, then A, C, G, T, N. Encoding is a 256-entry table
over bytes, so soft-masked lower-case bases become bases and never `[UNK]`, IUPAC ambiguity codes become N, and every
other byte is an error that names its position.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError

__all__ = [
    "BASE_IDS",
    "BOS",
    "CLS",
    "ENCODE",
    "FORBIDDEN",
    "MASK",
    "PAD",
    "RESERVED",
    "SEP",
    "SOFT_MASK",
    "UNK",
    "VOCAB",
    "A",
    "C",
    "G",
    "N",
    "T",
    "Tokenizer",
    "complement_ids",
]

CLS, SEP, BOS, MASK, PAD, RESERVED, UNK, A, C, G, T, N = range(12)

VOCAB = ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]", "A", "C", "G", "T", "N")
"""Token of every id."""

BASE_IDS = (A, C, G, T)
"""The ids that count as known bases; N is a token but not one of them."""

SOFT_MASK = 0x80
"""Bit set on a stored token id where the source base was lower case (a repeat, by convention)."""

FORBIDDEN = 0xFF
"""Entry of `ENCODE` for bytes that are not DNA."""

_AMBIGUOUS = "NRYSWKMBDHV"


def _encode_table() -> bytes:
    table = bytearray([FORBIDDEN] * 256)
    letters = dict.fromkeys(_AMBIGUOUS, N) | dict(zip("ACGT", BASE_IDS, strict=True))
    for letter, token in letters.items():
        table[ord(letter)] = table[ord(letter.lower())] = token
    return bytes(table)


ENCODE = _encode_table()
"""Table for `bytes.translate`: ACGT in either case to 7..10, N and IUPAC codes to 11, other bytes to `FORBIDDEN`."""

_DECODE = bytes(ord(VOCAB[i]) if A <= i <= N else 0 for i in range(256))
_FORMAT = "hyena-dna-tokenizer"
_FORMAT_VERSION = 1


def complement_ids(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Complement token ids without reversing them.

    A<->T and C<->G lie symmetrically around 8.5, so a base id `i` maps to `17 - i`; N and special tokens stay.

    Args:
        ids: uint8 token ids of any shape, without the soft-mask bit.

    Returns:
        A new array of the same shape.
    """
    # One unsigned comparison tests both ends of 7..10: ids below A wrap around to large numbers. The change is then
    # multiplied by the 0/1 of the comparison: masked assignment is not vectorised for bytes (0.3 against 4 Gbp/s).
    is_base = (np.subtract(ids, np.uint8(A)) <= T - A).view(np.uint8)
    complement = np.subtract(np.uint8(A + T), ids)
    complement -= ids
    complement *= is_base
    complement += ids
    return complement


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Single-nucleotide tokenizer. It has no state; every instance is equal to every other."""

    vocab: ClassVar[tuple[str, ...]] = VOCAB
    vocab_size: ClassVar[int] = len(VOCAB)

    def encode(self, sequence: bytes | str, add_sep: bool = False) -> NDArray[np.uint8]:
        """Turn DNA into token ids.

        Args:
            sequence: DNA letters; either case, IUPAC codes become N.
            add_sep: append `[SEP]`, as the published pretraining did.

        Returns:
            uint8 ids, `(length,)` or `(length + 1,)` with `[SEP]`.

        Raises:
            InputError: a character is not a DNA letter; gives its 1-based position.
        """
        # Characters outside Latin-1 become "?", which is as forbidden as they are, and positions stay.
        data = sequence.encode("latin-1", "replace") if isinstance(sequence, str) else sequence
        encoded = np.frombuffer(data.translate(ENCODE), dtype=np.uint8)
        if encoded.size and encoded.max() == FORBIDDEN:
            position = int(np.argmax(encoded == FORBIDDEN))
            letter = repr(sequence[position : position + 1]).removeprefix("b")
            remedy = "write U as T first" if letter in ("'U'", "'u'") else None
            raise InputError(f"{letter} at position {position + 1} is not a DNA letter", remedy=remedy)
        ids = np.empty(encoded.size + add_sep, dtype=np.uint8)
        ids[: encoded.size] = encoded
        if add_sep:
            ids[-1] = SEP
        return ids

    def decode(self, ids: NDArray[Any] | list[int]) -> str:
        """Turn token ids into text: bases as letters, special tokens in brackets, e.g. `ACGN[SEP]`.

        Args:
            ids: integer ids, `(length,)`.

        Raises:
            InputError: an id is outside the vocabulary.
        """
        array = np.asarray(ids, dtype=np.int64)
        if array.ndim != 1:
            raise InputError(f"decode takes one sequence of ids, not an array of shape {array.shape}")
        if array.size and (array.min() < 0 or array.max() >= self.vocab_size):
            raise InputError(f"token ids must lie in 0..{self.vocab_size - 1}, got {array.min()}..{array.max()}")
        if array.size == 0 or array.min() >= A:
            return array.astype(np.uint8).tobytes().translate(_DECODE).decode("ascii")
        return "".join(VOCAB[i] for i in array.tolist())

    def reverse_complement(self, ids: NDArray[np.uint8], axis: int = -1) -> NDArray[np.uint8]:
        """Reverse-complement token ids along one axis; special tokens are moved but not changed.

        A padded row comes back padded on the other side: cut the padding off first.

        Args:
            ids: uint8 token ids of any shape, without the soft-mask bit.
            axis: the axis of positions.

        Returns:
            A new array of the same shape.
        """
        return complement_ids(np.ascontiguousarray(np.flip(ids, axis=axis)))

    def to_json(self) -> str:
        """The content of `tokenizer.json` in a model directory."""
        content = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "vocab": list(VOCAB), "ambiguous": _AMBIGUOUS}
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Read `tokenizer.json`.

        Raises:
            InputError: the text is not a tokenizer of this project, or has another vocabulary than this version has.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"the tokenizer is not valid JSON: {error}") from None
        if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
            raise InputError(f'the tokenizer is not of the format "{_FORMAT}"')
        if content.get("format_version") != _FORMAT_VERSION:
            version = content.get("format_version")
            raise InputError(
                f"tokenizer format version {version!r} is unknown",
                remedy="update hyena-dna to the version that wrote it",
            )
        if content.get("vocab") != list(VOCAB):
            raise InputError("the tokenizer has another vocabulary than HyenaDNA's 12 tokens")
        return cls()
