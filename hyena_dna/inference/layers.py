"""Which hidden states of a model to take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import torch

from hyena_dna.errors import InputError
from hyena_dna.model.model import HyenaDNA

__all__ = ["Layers", "hidden_states", "parse_layers"]

_MEAN = re.compile(r"mean:([1-9][0-9]*)")
_LIST = re.compile(r"[1-9][0-9]*(,[1-9][0-9]*)*")


@dataclass(frozen=True)
class Layers:
    """Hidden states to take.

    `last` is the output of the final norm; `list` the residual stream after each of `blocks`, side by side; `mean` the
    mean of the residual streams after `blocks`.

    Attributes:
        kind: one of these.
        blocks: numbers of blocks, from 1.
    """

    kind: Literal["last", "list", "mean"]
    blocks: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Hidden states side by side."""
        return len(self.blocks) if self.kind == "list" else 1


def parse_layers(text: str, n_layer: int) -> Layers:
    """Read `last`, `K`, `K,L,...` or `mean:K`.

    Args:
        text: what the user wrote; blocks count from 1.
        n_layer: blocks of the model.

    Raises:
        InputError: it is none of these, or the model has no such block.
    """
    if text == "last":
        return Layers("last")
    mean = _MEAN.fullmatch(text)
    if mean and int(mean[1]) <= n_layer:
        return Layers("mean", tuple(range(n_layer - int(mean[1]) + 1, n_layer + 1)))
    if _LIST.fullmatch(text):
        blocks = tuple(int(number) for number in text.split(","))
        if max(blocks) <= n_layer and len(set(blocks)) == len(blocks):
            return Layers("list", blocks)
    raise InputError(
        f"--layer {text!r}: the model has blocks 1 to {n_layer}",
        remedy="give last, K, K,L with no block twice, or mean:K",
    )


def hidden_states(
    model: HyenaDNA, input_ids: torch.Tensor, lengths: torch.Tensor | None, layers: Layers
) -> torch.Tensor:
    """Hidden states of a batch.

    Args:
        model: in evaluation mode.
        input_ids: (batch, length) token ids of any integer dtype, padded on the right.
        lengths: (batch,) tokens of each row; None where no row is padded.
        layers: which.

    Returns:
        (batch, length, layers.count * d_model).
    """
    if layers.kind == "last":
        return model.hidden(input_ids, lengths=lengths)
    found: dict[int, torch.Tensor] = {}

    def keep(block: int) -> torch.utils.hooks.RemovableHandle:
        # Only the streams asked for stay in memory, not those of all blocks.
        def hook(_: torch.nn.Module, __: object, output: tuple[torch.Tensor, torch.Tensor]) -> None:
            found[block] = output[0] + output[1]

        return model.backbone.layers[block - 1].register_forward_hook(hook)

    handles = [keep(block) for block in layers.blocks]
    try:
        model.hidden(input_ids, lengths=lengths)
    finally:
        for handle in handles:
            handle.remove()
    streams = [found[block].float() for block in layers.blocks]
    if layers.kind == "mean":
        return torch.stack(streams).mean(0)
    return torch.cat(streams, -1)
