"""Slow, independent definitions of the Hyena operator, in float64 NumPy with explicit loops and matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hyena_dna.model.config import HyenaConfig

Array = NDArray[np.float64]


def causal_convolution(u: Array, kernel: Array, skip: Array) -> Array:
    """(batch, channels, length), (channels, length), (channels,) -> (batch, channels, length), term by term."""
    y = np.zeros_like(u)
    batch, channels, length = u.shape
    for b in range(batch):
        for c in range(channels):
            for t in range(length):
                for s in range(t + 1):
                    y[b, c, t] += kernel[c, t - s] * u[b, c, s]
                y[b, c, t] += skip[c] * u[b, c, t]
    return y


def short_convolution(u: Array, weight: Array, bias: Array) -> Array:
    """Depthwise cross-correlation over a left-padded sequence: the last tap meets the present."""
    length = u.shape[-1]
    taps = weight.shape[-1]
    y = np.zeros_like(u)
    for t in range(length):
        y[:, :, t] = bias
        for tap in range(taps):
            source = t - (taps - 1) + tap
            if source >= 0:
                y[:, :, t] += weight[:, 0, tap] * u[:, :, source]
    return y


def filters(config: HyenaConfig, weights: Mapping[str, Array], length: int) -> Array:
    """(n_filters, d_model, length) from the published formula, one position after the other."""
    bands = (config.filter_emb_dim - 1) // 2
    channels = config.n_filters * config.d_model
    frequencies = np.linspace(1e-4, bands - 1, bands)
    if config.filter_waves == "octaves":
        longest = math.ceil(math.log2(config.max_length))
        periods = [2 ** round(longest + (2 - longest) * i / (bands - 1)) for i in range(bands)]
        frequencies = config.max_length / np.array(periods)
    fall = -math.log(config.modulation_target)
    spaced = np.geomspace if config.modulation_rates == "geometric" else np.linspace
    rates = spaced(fall / config.modulation_slow_decay, fall / config.modulation_fast_decay, channels)
    freq = weights["implicit_filter.1.freq"][0]
    depth = 2 * config.filter_num_inner_mlps
    columns = []
    for n in range(length):
        t = n / (config.max_length - 1)
        turn = np.exp(-1j * frequencies * 2 * math.pi * n / config.max_length)
        x = np.concatenate([[t], turn.real, turn.imag])
        for layer in range(0, depth + 1, 2):
            prefix = f"implicit_filter.{layer}"
            x = np.sin(freq * (weights[f"{prefix}.weight"] @ x + weights[f"{prefix}.bias"]))
        window = np.exp(-t * np.abs(rates)) + config.modulation_shift
        columns.append((weights[f"implicit_filter.{depth + 2}.weight"] @ x) * window)
    return np.stack(columns, axis=-1).reshape(config.n_filters, config.d_model, length)


def toeplitz(kernel: Array, skip: float) -> Array:
    """The matrix S of one channel: kernel[t - s] below and on the diagonal, plus the skip weight on the diagonal."""
    length = len(kernel)
    matrix = np.zeros((length, length))
    for t in range(length):
        for s in range(t + 1):
            matrix[t, s] = kernel[t - s] + (skip if t == s else 0.0)
    return matrix


def hyena(config: HyenaConfig, weights: Mapping[str, Array], u: Array) -> Array:
    """The whole mixer, (batch, length, d_model) -> the same, as H(u) = D S D ... applied to v as matrices."""
    batch, length, width = u.shape
    projected = (u @ weights["in_proj.weight"].T + weights["in_proj.bias"]).transpose(0, 2, 1)
    groups = short_convolution(projected, weights["short_filter.weight"], weights["short_filter.bias"])
    *stored_gates, v = np.split(groups, config.order + 1, axis=1)
    gates = stored_gates[::-1]  # x^1 .. x^N
    bank = {name.removeprefix("filter_fn."): value for name, value in weights.items() if name.startswith("filter_fn.")}
    kernels = filters(config, bank, length)
    skips = bank["bias"].reshape(config.n_filters, width)
    y = np.zeros((batch, length, width))
    for b in range(batch):
        for c in range(width):
            matrix = np.eye(length)
            if config.leading_conv:
                for n in range(config.order):
                    matrix = np.diag(gates[n][b, c]) @ toeplitz(kernels[n, c], skips[n, c]) @ matrix
            else:
                matrix = np.diag(gates[0][b, c])
                for n in range(1, config.order):
                    matrix = np.diag(gates[n][b, c]) @ toeplitz(kernels[n - 1, c], skips[n - 1, c]) @ matrix
            y[b, :, c] = matrix @ v[b, c]
    return y @ weights["out_proj.weight"].T + weights["out_proj.bias"]
