"""Speed of scoring SNVs by the delta method and by two whole passes, on both strands.

    python tests/benchmarks/variant_scoring.py --preset tiny-1k --window 1024
    python tests/benchmarks/variant_scoring.py --device cuda --preset large-1m --window 1000000
    python tests/benchmarks/variant_scoring.py --sites brca1_sge.vcf.gz --isolated 0

Weights are random and so are bases: neither changes the speed. Dense variants are three SNVs at every position of one
stretch, or those of `--sites`, by their POS; isolated ones are a million bases apart, so that each has reference
windows of its own. Windows are made beforehand; what is timed is `VariantScorer.score`, called with `--chunk` variants
at a time in order, reference passes included, after one untimed call on other variants. Before that, a few variants
are scored by both methods, and the run stops where they differ. Prints one Markdown table: dense, isolated and two-pass
figures, and what dense ones take without their reference passes; `--profile` adds the operators of these.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hyena_dna.datasets.alleles import AlleleWindows, WindowSpec
from hyena_dna.datasets.token_tiles import TokenTiles
from hyena_dna.genome.interval import Interval
from hyena_dna.genome.variants import Trimmed
from hyena_dna.inference.variant_scorer import Method, VariantScorer
from hyena_dna.model.device import select_device
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.presets import preset

AGREEMENT = 1e-3
"""Largest difference between the two methods, in nats; float32 passes over a million tokens are rounded as well."""


class Genome:
    """An endless contig of random bases, made where it is read."""

    def __init__(self, length: int) -> None:
        rng = np.random.default_rng(0)
        self._bases = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, 1 << 22)]
        self.contigs = {"chr1": length}

    def fetch(self, interval: Interval) -> bytes:
        """Bases of an interval; the same few million over and over."""
        return self._bases.take(np.arange(interval.start, interval.end), mode="wrap").tobytes()


def windows_of(genome: Genome, spec: WindowSpec, positions: Sequence[int], alleles: int) -> list[AlleleWindows]:
    """Windows of `alleles` SNVs at each 0-based position."""
    tiles = TokenTiles(genome.fetch, genome.contigs, spec)
    found = []
    for start in positions:
        ref = tiles.bases("chr1", start, start + 1).decode("ascii")
        alts = [base for base in "ACGT" if base != ref][:alleles]
        found += [tiles.windows("chr1", Trimmed(start, ref, alt)) for alt in alts]
    return found


def score(scorer: VariantScorer, windows: Sequence[AlleleWindows], chunk: int) -> np.ndarray:
    """Score both strands, some variants at a time; (variants,) mean LLR."""
    parts = []
    for start in range(0, len(windows), chunk):
        some = windows[start : start + chunk]
        found = scorer.score([one.forward for one in some] + [one.reverse for one in some])
        parts.append(found.llr.reshape(2, -1).mean(0))
    return np.concatenate(parts)


def rate(
    model: HyenaDNA,
    method: Method,
    windows: Sequence[AlleleWindows],
    other: Sequence[AlleleWindows],
    options: argparse.Namespace,
) -> str:
    """SNVs per second, and what it took."""
    scorer = VariantScorer(model, span=options.span, batch_size=options.batch_size, method=method)
    score(scorer, other, options.chunk)
    device = model.lm_head.weight.device
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    score(scorer, windows, options.chunk)
    seconds = time.perf_counter() - began
    peak = f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else ""
    return f"**{len(windows) / seconds:.1f} SNVs/s** ({len(windows):,} in {seconds:.1f} s{peak})"


def phases(model: HyenaDNA, windows: Sequence[AlleleWindows], options: argparse.Namespace) -> list[str]:
    """Table rows: what a first run takes, the same with its reference windows kept, and so the reference passes."""
    device = model.lm_head.weight.device
    scorer = VariantScorer(model, span=options.span, batch_size=options.batch_size)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        score(scorer, windows, options.chunk)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    kept = min(seconds[1:])
    keys = {one.key for pair in windows for one in (pair.forward, pair.reverse)}
    each = 1e3 * kept / (2 * len(windows))
    return [
        f"| dense, reference windows kept | {len(windows) / kept:.1f} SNVs/s, {each:.3f} ms an allele and strand |",
        f"| reference passes of {len(keys):,} windows, by difference | {max(0.0, seconds[0] - kept):.2f} s |",
    ]


def profile(model: HyenaDNA, windows: Sequence[AlleleWindows], options: argparse.Namespace) -> str:
    """Operators by their own time, when the reference windows are already known."""
    scorer = VariantScorer(model, span=options.span, batch_size=options.batch_size)
    score(scorer, windows, options.chunk)
    cuda = model.lm_head.weight.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as found:
        score(scorer, windows, options.chunk)
    order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    return str(found.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=80))


def read_sites(path: Path, most: int) -> list[int]:
    """0-based positions of the first records of a VCF, each once."""
    with gzip.open(path, "rt") as handle:
        positions = dict.fromkeys(int(line.split("\t", 2)[1]) - 1 for line in handle if not line.startswith("#"))
    return list(positions)[: max(1, most // 3)]


def machine(device: torch.device) -> str:
    """What this ran on, and with which versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    if device.type == "cpu" and os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{name}{threads}; Python {platform.python_version()}, torch {torch.__version__}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--preset", default="tiny-1k", help="dimensions of the model (default tiny-1k)")
    parser.add_argument("--window", type=int, default=1024, help="context in bp (default 1024)")
    parser.add_argument("--grid", type=int, help="windows start at multiples of this (default: as score-variants)")
    parser.add_argument("--span", type=int, default=4096, help="tokens scored (default 4096)")
    parser.add_argument("--dense", type=int, default=1800, help="dense variants, 0 to leave out (default 1800)")
    parser.add_argument("--isolated", type=int, default=200, help="isolated variants, 0 to leave out (default 200)")
    parser.add_argument("--two-pass", type=int, default=50, help="variants of the two-pass figure (default 50)")
    parser.add_argument("--check", type=int, default=4, help="variants scored by both methods first (default 4)")
    parser.add_argument("--chunk", type=int, default=1024, help="variants of one call (default 1024)")
    parser.add_argument("--batch-size", type=int, help="variants computed at once (default: by the device)")
    parser.add_argument("--sites", type=Path, help="take the places of dense variants from this VCF.gz")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--profile", action="store_true", help="print where the time of dense variants goes as well")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = select_device(options.device)
    torch.manual_seed(0)
    model = HyenaDNA(preset(options.preset)).eval().to(device)
    spec = WindowSpec.make(options.window, "center", options.grid)
    # Far from both ends, and not at a multiple of any grid.
    middle, apart = 3_000_001 + options.window, max(1_000_000, 2 * options.window)
    genome = Genome(middle * 2 + apart * (options.isolated + options.two_pass + 2))
    if options.sites:
        places = [middle + place for place in read_sites(options.sites, options.dense)]
    else:
        places = list(range(middle, middle + options.dense // 3))
    dense = windows_of(genome, spec, places, 3)
    warm = windows_of(genome, spec, [middle - 2_000_000 + step for step in range(100)], 3)

    lines = [
        f"| {options.preset}, window {spec.window:,}, grid {spec.grid:,}, span {options.span:,} | both strands |",
        "|---|---|",
    ]
    some = dense[:: max(1, len(dense) // max(1, options.check))][: options.check] if options.check else []
    if some:
        one, two = (
            score(
                VariantScorer(model, span=options.span, method=method),
                some,
                options.chunk,
            )
            for method in ("delta", "two_pass")
        )
        worst = float(np.abs(one - two).max())
        if not worst <= AGREEMENT:
            sys.exit(f"the methods differ by {worst:.1e} nats")
        lines.append(f"| largest difference between the methods, {len(some)} SNVs | {worst:.1e} nats |")
    if dense:
        what = f"SNVs of {options.sites.name}" if options.sites else "dense SNVs"
        lines.append(f"| delta, {what} | {rate(model, 'delta', dense, warm, options)} |")
        lines += phases(model, dense, options)
    if options.isolated:
        alone = windows_of(genome, spec, [2 * middle + apart * i for i in range(options.isolated)], 1)
        lines.append(f"| delta, isolated SNVs | {rate(model, 'delta', alone, warm[:3], options)} |")
    if options.two_pass:
        lines.append(f"| two passes | {rate(model, 'two_pass', dense[: options.two_pass], warm[:2], options)} |")
    sys.stdout.write("\n".join([*lines, "", machine(device), ""]))
    if options.profile and dense:
        sys.stdout.write(profile(model, dense, options) + "\n")


if __name__ == "__main__":
    main()
