"""Checks and times the fused layers of variant scoring on a GPU, for several ways of cutting them into programs.

    python tests/benchmarks/linear.py
    python tests/benchmarks/linear.py --length 1024 --batch 256

Every fused layer is compared with float64 on part of the rows, and the run stops where one is wrong. Then it is timed
beside PyTorch's float32 operators that do the same: medians of ten runs, in ms. One table, one row for each way, the
one in use first; errors are the largest relative ones of a row's layers, as ratios of norms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch.nn import functional as F

from hyena_dna.ops.fused_gate import Projection, ReferenceCut, fused_change
from hyena_dna.ops.fused_linear import TILES, Tiles, fused_linear, row_moments, split_linear
from hyena_dna.ops.short_conv import short_conv

BOUND = 1e-5
"""Largest relative error of any way; that of the one in use has to be below 2e-6."""


class Way(NamedTuple):
    """How linear layers run: parts in float16 where inputs have a bound, and the tiles."""

    half: bool
    tiles: Tiles


WAYS = [
    Way(True, TILES),
    Way(True, Tiles(rows=64, outputs=128, depth=32, apart=True, warps=4, stages=3)),
    Way(True, Tiles(rows=128, outputs=128, depth=64, apart=True, warps=8, stages=2)),
    Way(True, Tiles(rows=256, outputs=128, depth=32, apart=False, warps=8, stages=3)),
    Way(False, TILES),
    Way(False, Tiles(rows=256, outputs=128, depth=32, apart=False, warps=8, stages=2)),
]
PAST, ALLELES = 2, 3


class Layer(NamedTuple):
    """A fused layer, PyTorch's form of it, and that form in float64 for the rows in front."""

    fused: Callable[[Way], torch.Tensor]
    plain: Callable[[], torch.Tensor]
    exact: Callable[[], torch.Tensor]


def milliseconds(run: Callable[[], object]) -> float:
    """Median of ten runs after two."""
    times = []
    for _ in range(12):
        torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[2:])


def layers(batch: int, length: int, width: int, device: torch.device) -> dict[str, Layer]:
    """The four linear layers of a block, as scoring runs them."""
    torch.manual_seed(0)
    norm = torch.nn.LayerNorm(width, device=device)
    torch.nn.init.normal_(norm.weight, 1.0, 0.1)
    shapes = {"in": (3 * width, width), "out": (width, width), "fc1": (4 * width, width), "fc2": (width, 4 * width)}
    weights = {name: torch.randn(shape, device=device) * shape[1] ** -0.5 for name, shape in shapes.items()}
    biases = {name: torch.randn(shape[0], device=device) for name, shape in shapes.items()}
    normed = width**0.5
    bounds = {"in": normed, "fc1": normed, "fc2": 8 * normed}
    split = {
        (name, half): split_linear(
            weights[name], biases[name], norm if name in ("in", "fc1") else None,
            bound=bounds.get(name) if half else None,
        )
        for name in shapes
        for half in (False, True)
    }  # fmt: skip
    stream = torch.randn(batch, PAST + length, width, device=device)
    mixed = torch.randn(batch, width, length, device=device)
    middle = torch.randn(1, batch * (PAST + length), 4 * width, device=device)
    rows, scratch = stream.view(1, -1, width), stream.clone()
    room = torch.empty(batch, 3 * width, -(-(PAST + length) // 16) * 16, device=device)[..., : PAST + length]
    few = min(batch, 2)
    some = few * (PAST + length)

    def exact_norm(x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x.double(), (width,), norm.weight.double(), norm.bias.double(), norm.eps)

    def exact_linear(x: torch.Tensor, name: str, bias: bool = True) -> torch.Tensor:
        return F.linear(x.double(), weights[name].double(), biases[name].double() if bias else None)

    def fused_in(way: Way) -> torch.Tensor:
        moments = row_moments(stream, norm.eps)
        return fused_linear(stream, split["in", way.half], moments=moments, out=room.transpose(1, 2), tiles=way.tiles)[
            :few
        ]

    def plain_in() -> torch.Tensor:
        return torch.bmm(weights["in"].expand(batch, -1, -1), norm(stream).transpose(1, 2))

    def fused_out(way: Way) -> torch.Tensor:
        return fused_linear(
            mixed.transpose(1, 2), split["out", False], out=scratch[:, PAST:], add=True, tiles=way.tiles
        )[:few]

    def plain_out() -> torch.Tensor:
        weight = weights["out"].T.expand(batch, -1, -1)
        return scratch[:, PAST:].baddbmm_(mixed.transpose(1, 2), weight).add_(biases["out"])

    def exact_out() -> torch.Tensor:
        scratch.copy_(stream)
        return scratch[:few, PAST:].double() + exact_linear(mixed[:few].transpose(1, 2), "out")

    def fused_fc1(way: Way) -> torch.Tensor:
        moments = row_moments(rows, norm.eps)
        return fused_linear(rows, split["fc1", way.half], moments=moments, gelu=True, out=middle, tiles=way.tiles)[
            :, :some
        ]

    def plain_fc1() -> torch.Tensor:
        return F.gelu(F.linear(norm(rows), weights["fc1"], biases["fc1"]), approximate="tanh")

    def fused_fc2(way: Way) -> torch.Tensor:
        return fused_linear(middle, split["fc2", way.half], out=scratch.view(1, -1, width), add=True, tiles=way.tiles)[
            :, :some
        ]

    def plain_fc2() -> torch.Tensor:
        return scratch.view(1, -1, width).add_(F.linear(middle, weights["fc2"], biases["fc2"]))

    def exact_fc2() -> torch.Tensor:
        scratch.copy_(stream)
        return scratch.view(1, -1, width)[:, :some].double() + exact_linear(middle[:, :some], "fc2")

    return {
        "in": Layer(fused_in, plain_in, lambda: exact_linear(exact_norm(stream[:few]), "in")),
        "out": Layer(fused_out, plain_out, exact_out),
        "fc1": Layer(
            fused_fc1, plain_fc1,
            lambda: F.gelu(exact_linear(exact_norm(rows[:, :some]), "fc1"), approximate="tanh"),
        ),
        "fc2": Layer(fused_fc2, plain_fc2, exact_fc2),
    }  # fmt: skip


def gates(batch: int, length: int, width: int, device: torch.device) -> dict[str, Layer]:
    """The two gates of a block of order 2, before and after its long convolution."""
    batch = batch // ALLELES * ALLELES
    values = torch.randn(2, batch, width, PAST + length, device=device)
    in_bias, bias = torch.randn(2, width, device=device)
    taps = torch.randn(width, PAST + 1, device=device)
    a, b = (Projection(one, in_bias, taps, bias) for one in values)
    change = torch.randn(batch, width, 2 * length, device=device)[..., :length]
    result, source = torch.randn(2, 2, width, length + 1000, device=device)
    places = batch // ALLELES
    window, start = torch.arange(places, device=device) % 2, torch.arange(places, device=device) * 7
    cut = ReferenceCut(window, start, torch.zeros_like(start), ALLELES)
    room = torch.zeros(batch, width, 2 * length, device=device)[..., :length]
    out = torch.empty(batch, width, length, device=device)

    def of(x: torch.Tensor) -> torch.Tensor:
        parts = x.unfold(2, length, 1).permute(0, 2, 1, 3)[window, start]
        return parts[:, None].expand(-1, ALLELES, -1, -1)

    def short(p: Projection, dtype: torch.dtype, count: int = batch) -> torch.Tensor:
        x = p.values[:count].to(dtype)
        return short_conv(x + in_bias.to(dtype)[:, None], taps.to(dtype)[:, None], bias.to(dtype))[..., PAST:]

    def plain_before() -> torch.Tensor:
        product = short(a, torch.float32).mul_(short(b, torch.float32))
        return torch.sub(
            product.view(places, ALLELES, width, length), of(source), out=room.view(-1, *of(source).shape[1:])
        )

    def plain_after() -> torch.Tensor:
        whole = change.view(places, ALLELES, width, length) + of(result)
        return short(a, torch.float32).view_as(whole) * whole

    few = ALLELES
    return {
        "gate before": Layer(
            lambda _: fused_change(a, b, cut, room, source=source)[:few],
            plain_before,
            lambda: short(a, torch.float64, few) * short(b, torch.float64, few) - of(source)[0].double(),
        ),
        "gate after": Layer(
            lambda _: fused_change(a, change, cut, out, result=result)[:few],
            plain_after,
            lambda: short(a, torch.float64, few) * (change[:few].double() + of(result)[0].double()),
        ),
    }


def error(layer: Layer, way: Way) -> float:
    """Relative error of one run; `exact` comes first, as it resets what the layer adds to."""
    expected = layer.exact()
    found = layer.fused(way).double()
    return float((found - expected).norm() / expected.norm())


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="rows of a batch (default 64)")
    parser.add_argument("--length", type=int, default=4096, help="scored positions of each (default 4096)")
    parser.add_argument(
        "--d-model", type=int, default=256, help="channels; d_inner is four times as many (default 256)"
    )
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this needs a GPU")
    torch.set_float32_matmul_precision("highest")
    device = torch.device("cuda")
    shape = (options.batch, options.length, options.d_model)
    with torch.inference_mode():
        linears, others = layers(*shape, device), gates(*shape, device)
        names = [*linears, *others]
        lines = ["| | " + " | ".join(names) + " | linear layers | TFLOP/s | error |", "|---" * (len(names) + 4) + "|"]
        flops = 2 * options.batch * (options.length + PAST) * options.d_model**2 * 12
        plain = {name: milliseconds(layer.plain) for name, layer in (linears | others).items()}
        total = sum(plain[name] for name in linears)
        cells = [f"{plain[name]:.3f}" for name in names]
        lines.append(f"| PyTorch, float32 | {' | '.join(cells)} | {total:.3f} | {flops / total / 1e9:.0f} | |")
        gate_times = {name: milliseconds(partial(layer.fused, WAYS[0])) for name, layer in others.items()}
        gate_error = max(error(layer, WAYS[0]) for layer in others.values())
        for way in WAYS:
            worst = max(error(layer, way) for layer in linears.values())
            if not max(worst, gate_error) <= BOUND:
                sys.exit(f"{way} is wrong: relative errors {worst:.1e}, of gates {gate_error:.1e}")
            times = {name: milliseconds(partial(layer.fused, way)) for name, layer in linears.items()}
            total = sum(times.values())
            cells = [f"{spent:.3f}" for spent in (times | gate_times).values()]
            tiles, sums = way.tiles, "apart" if way.tiles.apart else "whole"
            cut = f"{'float16' if way.half else 'TF32'}, {tiles.rows} x {tiles.outputs} x {tiles.depth}, sums {sums}"
            cut += f", {tiles.warps} warps, {tiles.stages} stages"
            lines.append(f"| {cut} | {' | '.join(cells)} | {total:.3f} | {flops / total / 1e9:.0f} | {worst:.1e} |")
    sys.stdout.write("\n".join([*lines, f"gates: error {gate_error:.1e}", torch.cuda.get_device_name(), ""]))


if __name__ == "__main__":
    main()
