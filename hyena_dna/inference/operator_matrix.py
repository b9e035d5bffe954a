"""The matrices that mix positions: H(u) of a Hyena operator, softmax(Q K^T) of attention, for one real sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hyena_dna.errors import InputError, RunError
from hyena_dna.inference.likelihood import high_precision
from hyena_dna.model.attention import Attention, rotate
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.filter import decay_rates
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.operator import HyenaOperator
from hyena_dna.ops.short_conv import short_conv

__all__ = [
    "LONGEST_MATRIX",
    "MixerMatrix",
    "MixerView",
    "Projections",
    "filters_and_windows",
    "project",
    "view_mixer",
]

LONGEST_MATRIX = 4096
"""Longest sequence, in bp, of which a matrix is made: 128 MiB in float64."""

_TOLERANCE = 1e-5


class Projections(NamedTuple):
    """What a Hyena operator makes of its input before the recurrence."""

    raw: torch.Tensor
    """(batch, (order + 1) * d_model, length) before the short convolution."""

    gates: tuple[torch.Tensor, ...]
    """x^1 to x^N, each (batch, d_model, length)."""

    value: torch.Tensor
    """v, (batch, d_model, length)."""


def project(mixer: HyenaOperator, u: torch.Tensor) -> Projections:
    """All projections of an operator's input at once: linear, then the short convolution.

    Args:
        mixer: the operator.
        u: (batch, length, d_model).
    """
    raw = F.linear(u, mixer.in_proj.weight, mixer.in_proj.bias).transpose(1, 2).contiguous()
    assert mixer.short_filter.bias is not None
    groups = short_conv(raw, mixer.short_filter.weight, mixer.short_filter.bias)
    # Checkpoints store the gates in reverse: x^1 is the last group before v, x^N the first.
    *gates, value = torch.split(groups, mixer.config.d_model, dim=1)
    return Projections(raw, tuple(reversed(gates)), value)


def filters_and_windows(mixer: HyenaOperator, length: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The long filters h^n(t) of an operator, and the windows that they were multiplied by.

    Returns:
        filters and windows, each (n_filters, d_model, length); t in bp from the position itself backwards.
    """
    config = mixer.config
    with high_precision(mixer.out_proj.weight.device):
        filters = mixer.filter_fn(length).float().cpu().numpy()
    rates = decay_rates(config, dtype=torch.float64, device=torch.device("cpu")).numpy()
    time = np.arange(length) / max(1, config.max_length - 1)
    windows = np.exp(-rates[:, None] * time) + config.modulation_shift
    return filters, windows.reshape(filters.shape).astype(np.float32)


@dataclass(frozen=True)
class MixerMatrix:
    """One matrix that takes values at input positions to outputs at output positions.

    Attributes:
        matrix: (length, length) float64; entry [i, j] is the weight of position j in the output at i, 0 for j > i.
        values: (length,) for a Hyena channel, (length, head width) for an attention head: what it is applied to.
        outputs: shaped as `values`: what the model's own mixer gives, before its output projection.
        error: largest difference between matrix @ values and outputs, as a share of the largest output.
    """

    matrix: NDArray[np.float64]
    values: NDArray[np.float64]
    outputs: NDArray[np.float64]
    error: float


class MixerView:
    """The mixer of one block, as it works on one sequence.

    Attributes:
        mixer: the module.
        config: of the model.
        layer: number of the block, from 1.
        u: (1, length, d_model), what the mixer reads: the normalised residual stream.
        outputs: (d_model, length) float64, what the model's fast path gives before the output projection.
    """

    def __init__(self, mixer: HyenaOperator | Attention, config: HyenaConfig, layer: int, u: torch.Tensor) -> None:
        self.mixer, self.config, self.layer, self.u = mixer, config, layer, u
        width = config.d_model
        # The same forward pass, with an output projection that changes nothing.
        neutral = {
            "out_proj.weight": torch.eye(width, dtype=u.dtype, device=u.device),
            "out_proj.bias": torch.zeros(width, dtype=u.dtype, device=u.device),
        }
        with high_precision(u.device):
            outputs = torch.func.functional_call(mixer, neutral, (u,))
            self.outputs: NDArray[np.float64] = outputs[0].T.double().cpu().numpy()
            if isinstance(mixer, HyenaOperator):
                projections = project(mixer, u)
                self._gates = [gate[0].double().cpu().numpy() for gate in projections.gates]
                self._value = projections.value[0].double().cpu().numpy()
                self._kernels = mixer.filter_fn(u.shape[1]).double().cpu().numpy()
                self._skips = mixer.filter_fn.bias.double().view(config.n_filters, width).cpu().numpy()
            else:
                parts = F.linear(u, mixer.in_proj.weight, mixer.in_proj.bias)
                query, key, value = (
                    parts[0].view(u.shape[1], 3, mixer.num_heads, -1).permute(1, 2, 0, 3)
                )  # (heads, length, width) each
                self._query, self._key = (rotate(part).double().cpu().numpy() for part in (query, key))
                self._value = value.double().cpu().numpy()

    @property
    def matrices(self) -> int:
        """How many matrices the mixer has: channels of a Hyena operator, heads of attention."""
        return self.config.d_model if isinstance(self.mixer, HyenaOperator) else self.config.num_heads

    def strongest(self, count: int) -> list[int]:
        """Channels (or heads) by how much they add to the residual stream over this sequence, strongest first.

        The measure is the L2 norm of their outputs times that of their columns of the output projection.
        """
        columns = np.linalg.norm(self.mixer.out_proj.weight.detach().double().cpu().numpy(), axis=0)
        strength = np.linalg.norm(self.outputs, axis=1) * columns
        strength = np.sqrt((strength.reshape(self.matrices, -1) ** 2).sum(1))
        return [int(index) for index in np.argsort(-strength, kind="stable")[:count]]

    def check(self, index: int) -> None:
        """Check that there is such a channel or head.

        Raises:
            InputError: there is none.
        """
        if not 0 <= index < self.matrices:
            what = "channels" if isinstance(self.mixer, HyenaOperator) else "heads"
            raise InputError(f"{what[:-1]} {index}: the model has {what} 0 to {self.matrices - 1}")

    def matrix(self, index: int) -> MixerMatrix:
        """Materialise the matrix of a channel or head and compare it with the model's own output.

        Hyena: H(u) = D_N S_(N-1) ... D_2 S_1 D_1, or D_N S_N ... D_1 S_1 with a leading convolution, D_n the diagonal
        matrix of gate x^n, S_n the Toeplitz matrix of filter h^n with its skip weight on the diagonal. Attention:
        softmax(Q K^T / sqrt(width)) over the past.

        Args:
            index: channel or head, from 0.

        Raises:
            InputError: there is no such channel or head.
            RunError: the product is not what the model computes, to 1e-5 of the largest output.
        """
        self.check(index)
        if isinstance(self.mixer, HyenaOperator):
            matrix, values, outputs = self._hyena(index), self._value[index], self.outputs[index]
        else:
            width = len(self.outputs) // self.matrices
            matrix, values = self._attention(index), self._value[index]
            outputs = self.outputs[index * width : (index + 1) * width].T
        difference = float(np.abs(matrix @ values - outputs).max())
        error = difference / max(float(np.abs(outputs).max()), float(np.finfo(np.float32).tiny))
        if not error <= _TOLERANCE:
            raise RunError(
                f"block {self.layer}, {index}: matrix times values differs from the model's output by {error:.1e} of "
                f"its largest value, more than {_TOLERANCE:.0e}"
            )
        return MixerMatrix(matrix, values, outputs, error)

    def _hyena(self, channel: int) -> NDArray[np.float64]:
        gates = [gate[channel] for gate in self._gates]
        matrix: NDArray[np.float64] | None = None if self.config.leading_conv else np.diag(gates[0])
        for n, gate in enumerate(gates if self.config.leading_conv else gates[1:]):
            toeplitz = _toeplitz(self._kernels[n, channel], self._skips[n, channel])
            if matrix is None:
                matrix = toeplitz
            elif n == 0:
                matrix = toeplitz * gates[0]  # a diagonal matrix on the right scales columns
            else:
                matrix = toeplitz @ matrix
            matrix = gate[:, None] * matrix
        assert matrix is not None
        return matrix

    def _attention(self, head: int) -> NDArray[np.float64]:
        scores = self._query[head] @ self._key[head].T / np.sqrt(self._query.shape[-1])
        scores[np.triu_indices(len(scores), 1)] = -np.inf
        weights: NDArray[np.float64] = np.exp(scores - scores.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        return weights

    def mean_share(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """How each output position divides its attention among the past, on average over channels or heads.

        The absolute entries of each row are divided by their sum; an attention head's rows are so already. Channels
        of a Hyena operator may weigh positions negatively, which this leaves out.

        Args:
            indices: channels or heads, at least one.

        Returns:
            (length, length), rows sum to 1 (to 0 where a row of a channel vanishes).
        """
        total = np.zeros((self.u.shape[1],) * 2)
        for index in indices:
            sizes = np.abs(self.matrix(index).matrix)
            sums = sizes.sum(1, keepdims=True)
            total += np.divide(sizes, sums, out=np.zeros_like(sizes), where=sums > 0)
        return total / len(indices)


def _toeplitz(kernel: NDArray[np.float64], skip: float) -> NDArray[np.float64]:
    length = len(kernel)
    padded = np.concatenate([kernel[::-1], np.zeros(length - 1)])
    rows = np.lib.stride_tricks.sliding_window_view(padded, length)[::-1].copy()
    rows[np.diag_indices(length)] += skip
    return rows


def view_mixer(model: HyenaDNA, input_ids: NDArray[np.uint8], layer: int) -> MixerView:
    """Run a model on one sequence and look at the mixer of one block.

    Example:
        >>> view = view_mixer(model, model.tokenizer.encode("ACGT" * 100), layer=1)
        >>> view.matrix(view.strongest(1)[0]).matrix.shape
        (400, 400)

    Args:
        model: in evaluation mode.
        input_ids: (length,) token ids.
        layer: number of the block, from 1.

    Raises:
        InputError: there is no such block, or the sequence is empty or longer than `LONGEST_MATRIX` or the model.
    """
    if not 1 <= layer <= model.config.n_layer:
        raise InputError(f"layer {layer}: the model has blocks 1 to {model.config.n_layer}")
    if len(input_ids) > LONGEST_MATRIX:
        raise InputError(f"{len(input_ids):,} bp are too many for a matrix", remedy=f"at most {LONGEST_MATRIX:,} bp")
    block = model.backbone.layers[layer - 1]
    mixer = block.mixer
    assert isinstance(mixer, HyenaOperator | Attention)
    seen: list[torch.Tensor] = []
    handle = mixer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    device = model.lm_head.weight.device
    try:
        with high_precision(device):
            model.hidden(torch.from_numpy(input_ids)[None].to(device))
    finally:
        handle.remove()
    return MixerView(mixer, model.config, layer, seen[0])
