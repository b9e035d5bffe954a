"""How much each base of a sequence moves what the model says of each later one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.inference.runtime import batch_tokens, run_batches
from hyena_dna.model.model import HyenaDNA
from hyena_dna.tokenizer import A, T

__all__ = ["Influence", "even_rows", "influence_map"]


@dataclass(frozen=True)
class Influence:
    """Gradients of predictions by input bases.

    Attributes:
        rows: (rows,) output positions i, rising.
        map: (rows, length) float32; entry [r, j] is |d logit_i / d x_j| for i = rows[r], 0 for j > i.
    """

    rows: NDArray[np.int64]
    map: NDArray[np.float32]


def even_rows(length: int, count: int) -> NDArray[np.int64]:
    """At most `count` positions, evenly spread, ending with the last."""
    return np.unique(np.linspace(length - 1, 0, min(count, length)).round().astype(np.int64))


def influence_map(
    model: HyenaDNA,
    input_ids: NDArray[np.uint8],
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> Influence:
    """The attention-like map |d logit_i / d x_j| of a sequence.

    x_j is the base at j as one-hot letters over A, C, G, T: its token embedding is their sum weighted by the letters.
    logit_i is the logit of the base that follows i in the sequence (after the last base: of the most likely one) less
    the mean of the four, so that what raises all four alike does not count. The gradient by the four letters of x_j,
    less its mean (only differences of letters can be made real), is reduced to its L2 norm, in logits per base.

    Row i depends on bases 0 to i alone, so each batch is cut at its last row; its rows are the same sequence, each with
    the logit at another position, so that one backward pass gives a gradient per row.

    Args:
        model: in evaluation mode, of any mixer.
        input_ids: (length,) token ids.
        rows: output positions; None for all.
        progress: called with the number of rows that are done.

    Raises:
        InputError: the sequence is empty or longer than the model, or a row is not in it.
        RunError: the device has too little memory for a single row.
    """
    length = len(input_ids)
    if not 1 <= length <= model.config.max_length:
        raise InputError(f"{length:,} bp do not fit the model, which reads 1 to {model.config.max_length:,}")
    wanted = np.arange(length) if rows is None else np.unique(np.asarray(rows, np.int64))
    if not len(wanted) or wanted[0] < 0 or wanted[-1] >= length:
        raise InputError(f"rows lie in 0 to {length - 1:,}")
    device = model.lm_head.weight.device
    ids = torch.from_numpy(input_ids.astype(np.int64)).to(device)
    letters = slice(A, T + 1)
    # Parameters need no gradients here, and those of the caller stay as they are.
    frozen = {name: value.detach() for name, value in model.backbone.named_parameters()}
    with torch.no_grad():
        embedded = model.backbone.embeddings(ids[None])
        head = model.lm_head.weight[letters] - model.lm_head.weight[letters].mean(0)
        table = model.backbone.embeddings.word_embeddings.weight[letters]
        table = table - table.mean(0)

    def gradients(part: NDArray[np.int64]) -> NDArray[np.float32]:
        end = int(part[-1]) + 1
        places = torch.from_numpy(part).to(device)
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            x = embedded[:, :end].repeat(len(part), 1, 1).requires_grad_()
            output = torch.func.functional_call(model.backbone, frozen, (x,))
            hidden = output.hidden[torch.arange(len(part), device=device), places]
            logits = hidden @ head.T
            following = ids[(places + 1).clamp(max=length - 1)] - A
            # After the last base nothing is known to follow, and N is not one of the four.
            unknown = (places + 1 >= length) | (following < 0) | (following > T - A)
            following = torch.where(unknown, logits.argmax(-1), following)
            total = logits.gather(-1, following[:, None]).sum()
            (gradient,) = torch.autograd.grad(total, x)
        found = np.zeros((len(part), length), np.float32)
        found[:, :end] = (gradient @ table.T).norm(dim=-1).cpu().numpy()
        # Beyond its row a gradient is rounding of the FFT.
        found[np.arange(length) > part[:, None]] = 0
        return found

    result = np.zeros((len(wanted), length), np.float32)
    done = 0
    for part, found in run_batches(gradients, _batches(wanted, batch_tokens(device, model.config.d_model))):
        result[done : done + len(part)] = found
        done += len(part)
        if progress is not None:
            progress(done)
    return Influence(wanted, result)


def _batches(rows: NDArray[np.int64], tokens: int) -> list[NDArray[np.int64]]:
    """Neighbouring rows of at most so many tokens together, each counted up to the last of its batch."""
    batches, first = [], 0
    for index in range(1, len(rows) + 1):
        if index == len(rows) or (index - first + 1) * (int(rows[index]) + 1) > tokens:
            batches.append(rows[first:index])
            first = index
    return batches
