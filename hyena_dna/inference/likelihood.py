"""Log-likelihoods of sequences and of single tokens, in the precision that scores need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.inference.runtime import batch_tokens
from hyena_dna.inference.windows import batches_by_length, pad_rows
from hyena_dna.model.model import HyenaDNA

__all__ = ["Strand", "high_precision", "log_likelihood", "next_token_log_probs", "pick_tokens"]

Strand = Literal["+", "-", "both"]


@contextlib.contextmanager
def high_precision(device: torch.device) -> Iterator[None]:
    """Compute in the dtype of the weights: no autocast, no TF32, no autograd; settings are put back afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False), torch.inference_mode():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def next_token_log_probs(model: HyenaDNA, hidden: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the token after each position; padding rows of the vocabulary take no part.

    Args:
        model: the model whose LM head is used.
        hidden: (..., d_model), after the final norm.

    Returns:
        (..., vocab_size) in nats, float32, or float64 for a float64 model.
    """
    logits = torch.nn.functional.linear(hidden, model.lm_head.weight[: model.config.vocab_size])
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def pick_tokens(log_probs: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The log-probability of each token: (..., vocab), (...) -> (...) float64."""
    return log_probs.gather(-1, ids[..., None].long())[..., 0].double()


def log_likelihood(
    model: HyenaDNA, sequences: torch.Tensor | Sequence[str | bytes], *, strand: Strand = "+"
) -> torch.Tensor:
    """Log-likelihood of sequences under a causal model: of every token but the first, given its prefix.

    Example:
        >>> log_likelihood(model, ["ACGTTGCA", "ACG"], strand="both").shape
        torch.Size([2])

    Args:
        model: a model in evaluation mode.
        sequences: DNA of any lengths; or (batch, length) token ids, all of full length.
        strand: `+` reads a sequence as it is, `-` reads its reverse complement, `both` is the mean of the two.

    Returns:
        (batch,) float64, in nats, on the device of the model: float32 log-softmax over the real tokens, summed in
        float64.

    Raises:
        InputError: a sequence is empty, longer than the model's context, or not DNA.
    """
    if strand not in ("+", "-", "both"):
        raise InputError(f"strand is +, - or both, not {strand!r}")
    if isinstance(sequences, torch.Tensor):
        if sequences.dim() != 2:
            raise InputError(f"token ids are (batch, length), not {tuple(sequences.shape)}")
        rows = list(sequences.cpu().numpy().astype(np.uint8))
    else:
        rows = [model.tokenizer.encode(sequence) for sequence in sequences]
    forward = _of_rows(model, rows) if strand != "-" else None
    if strand == "+":
        assert forward is not None
        return forward
    reverse = _of_rows(model, [model.tokenizer.reverse_complement(row) for row in rows])
    return reverse if forward is None else (forward + reverse) / 2


def _of_rows(model: HyenaDNA, rows: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    device = model.lm_head.weight.device
    lengths = np.array([len(row) for row in rows], np.int64)
    result = torch.zeros(len(rows), dtype=torch.float64, device=device)
    with high_precision(device):
        for batch in batches_by_length(lengths, batch_tokens(device, model.config.d_model)):
            padded, counts = pad_rows([rows[row] for row in batch])
            ids = torch.from_numpy(padded).to(device)
            ends = torch.from_numpy(counts).to(device)
            hidden = model.hidden(ids, lengths=None if (counts == counts[0]).all() else ends)
            scores = pick_tokens(next_token_log_probs(model, hidden[:, :-1]), ids[:, 1:])
            real = torch.arange(1, ids.shape[1], device=device) < ends[:, None]
            result[torch.from_numpy(batch).to(device)] = scores.where(real, 0).sum(-1)
    return result.clone()
