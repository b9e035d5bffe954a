"""The least bytes and operations that a piece of the model needs, and how fast a machine could move and do them.

The plan behind the bytes is an ideal fusion: one kernel from the residual stream to the gated input of the long
convolution, one for the convolution with skip term and gate, one for the output projection, one for the MLP; the
backward pass reads what these kept and computes the rest again on chip. On a GPU, transforms that do not fit a
multiprocessor write their intermediates once.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from hyena_dna.benchmark.workload import Workload
from hyena_dna.model.config import HyenaConfig
from hyena_dna.ops.cpu_linear import linear

__all__ = ["Floor", "Machine", "floor", "measure_machine"]

_ON_CHIP = 32_768


@dataclass(frozen=True)
class Floor:
    """Bytes to move and floating-point operations to do."""

    bytes: float
    flops: float

    def seconds(self, machine: Machine) -> float:
        """The least time: both at full speed, at once."""
        return max(self.bytes / machine.bandwidth, self.flops / machine.flops)


@dataclass(frozen=True)
class Machine:
    """What a device can do.

    Attributes:
        bandwidth: bytes per second, read and written together.
        flops: floating-point operations per second of matrix products.
        source: where the numbers come from.
    """

    bandwidth: float
    flops: float
    source: str


def floor(workload: Workload, config: HyenaConfig, *, value_bytes: int, tensor_cores: bool) -> Floor:
    """The floor of a piece of work of the Hyena model of order 2; other orders and attention have none here.

    Args:
        workload: what is done.
        config: the architecture.
        value_bytes: bytes of an activation.
        tensor_cores: whether transforms are products with Fourier matrices of radix 32, 8 * 32 operations per point
            and stage, as on a GPU, or butterflies, 5 log2(n) per point.
    """
    width, tokens, length, batch = config.d_model, workload.tokens, workload.length, workload.batch
    stream = tokens * width * value_bytes  # one activation tensor, U
    filters = length * width * value_bytes  # one filter tensor, K
    spill = tensor_cores and length > _ON_CHIP
    cached = not workload.backward
    transform = (51.2 if tensor_cores else 5.0) * math.log2(max(2, length)) * length * width
    network = 2 * length * (
        config.filter_emb_dim * config.filter_order
        + config.filter_num_inner_mlps * config.filter_order**2
        + config.filter_order * width
    )  # fmt: skip
    if workload.level == "operator":
        # Inputs and filters in, outputs out; in the backward pass inputs, gradients and filters in, two gradients out.
        forward = Floor(2 * stream + 4 * length * width, (2 * batch + 1) * transform)
        if not workload.backward:
            return forward
        return Floor(
            forward.bytes + 3 * stream + 8 * length * width + spill * (16 * stream + 6 * filters),
            forward.flops + (3 * batch + 2) * transform,
        )
    # In evaluation the spectra of the filters are there already and are only read.
    mixer = Floor(
        (9 + 8 * spill) * stream + ((2 if cached else 4) + (0 if cached else 4) * spill) * filters,
        8 * width**2 * tokens + (2 * batch + (0 if cached else 1)) * transform + (0 if cached else network),
    )
    mlp = Floor(2 * stream, 4 * width * config.d_inner * tokens)
    if workload.backward:
        mixer = Floor(
            mixer.bytes + (13 + 16 * spill) * stream + (6 + 6 * spill) * filters,
            mixer.flops + 22 * width**2 * tokens + (3 * batch + 2) * transform + 2 * network,
        )
        mlp = Floor(mlp.bytes + 3 * stream, mlp.flops + 10 * width * config.d_inner * tokens)
    if workload.level == "mixer":
        return mixer
    block = Floor(mixer.bytes + mlp.bytes, mixer.flops + mlp.flops)
    if workload.level == "block":
        return block
    ends = 4 if workload.backward else 2
    return Floor(config.n_layer * block.bytes + ends * stream, config.n_layer * block.flops)


def measure_machine(device: torch.device, dtype: torch.dtype) -> Machine:
    """Measure a large copy and a large square matrix product: the best of a few."""
    large = device.type == "cuda"
    source = torch.empty(1 << (30 if large else 26), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    side = 8192 if large else 1536
    left = torch.randn(side, side, device=device, dtype=dtype)
    copy = _best(lambda: target.copy_(source), device)
    with torch.no_grad():
        product = _best(lambda: linear(left, left, left[0]), device)
    return Machine(2 * source.nbytes / copy, 2 * side**3 / product, "measured: copy, and square matrix product")


def _best(function: object, device: torch.device) -> float:
    assert callable(function)
    best = math.inf
    for _ in range(8):
        began = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best
