"""A Hyena model that reads one token at a time, in O(length log^2 length) for the whole sequence.

A long convolution y_t = sum over s <= t of h_(t - s) z_s needs all earlier z for each new t. Relaxed (fractal) tiling
(van der Hoeven 1997; for these models Oncescu et al., "Flash Inference", arXiv 2410.12982) adds every product exactly
once, as early as its z is known, in square tiles: after n steps the last U = lowbit(n) inputs meet the next U outputs.
A tile of side U is a convolution by FFTs of size 2U, and side U comes up length / (2U) times. Within `BLOCK` steps
products are added one by one, which is cheaper than any transform. All layers and all filters share one tile, because
a tile needs only inputs that are known at the end of a step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch.fft import irfft, rfft
from torch.nn import functional as F

from hyena_dna.errors import InputError
from hyena_dna.inference.operator_matrix import Projections, project
from hyena_dna.model.block import Block
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.operator import HyenaOperator
from hyena_dna.ops.long_conv import long_conv
from hyena_dna.ops.workspace import rows_per_chunk

__all__ = ["BLOCK", "Decoder"]

BLOCK = 32
"""Steps between two tiles, and the side of the smallest tile."""

# Runs that are shorter do not earn back what capturing a graph costs.
_GRAPH_STEPS = 8 * BLOCK

# The arithmetic of one position on a CPU, in multiply-adds, and the side of a tile, from which more threads than one
# are faster. With less, threads wait for each other: a busy machine took 20 times longer with two than with one.
_THREADED_STEP = 1 << 24
_THREADED_SIDE = 2048

Choose = Callable[[torch.Tensor, int], torch.Tensor]
"""(batch, vocab) logits and the number of the step within its block -> (batch,) int64 ids of the next tokens."""


class _Step(NamedTuple):
    """Views of a layer's buffers for one step of a block: making them anew costs as much as the arithmetic."""

    now: torch.Tensor
    """(batch, (order + 1) * d_model): where the projections of this position go."""

    recent: tuple[torch.Tensor, ...]
    """Projections under each tap."""

    streams: tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], ...]
    """Per filter: place of the input z; sums of this and the later steps of the block; the kernel's values for these;
    the sum of this step."""


class _Layer(NamedTuple):
    """One block's parameters, as a single position uses them."""

    block: Block
    mixer: HyenaOperator
    taps: tuple[torch.Tensor, ...]
    """Of the short convolution, oldest first, each (channels,)."""

    projected: torch.Tensor
    """(taps - 1 + BLOCK, batch, (order + 1) * d_model): the block's projections, after the last ones before it."""

    steps: tuple[_Step, ...]


class Decoder:
    """Reads tokens one by one and gives the logits that the model gives for the whole sequence.

    Example:
        >>> decoder = Decoder(model, batch=4, steps=1000)
        >>> first = decoder.prefill(prompts)  # (4, vocab) logits of the token after each prompt
        >>> rows, ids = decoder.run(first.argmax(-1), lambda logits, step: logits.argmax(-1))

    Use it inside `high_precision`: it computes in the dtype of the weights.

    Args:
        model: a Hyena model in evaluation mode, float32 or float64.
        batch: sequences side by side.
        steps: most tokens that are read after the prompt.

    Raises:
        InputError: the model has another mixer.
    """

    def __init__(self, model: HyenaDNA, batch: int, steps: int) -> None:
        config = model.config
        if config.mixer != "hyena":
            raise InputError("only a model with the Hyena mixer has long convolutions to evaluate step by step")
        self.model, self.batch, self.steps = model, batch, steps
        self._device, self._dtype = model.lm_head.weight.device, model.lm_head.weight.dtype
        self._blocks = -(-steps // BLOCK)
        streams, width, taps = config.n_layer * config.n_filters, config.d_model, config.short_filter_length
        # What is still to come of each output (before its step), then its input (after it): one buffer for both.
        self._history = self._new(streams, batch, width, self._blocks * BLOCK)
        self._sums = self._new(streams, BLOCK, batch, width)
        self._inputs = self._new(streams, BLOCK, batch, width)
        self._kernels = self._new(streams, width, self._blocks * BLOCK)
        self._near = self._new(streams, BLOCK, 1, width)
        self._ids = torch.zeros(BLOCK + 1, batch, dtype=torch.int64, device=self._device)
        self._logits = self._new(BLOCK, batch, config.vocab_size)
        self._head = model.lm_head.weight[: config.vocab_size].T
        self._spectra: dict[int, torch.Tensor] = {}
        self._layers: list[_Layer] = []
        for block in model.backbone.layers:
            assert isinstance(block, Block)
            assert isinstance(block.mixer, HyenaOperator)
            weights = block.mixer.short_filter.weight.squeeze(1).unbind(-1)
            projected = self._new(taps - 1 + BLOCK, batch, (config.order + 1) * width)
            first = len(self._layers) * config.n_filters
            views = [self._views(projected, range(first, first + config.n_filters), step) for step in range(BLOCK)]
            self._layers.append(_Layer(block, block.mixer, weights, projected, tuple(views)))
        self._id_rows, self._logit_rows = self._ids.unbind(), self._logits.unbind()
        self._read_kernels()

    def _new(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=self._dtype, device=self._device)

    def _views(self, projected: torch.Tensor, streams: range, step: int) -> _Step:
        taps = self.model.config.short_filter_length
        pieces = [
            (self._inputs[i, step], self._sums[i, step:], self._near[i, : BLOCK - step], self._sums[i, step])
            for i in streams
        ]
        return _Step(projected[step + taps - 1], projected[step : step + taps].unbind(), tuple(pieces))

    def _read_kernels(self) -> None:
        config = self.model.config
        # Steps beyond the model's length are computed where a last block is whole, and thrown away.
        length = min(self._kernels.shape[-1], config.max_length)
        for index, layer in enumerate(self._layers):
            part = slice(index * config.n_filters, (index + 1) * config.n_filters)
            if length:
                self._kernels[part, :, :length] = layer.mixer.filter_fn(length)
        near = self._kernels[..., :BLOCK].permute(2, 0, 1)
        if near.shape[0]:
            self._near.copy_(near[:, :, None].transpose(0, 1))
            skips = [layer.mixer.filter_fn.skips for layer in self._layers]
            self._near[:, 0, 0] += torch.cat(skips)

    def clear(self) -> None:
        """Begin a sequence without a prompt."""
        self._history.zero_()
        for layer in self._layers:
            layer.projected.zero_()

    def prefill(self, prompts: torch.Tensor) -> torch.Tensor:
        """Read whole prompts at once, and what they add to all later steps.

        Args:
            prompts: (batch, length) token ids, at least one each.

        Returns:
            (batch, vocab_size) logits of the token after each prompt.

        Raises:
            InputError: prompts and steps together are longer than the model.
        """
        config = self.model.config
        length, longest = prompts.shape[1], config.max_length
        self.clear()
        if length + self.steps > longest:
            raise InputError(f"{length + self.steps:,} tokens are to be read, the model takes at most {longest:,}")
        kept = config.short_filter_length - 1
        hidden, residual = self.model.backbone.embeddings(prompts), None
        for index, layer in enumerate(self._layers):
            residual = hidden if residual is None else hidden + residual
            projections = project(layer.mixer, layer.block.norm1(residual))
            if kept:
                last = projections.raw[..., -kept:]
                layer.projected[kept - last.shape[-1] : kept] = last.permute(2, 0, 1)
            mixed = self._read_prompt(index, layer.mixer, projections)
            residual = residual + F.linear(
                mixed.transpose(1, 2), layer.mixer.out_proj.weight, layer.mixer.out_proj.bias
            )
            hidden = layer.block.mlp(layer.block.norm2(residual))
        assert residual is not None
        logits: torch.Tensor = self.model.backbone.ln_f((hidden + residual)[:, -1]) @ self._head
        return logits

    def _read_prompt(self, index: int, mixer: HyenaOperator, projections: Projections) -> torch.Tensor:
        """The mixer's recurrence over the prompt; what it adds to later steps goes into the history."""
        config = self.model.config
        z = projections.value
        length = z.shape[-1]
        kernels = mixer.filter_fn(length + self.steps)
        skips = mixer.filter_fn.skips
        for n, gate in enumerate(projections.gates):
            convolution = n if config.leading_conv else n - 1
            if convolution >= 0:
                after = F.pad(z, (0, self.steps))
                after = long_conv(after, kernels[convolution], skips[convolution], precision="high")
                history = self._history[index * config.n_filters + convolution]
                history[..., : self.steps] = after[..., length:]
                z = after[..., :length]
            z = z * gate
        return z

    def run(
        self, ids: torch.Tensor, choose: Choose, *, before_block: Callable[[int, int], None] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read tokens and choose the ones after them, `steps` times.

        Args:
            ids: (batch,) tokens that follow the prompts.
            choose: makes the next tokens of the logits; on a GPU it is recorded once and played back, so it may use
                only tensors that stay where they are.
            before_block: called with the first step and the number of steps of every block, to fill such tensors.

        Returns:
            logits (steps, batch, vocab_size) after each token that was read, and (steps, batch) the chosen ids.
        """
        logits = self._new(self.steps, self.batch, self._logits.shape[-1])
        chosen = torch.zeros(self.steps, self.batch, dtype=torch.int64, device=self._device)
        graph = self._record(choose) if self._device.type == "cuda" and self.steps >= _GRAPH_STEPS else None
        config = self.model.config
        wide = self.batch * config.d_model * (config.d_model + config.d_inner) >= _THREADED_STEP
        self._ids[BLOCK] = ids
        for block in range(self._blocks):
            start = block * BLOCK
            count = min(BLOCK, self.steps - start)
            if before_block is not None:
                before_block(start, count)
            self._ids[0] = self._ids[BLOCK]
            self._sums.copy_(self._history[..., start : start + BLOCK].permute(0, 3, 1, 2))
            if graph is None:
                with _threads(wide):
                    self._steps(count, choose)
            else:
                graph.replay()
            self._history[..., start : start + BLOCK] = self._inputs.permute(0, 2, 3, 1)
            logits[start : start + count] = self._logits[:count]
            chosen[start : start + count] = self._ids[1 : count + 1]
            if block + 1 < self._blocks:
                with _threads(((block + 1) & -(block + 1)) * BLOCK * self.batch >= _THREADED_SIDE):
                    self._add_tile(block + 1)
        return logits, chosen

    def _record(self, choose: Choose) -> torch.cuda.CUDAGraph:
        """One block as a graph of kernels, which starts without a call from Python for each of them."""
        kept = [layer.projected.clone() for layer in self._layers]
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            self._steps(BLOCK, choose)
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._steps(BLOCK, choose)
        for layer, projected in zip(self._layers, kept, strict=True):
            layer.projected.copy_(projected)
        return graph

    def _steps(self, count: int, choose: Choose) -> None:
        """Read `count` tokens, from the first of `_ids`."""
        embed = self.model.backbone.embeddings.word_embeddings.weight
        ln_f = self.model.backbone.ln_f
        kept = self.model.config.short_filter_length - 1
        for step in range(count):
            residual = embed.index_select(0, self._id_rows[step])
            for layer in self._layers:
                residual = self._step(layer, layer.steps[step], residual)
            hidden = F.layer_norm(residual, ln_f.normalized_shape, ln_f.weight, ln_f.bias, ln_f.eps)
            logits = torch.mm(hidden, self._head, out=self._logit_rows[step])
            self._id_rows[step + 1].copy_(choose(logits, step))
        for layer in self._layers:
            if kept:
                layer.projected[:kept] = layer.projected[count : count + kept].clone()

    def _step(self, layer: _Layer, step: _Step, residual: torch.Tensor) -> torch.Tensor:
        """One block at one position: (batch, d_model) -> (batch, d_model)."""
        config, block, mixer = self.model.config, layer.block, layer.mixer
        norm1, norm2, mlp = block.norm1, block.norm2, block.mlp
        u = F.layer_norm(residual, norm1.normalized_shape, norm1.weight, norm1.bias, norm1.eps)
        torch.addmm(mixer.in_proj.bias, u, mixer.in_proj.weight.T, out=step.now)
        short = mixer.short_filter.bias
        assert short is not None
        for projected, tap in zip(step.recent, layer.taps, strict=True):
            short = torch.addcmul(short, projected, tap)
        *gates, z = torch.split(short, config.d_model, dim=-1)
        streams = iter(step.streams)
        for n, gate in enumerate(reversed(gates)):
            if n or config.leading_conv:
                known, sums, kernel, total = next(streams)
                known.copy_(z)
                sums.addcmul_(kernel, z)
                z = total
            z = z * gate
        residual = residual + F.linear(z, mixer.out_proj.weight, mixer.out_proj.bias)
        hidden = F.layer_norm(residual, norm2.normalized_shape, norm2.weight, norm2.bias, norm2.eps)
        hidden = F.gelu(F.linear(hidden, mlp.fc1.weight, mlp.fc1.bias), approximate="tanh")
        output: torch.Tensor = residual + F.linear(hidden, mlp.fc2.weight, mlp.fc2.bias)
        return output

    def _add_tile(self, blocks: int) -> None:
        """After `blocks` whole blocks, let the last inputs meet as many outputs."""
        side = (blocks & -blocks) * BLOCK
        now, end = blocks * BLOCK, min(blocks * BLOCK + side, self._history.shape[-1])
        streams, batch, width, _ = self._history.shape
        rows = rows_per_chunk(self._device, 4 * streams * (batch + 1) * 2 * side * self._dtype.itemsize)
        for first in range(0, width, rows):
            part = slice(first, first + rows)
            spectrum = rfft(self._history[:, :, part, now - side : now], n=2 * side)
            spectrum *= self._spectrum(side, part)[:, None]
            # Of the circular convolution, the second half alone is free of what wraps around.
            self._history[:, :, part, now:end] += irfft(spectrum, n=2 * side)[..., side : side + end - now]

    def _spectrum(self, side: int, part: slice) -> torch.Tensor:
        """(streams, channels of the part, side + 1) transforms of the kernels' first 2 * side values."""
        if 4 * side > self._kernels.shape[-1]:
            # Such a tile comes up once or twice.
            spectrum: torch.Tensor = rfft(self._kernels[:, part, : 2 * side], n=2 * side)
            return spectrum
        if side not in self._spectra:
            self._spectra[side] = rfft(self._kernels[..., : 2 * side], n=2 * side)
        return self._spectra[side][:, part]


@contextlib.contextmanager
def _threads(several: bool) -> Iterator[None]:
    """Compute with one CPU thread unless `several` pay."""
    before = torch.get_num_threads()
    if several or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
