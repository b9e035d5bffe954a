"""The Hyena recurrence, from normalised states to the output of the mixer, through fused kernels.

What `hyena_dna.model.operator.HyenaOperator` computes step by step in PyTorch, which is the definition that this is
tested against. Kept for the backward pass are the projections, what comes out of the long convolutions, spectra of what
goes into them, and the last gated product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from hyena_dna.ops.fused_filter import FilterNetwork, fused_filter, fused_filter_backward
from hyena_dna.ops.fused_rows import add_bias, column_sums
from hyena_dna.ops.long_conv.monarch import (
    Source,
    Spectrum,
    convolve,
    convolve_backward,
    convolve_keeping,
    monarch_spectrum,
    wants_peaks,
)
from hyena_dna.ops.projected_groups import Groups, GroupSums
from hyena_dna.ops.scaled_kernel import ScaledKernel
from hyena_dna.ops.short_conv import MOST_FUSED_TAPS

__all__ = ["MixerWeights", "fused_mixer", "network_spectra"]

# Length from which on a product of its own keeps a GPU busy for every sequence.
_OWN_PRODUCT = 16_384
# Sequences up to which that is so for sums over positions as well.
_FEW_PRODUCTS = 4


class MixerWeights(NamedTuple):
    """Parameters of one mixer, G = order + 1 groups of d_model channels: x^N to x^1, then v."""

    in_weight: torch.Tensor
    """(G * d_model, d_model)"""

    in_bias: torch.Tensor
    """(G * d_model,)"""

    short_weight: torch.Tensor
    """(G * d_model, 1, taps), at most `MOST_FUSED_TAPS` taps"""

    short_bias: torch.Tensor
    """(G * d_model,)"""

    out_weight: torch.Tensor
    """(d_model, d_model)"""

    out_bias: torch.Tensor | None
    """(d_model,), or None"""

    def cast(self, dtype: torch.dtype) -> MixerWeights:
        """With linear layers in the dtype that they run in."""
        bias = None if self.out_bias is None else self.out_bias.to(dtype)
        return self._replace(in_weight=self.in_weight.to(dtype), out_weight=self.out_weight.to(dtype), out_bias=bias)


def fused_mixer(
    u: torch.Tensor,
    weights: MixerWeights,
    kernels: torch.Tensor | FilterNetwork | Sequence[Spectrum],
    skips: torch.Tensor,
    *,
    leading_conv: bool,
    padding: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mix positions: projections, short convolutions, gates, long convolutions, output projection.

    Linear layers run in the dtype of `u`, everything between them accumulates in float32. Differentiable once in `u`,
    the weights, kernels (or what makes them) and skips. Deterministic.

    Args:
        u: (batch, length, d_model), bfloat16 or float16 (float32 works too).
        weights: the parameters, any floating dtype.
        kernels: (filters, d_model, length), float32; or the network that makes them, of filters * d_model channels; or
            spectra, to which no gradient flows, of kernels and skips.
        skips: (filters, d_model).
        leading_conv: whether the recurrence starts with a convolution (the Hyena paper's form).
        padding: (batch, length), true where a row has ended, or None.

    Returns:
        (batch, length, d_model), in the dtype of `u`.

    Raises:
        ValueError: the short filter has too many taps.
    """
    taps = weights.short_weight.shape[-1]
    if taps > MOST_FUSED_TAPS:
        raise ValueError(f"the fused mixer takes short filters of up to {MOST_FUSED_TAPS} taps, not {taps}")
    network = spectra = None
    made_of: tuple[torch.Tensor, ...] = ()
    if isinstance(kernels, torch.Tensor):
        made_of = (kernels,)
    elif isinstance(kernels, FilterNetwork):
        network, made_of = kernels, kernels.weights
    else:
        spectra = tuple(kernels)
    # Within the function autograd is off, so it could not tell.
    wanted = spectra is None and any(value.requires_grad for value in (*made_of, skips))
    form = _Form(network, spectra, leading_conv, padding, keep=torch.is_grad_enabled() and wanted)
    if not torch.is_grad_enabled():
        weights = weights.cast(u.dtype)
        return _project_out(_mix(form, u, weights, skips, made_of).last, weights)
    y: torch.Tensor = _FusedMixer.apply(form, u, *weights, skips, *made_of)  # type: ignore[no-untyped-call]
    return y


class _Form(NamedTuple):
    """What a mixer is given that gets no gradient."""

    network: FilterNetwork | None
    spectra: tuple[Spectrum, ...] | None
    leading_conv: bool
    padding: torch.Tensor | None
    keep: bool
    """Whether kernels or skips want a gradient."""


class _Passed(NamedTuple):
    """What a mixer makes on its way."""

    projected: torch.Tensor
    """(batch, G * d_model, length), before its bias."""

    last: torch.Tensor
    """(batch, d_model, length), the last gated product."""

    convolved: list[torch.Tensor]
    """Outputs of the long convolutions, (batch, d_model, length)."""

    spectra: tuple[Spectrum, ...]
    """Of their kernels."""

    sources: list[Source]
    """Of their inputs, where asked for."""


def _mix(
    form: _Form, u: torch.Tensor, weights: MixerWeights, skips: torch.Tensor, made_of: Sequence[torch.Tensor]
) -> _Passed:
    """All but the output projection, with `weights` in the dtype of u."""
    spectra, leading_conv = form.spectra, form.leading_conv
    if form.network is not None:
        spectra = network_spectra(form.network, skips)
    elif spectra is None:
        spectra = tuple(monarch_spectrum(*pair) for pair in zip(*made_of, skips, strict=True))
    batch, length, _ = u.shape
    projected = torch.bmm(weights.in_weight.expand(batch, -1, -1), u.transpose(1, 2))
    groups = _groups(projected, weights)
    with_peaks = wants_peaks(length)
    z, peak = groups.gate(groups.count - 1, None if leading_conv else groups.count - 2, with_peaks=with_peaks)
    sources, convolved = [], []
    for index, spectrum in enumerate(spectra):
        if form.padding is not None:
            z.masked_fill_(form.padding[:, None], 0)
        if form.keep:
            y, source = convolve_keeping(z, spectrum, peak)
            sources.append(source)
        else:
            y = convolve(z, spectrum, peak)
        convolved.append(y)
        is_last = index == len(spectra) - 1
        z, peak = groups.gate(_gate(groups, index, leading_conv), y, with_peaks=with_peaks and not is_last)
    return _Passed(projected, z, convolved, spectra, sources)


class _FusedMixer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, form: _Form, u: torch.Tensor, *rest: Any) -> torch.Tensor:
        given, (skips, *made_of) = rest[:6], rest[6:]
        weights = MixerWeights(*given).cast(u.dtype)
        passed = _mix(form, u, weights, skips, made_of)
        # Of kernels no value is needed again, only what makes them.
        parameters = [] if form.network is None else made_of
        # The last gated product is asked for by the gradient of the output projection alone.
        last = passed.last if ctx.needs_input_grad[6] else None
        ctx.save_for_backward(
            u, *weights, passed.projected, last, *parameters, *passed.convolved,
            *(part for spectrum in passed.spectra for part in (spectrum.values, spectrum.bound)),
            *(part for source in passed.sources for part in (source.values, source.scale)),
        )  # fmt: skip
        network = form.network and form.network._replace(weights=())
        ctx.form = form._replace(spectra=None, network=network)
        ctx.parameters, ctx.filters = len(parameters), len(passed.spectra)
        ctx.dtypes = [None if value is None else value.dtype for value in given]
        ctx.skips_dtype, ctx.kernels_dtype = skips.dtype, made_of[0].dtype if made_of else None
        return _project_out(passed.last, weights)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        u, *rest = ctx.saved_tensors
        weights, (projected, last, *tail) = MixerWeights(*rest[:6]), rest[6:]
        (network, _, leading_conv, padding, _), filters = ctx.form, ctx.filters
        parameters, tail = tail[: ctx.parameters], tail[ctx.parameters :]
        convolved, flat, sources = tail[:filters], tail[filters : 3 * filters], tail[3 * filters :]
        with_peaks = wants_peaks(u.shape[1])
        groups = _groups(projected, weights)
        sums = GroupSums(groups)
        grad = grad.to(u.dtype)
        d_z = torch.matmul(weights.out_weight.t(), grad.transpose(1, 2))
        d_out_weight = None if last is None else _summed_product(grad.transpose(1, 2), last.transpose(1, 2))
        d_kernels: list[ScaledKernel] = []
        for index in reversed(range(filters)):
            gate = _gate(groups, index, leading_conv)
            found = groups.gate_gradients(gate, convolved[index], d_z, sums)
            assert found is not None
            d_convolved, d_peak = found.values, found.peaks.amax(2) if with_peaks else None
            # Not to be alive beside what the convolution takes.
            del d_z, found
            pair = slice(2 * index, 2 * index + 2)
            source = Source(*sources[pair]) if sources else None
            spectrum, half = Spectrum(*flat[pair]), network is not None
            d_z, d_kernel = convolve_backward(d_convolved, source, spectrum, d_peak, half=half)
            if padding is not None:
                d_z.masked_fill_(padding[:, None], 0)
            if d_kernel is not None:
                d_kernels.insert(0, d_kernel)
        groups.gate_gradients(groups.count - 1, None if leading_conv else groups.count - 2, d_z, sums)
        d_projected = sums.projected
        d_in_weight = _summed_product(d_projected, u)
        d_u = torch.matmul(d_projected.transpose(1, 2), weights.in_weight)
        gradients = (
            d_in_weight,
            sums.in_bias,
            sums.taps[:, None],
            sums.bias,
            d_out_weight,
            None if weights.out_bias is None else column_sums(grad),
        )
        typed = (None if value is None else value.to(dtype) for value, dtype in zip(gradients, ctx.dtypes, strict=True))
        of_made: list[torch.Tensor] | list[None] = [None] * (len(ctx.needs_input_grad) - 9)
        if not d_kernels:
            return None, d_u, *typed, None, *of_made
        # The skip term is a part of the kernel's first value.
        d_skips = torch.stack([values[:, 0] * scale for values, scale in d_kernels]).to(ctx.skips_dtype)
        if any(ctx.needs_input_grad[9:]):
            values, scale = (parts[0] if filters == 1 else torch.cat(parts) for parts in zip(*d_kernels, strict=True))
            if network is None:
                of_made = [values.unflatten(0, d_skips.shape).to(ctx.kernels_dtype)]
            else:
                network = network._replace(weights=tuple(parameters))
                of_made = fused_filter_backward(network, ScaledKernel(values, scale))
        return None, d_u, *typed, d_skips, *of_made


def network_spectra(network: FilterNetwork, skips: torch.Tensor) -> tuple[Spectrum, ...]:
    """Spectra of the kernels that a network makes, one for each row of skips (filters, d_model). Without autograd."""
    values, scales = (part.chunk(len(skips)) for part in fused_filter(network))
    return tuple(monarch_spectrum(*filter_) for filter_ in zip(values, skips, scales, strict=True))


def _groups(projected: torch.Tensor, weights: MixerWeights) -> Groups:
    return Groups(
        projected, weights.in_bias, weights.short_weight.flatten(1), weights.short_bias, len(weights.out_weight)
    )


def _gate(groups: Groups, index: int, leading_conv: bool) -> int:
    """The group that gates the output of convolution `index`."""
    return groups.count - (2 if leading_conv else 3) - index


def _project_out(z: torch.Tensor, weights: MixerWeights) -> torch.Tensor:
    weight, bias = weights.out_weight.t(), weights.out_bias
    batch, channels, length = z.shape
    if length < _OWN_PRODUCT and batch > 1:
        y = torch.bmm(z.transpose(1, 2), weight.expand(batch, -1, -1))
        return y if bias is None else add_bias(y, bias)
    # The product of one sequence's matrix adds a bias for nothing, that of a batch of them does not.
    y = z.new_empty((batch, length, channels))
    for sequence, out in zip(z, y, strict=True):
        if bias is None:
            torch.mm(sequence.t(), weight, out=out)
        else:
            torch.addmm(bias, sequence.t(), weight, out=out)
    return y


def _summed_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The sum of the products of two batches of matrices, float32."""
    if len(a) == 1:
        return torch.mm(a[0], b[0]).float()
    if len(a) > _FEW_PRODUCTS:
        return torch.bmm(a, b).sum(0, dtype=torch.float32)
    # A product for itself is cut along its sum, of which only a batch of many leaves enough to do without.
    return torch.stack([torch.mm(*pair) for pair in zip(a, b, strict=True)]).sum(0, dtype=torch.float32)
