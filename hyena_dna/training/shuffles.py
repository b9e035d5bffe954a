"""Dinucleotide shuffles: sequences with the same dinucleotides in another order."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.errors import missing_extra
from hyena_dna.tokenizer import BASE_IDS, N

__all__ = ["dinucleotide_shuffles"]


def dinucleotide_shuffles(
    ids: NDArray[np.uint8], lengths: NDArray[np.int64], *, count: int = 1, seed: int = 0
) -> NDArray[np.uint8]:
    """Shuffle sequences so that the number of each dinucleotide, and the first and last base, stay (tangermeme's).

    Args:
        ids: (n, width) token ids, padded on the right; N is shuffled as a letter of its own.
        lengths: (n,) bp.
        count: shuffles of each.
        seed: of the shuffles.

    Returns:
        (n * count, width), the shuffles of one sequence behind each other, padded as it is.

    Raises:
        InputError: the optional dependency is missing.
    """
    try:
        from tangermeme.ersatz import dinucleotide_shuffle
    except ImportError:
        raise missing_extra("dinucleotide shuffles", "negatives") from None
    shuffled = np.repeat(ids, count, axis=0)
    letters = np.array([*BASE_IDS, N], np.uint8)
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        if length < 3:
            continue
        one_hot = torch.from_numpy((ids[rows, None, :length] == np.array(BASE_IDS)[:, None]).astype(np.int8))
        seeds = [seed + row for row in rows.tolist()]
        found = dinucleotide_shuffle(one_hot, n=count, random_state=seeds, allow_N=True).numpy()
        known = found.any(2)
        base = np.where(known, found.argmax(2), len(BASE_IDS))
        places = (rows[:, None] * count + np.arange(count)).ravel()
        shuffled[places, :length] = letters[base.reshape(len(places), length)]
    return shuffled
