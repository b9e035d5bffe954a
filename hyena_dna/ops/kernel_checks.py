"""Fused kernels against float64 on small inputs, once for every device before they are used.

Compilers and drivers differ between machines; a kernel that one of them gets wrong is found here, and not in a result.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from hyena_dna.ops import fused_filter, fused_linear, fused_mixer
from hyena_dna.ops.long_conv import monarch
from hyena_dna.ops.long_conv.plain import plain_long_conv

__all__ = [
    "LINEAR_TOLERANCE",
    "MIXER_TOLERANCE",
    "TOLERANCE",
    "convolution_error",
    "filter_error",
    "linear_error",
    "mixer_error",
    "wrong_kernel",
]

TOLERANCE = 3e-3
"""Rounding of float16 operands gives up to 1e-3; a wrong kernel gives more than this."""

MIXER_TOLERANCE = 1e-2
"""Gradients of hidden layers of filters are chains of TF32 products, 1.5e-3 on an H200; a wrong kernel gives more."""

LINEAR_TOLERANCE = 5e-6
"""Split operands give below 1e-6; a term of their product left out gives 3e-4."""


def wrong_kernel(device: torch.device) -> str | None:
    """What is wrong with the first kernels that fail; None where all are right."""
    checks = (
        ("long convolutions", convolution_error, TOLERANCE),
        ("filters", filter_error, TOLERANCE),
        ("mixers", mixer_error, MIXER_TOLERANCE),
        ("linear layers", linear_error, LINEAR_TOLERANCE),
    )
    with torch.cuda.device(device):
        for name, check, limit in checks:
            error = check(device)
            # Written so that NaN fails.
            if not error <= limit:
                return f"{name} are computed wrong (relative error {error:.1e})"
    return None


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def convolution_error(device: torch.device) -> float:
    """Largest relative error of fused long convolutions, in one kernel and in three, against float64."""
    generator = torch.Generator(device).manual_seed(0)
    worst = 0.0
    for length in (1_000, 5_000):
        u = torch.randn(2, 2, length, device=device, generator=generator)
        kernel = torch.randn(2, length, device=device, generator=generator)
        expected = plain_long_conv(u.double(), kernel.double())
        worst = max(worst, _error(monarch.monarch_long_conv(u, kernel), expected))
    return worst


def filter_error(device: torch.device) -> float:
    """Relative error against float64 of fused filters on ten octaves, at positions from 0 to 999."""
    generator = torch.Generator(device).manual_seed(0)
    bands = 0.5 ** torch.arange(2, 12, device=device)
    shape = fused_filter.FilterShape(1000, 1000.0, 0.05, octaves=True)
    network = _network(shape, bands, 10.0, generator)
    values, scale = fused_filter.fused_filter(network)
    return _error(values * scale[:, None], _exact_filters(network))


def _network(
    shape: fused_filter.FilterShape, bands: torch.Tensor, frequency: float, generator: torch.Generator
) -> fused_filter.FilterNetwork:
    """A network of one inner layer and 16 channels."""
    device = bands.device

    def draw(*size: int, std: float) -> torch.Tensor:
        return torch.randn(*size, device=device, generator=generator) * std

    features = 2 * len(bands) + 1
    weights = (
        draw(64, features, std=0.1), draw(64, std=0.02), torch.full((1, 64), frequency, device=device),
        draw(64, 64, std=0.02), draw(64, std=0.02), draw(16, 64, std=0.1),
    )  # fmt: skip
    return fused_filter.FilterNetwork(shape, bands, torch.linspace(3, 15, 16, device=device), weights)


def _exact_filters(network: fused_filter.FilterNetwork) -> torch.Tensor:
    """(16, length), float64; differentiable where weights are float64."""
    shape, bands, rates, weights = network
    first, first_bias, frequency, inner, inner_bias, last = (weight.double() for weight in weights)
    positions = torch.arange(shape.length, dtype=torch.float64, device=bands.device)
    time = positions / (shape.max_length - 1)
    angle = 2 * math.pi * positions[:, None] * bands.double() / (1 if shape.octaves else shape.max_length)
    x = torch.cat([time[:, None], angle.cos(), -angle.sin()], 1)
    for weight, bias in ((first, first_bias), (inner, inner_bias)):
        x = torch.sin(frequency * F.linear(x, weight, bias))
    window = torch.exp(-rates.double()[:, None] * time) + shape.shift
    return F.linear(last, x) * window


def mixer_error(device: torch.device) -> float:
    """Largest relative error against float64 of a fused mixer of order 2 and of all its gradients."""
    width, length = 16, 50
    groups = 3 * width
    generator = torch.Generator(device).manual_seed(0)
    shapes = (
        (2, length, width), (groups, width), (groups,), (groups, 1, 3), (groups,), (width, width), (width,), (1, width)
    )  # fmt: skip
    bands = torch.arange(1, 3, device=device).float()
    # A low frequency: what is asked here is whether a gradient is right, not how rounding is amplified.
    network = _network(fused_filter.FilterShape(length, float(length), 0.05), bands, 1.0, generator)
    leaves = [torch.randn(shape, device=device, generator=generator) for shape in shapes] + list(network.weights)
    leaves = [leaf.requires_grad_() for leaf in leaves]
    u, *weights, skips = leaves[: len(shapes)]
    network = network._replace(weights=tuple(leaves[len(shapes) :]))
    found = fused_mixer.fused_mixer(u, fused_mixer.MixerWeights(*weights), network, skips, leading_conv=False)
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    u, in_weight, in_bias, taps, short_bias, out_weight, out_bias, skips = wide[: len(shapes)]
    kernel = _exact_filters(network._replace(weights=tuple(wide[len(shapes) :])))
    projected = F.linear(u, in_weight, in_bias).transpose(1, 2)
    mixed = F.conv1d(projected, taps, short_bias, padding=taps.shape[-1] - 1, groups=groups)[..., :length]
    last, first, v = torch.split(mixed, width, dim=1)
    z = plain_long_conv(v * first, kernel, skips[0]) * last
    expected = F.linear(z.transpose(1, 2), out_weight, out_bias)
    grad = torch.randn(expected.shape, device=device, generator=generator)
    # Weighted sums: autograd's thread of a device warns when the first that it meets there is a product of matrices.
    pairs = zip(
        (found.detach(), *torch.autograd.grad((found * grad).sum(), leaves)),
        (expected.detach(), *torch.autograd.grad((expected * grad).sum(), wide)),
        strict=True,
    )
    # A maximum would lose a NaN.
    return float(torch.tensor([_error(*pair) for pair in pairs]).max())


def linear_error(device: torch.device) -> float:
    """Relative error against float64 of two linear layers, one of each format, with all that may surround them."""
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(2, 150, 256, device=device, generator=generator)
    weight = torch.randn(320, 256, device=device, generator=generator) / 16
    back = torch.randn(256, 320, device=device, generator=generator) / 16
    norm, zero = torch.nn.LayerNorm(256, device=device), torch.zeros(320, device=device)
    normed = F.layer_norm(x.double(), (256,), eps=norm.eps)
    middle = F.gelu(normed @ weight.double().T, approximate="tanh")
    expected = x.double() + middle @ back.double().T
    layer = fused_linear.split_linear(weight, zero, norm, bound=16.0)
    found = fused_linear.fused_linear(x, layer, moments=fused_linear.row_moments(x, norm.eps), gelu=True)
    # Channels first, as mixers hand them on.
    found = found.transpose(1, 2).contiguous().transpose(1, 2)
    found = fused_linear.fused_linear(found, fused_linear.split_linear(back, zero[:256]), out=x.clone(), add=True)
    return _error(found, expected)
