"""Token stores in the memory of a GPU: windows are cut where they are used.

A whole human genome takes 3.1 GB as one byte per base. The host sends three numbers per window; gathering, reverse
complement and loss weights happen on the device, and equal what `hyena_dna.datasets.batches.cut_batch` gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.datasets.batches import LossWeights
from hyena_dna.datasets.store import TokenStore
from hyena_dna.datasets.windows import WindowBatch
from hyena_dna.tokenizer import BASE_IDS, PAD, SOFT_MASK
from hyena_dna.training.engine import TokenBatch

__all__ = ["DeviceCutter", "fits_on_device"]

_UPLOAD_BYTES = 256 << 20


def fits_on_device(stores: Sequence[TokenStore], device: torch.device) -> bool:
    """Whether the stores take no more than a quarter of the GPU's free memory."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(store.total for store in stores) <= free // 4


class DeviceCutter:
    """Cuts windows from stores that it holds on a device.

    Args:
        stores: the token stores; one tensor is made of all of them.
        weights: loss weights of N and of soft-masked targets.
        device: where the tokens lie and batches appear; a CPU works too.
    """

    def __init__(self, stores: Sequence[TokenStore], weights: LossWeights, device: torch.device) -> None:
        self._device = device
        self._bases = np.cumsum([0, *(store.total for store in stores)])[:-1].astype(np.int64)
        self._tokens = torch.empty(sum(store.total for store in stores), dtype=torch.uint8, device=device)
        for base, store in zip(self._bases.tolist(), stores, strict=True):
            for begin in range(0, store.total, _UPLOAD_BYTES):
                piece = torch.from_numpy(np.array(store.tokens[begin : begin + _UPLOAD_BYTES]))
                self._tokens[base + begin : base + begin + len(piece)] = piece.to(device)
        self._table = torch.from_numpy(weights.table).to(device)

    def prepare(self, windows: WindowBatch, window: int) -> NDArray[np.int64]:
        """Where the windows lie in the one tensor: (3, batch) of starts, lengths and directions."""
        starts = windows.start + self._bases[windows.source]
        return np.stack([starts, windows.length, windows.reverse.astype(np.int64)])

    def load(self, prepared: NDArray[np.int64], window: int) -> TokenBatch:
        """Cut the windows and weigh their targets."""
        places = torch.from_numpy(prepared)
        if self._device.type == "cuda":
            places = places.pin_memory().to(self._device, non_blocking=True)
        starts, lengths, reverse = places.unsqueeze(2)
        offsets = torch.arange(window + 1, device=self._device)
        inside = offsets < lengths
        backwards = reverse.bool()
        at = starts + torch.where(backwards, lengths - 1 - offsets, offsets)
        stored = self._tokens[at.clamp_(0, len(self._tokens) - 1)]
        ids = stored & (SOFT_MASK - 1)
        ids = torch.where(backwards & (ids <= BASE_IDS[-1]), BASE_IDS[0] + BASE_IDS[-1] - ids, ids)
        ids = torch.where(inside, ids, PAD)
        target_ids = ids[:, 1:]
        # The classes of `LossWeights.table`, counted by comparisons as the host does.
        soft = (stored[:, 1:] >= SOFT_MASK) & inside[:, 1:]
        loss_class = (target_ids > PAD).int() + (target_ids > BASE_IDS[-1]).int() + 2 * soft.int()
        return TokenBatch(ids[:, :-1], target_ids, self._table[loss_class])
