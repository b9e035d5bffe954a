"""Speed and memory of the way from a FASTA file to windows of tokens.

    python tests/benchmarks/genome_store.py --size 3100 --folder /scratch
    python tests/benchmarks/genome_store.py --genome hg38.fa.gz

Without `--genome` a genome is written first: 24 contigs, 60 bases a line, a third of it soft-masked, the beginning of
each contig N; it is removed afterwards. The cache is a fresh folder, so the file is read, checked, indexed and encoded
for the first time, in a child process of its own whose peak of anonymous memory is taken from /proc. Windows are then
cut from the store in batches of 4 Mbp, half of them reverse-complemented, with the soft mask, into memory that is
reused. Every figure is the best of `--repeats`, by wall time unless CPU is said, on one core. Page caches are warm: a
slower disk decides itself. Prints one Markdown table.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyfaidx

from hyena_dna.datasets.store import TokenStore, cut_windows
from hyena_dna.genome.reference import Reference


def write_genome(path: Path, megabases: int, width: int = 60) -> None:
    """Write a random genome of 24 contigs."""
    rng = np.random.default_rng(0)
    rows = megabases * 1_000_000 // 24 // width
    step = 1 << 18
    with open(path, "wb") as handle:
        for contig in range(24):
            handle.write(b">chr%d generated\n" % (contig + 1))
            for row in range(0, rows, step):
                count = min(step, rows - row)
                lines = np.empty((count, width + 1), np.uint8)
                lines[:, :width] = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, (count, width), np.uint8)]
                lines[: count // 3, :width] |= 0x20
                if row == 0:
                    lines[: rows // 10, :width] = ord("N")
                lines[:, width] = 10
                handle.write(lines.tobytes())


def build(genome: Path, cache: str, results: multiprocessing.SimpleQueue[tuple[float, float, float, int]]) -> None:
    """Make the store in a fresh cache; put wall and CPU seconds, peak RssAnon in MiB, and the number of bases."""
    os.environ["XDG_CACHE_HOME"] = cache
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    peak = max(peak, int(line.split()[1]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, cpu = time.perf_counter(), time.process_time()
    store = TokenStore.for_reference(Reference(genome))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    done.set()
    watcher.join()
    results.put((wall, cpu, peak / 1024, store.total))


def measure_build(genome: Path, folder: Path, repeats: int) -> tuple[float, float, float, int]:
    """Best of several builds, each in a fresh process and cache; the largest peak of memory."""
    found = []
    for _ in range(repeats):
        cache = tempfile.mkdtemp(dir=folder)
        context = multiprocessing.get_context("spawn")
        results: multiprocessing.SimpleQueue[tuple[float, float, float, int]] = context.SimpleQueue()
        process = context.Process(target=build, args=(genome, cache, results))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(process.exitcode)
        found.append(results.get())
        shutil.rmtree(cache)
    wall, cpu, _, total = min(found)
    return wall, cpu, max(peak for _, _, peak, _ in found), total


def best(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest run."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def measure_windows(store: TokenStore, window: int, repeats: int) -> float:
    """Gbp/s of cutting random windows, half of them reversed."""
    rng = np.random.default_rng(window)
    batch = max(4, (1 << 22) // window)
    starts = rng.integers(0, store.total - window, batch)
    reverse = rng.random(batch) < 0.5
    out = cut_windows(store.tokens, starts, None, window, reverse)
    work = functools.partial(cut_windows, store.tokens, starts, None, window, reverse, out=out)
    return batch * window / best(work, repeats) / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genome", type=Path, action="append", help="measure this file; may be given several times")
    parser.add_argument("--size", type=int, default=300, help="size of the generated genome in Mbp (default 300)")
    parser.add_argument("--folder", type=Path, default=Path(), help="where to write (default here)")
    parser.add_argument("--repeats", type=int, default=3, help="take the best of this many (default 3)")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        genomes = options.genome
        if genomes is None:
            genomes = [Path(scratch) / f"generated_{options.size}M.fa"]
            write_genome(genomes[0], options.size)
        lines = ["| what | figure |", "|---|---|"]
        for genome in genomes:
            wall, cpu, peak, total = measure_build(genome, Path(scratch), options.repeats)
            speeds = f"{wall:.2f} s, {total / wall / 1e6:.0f} Mbp/s; CPU {cpu:.2f} s, {total / cpu / 1e6:.0f} Mbp/s"
            lines.append(f"| {genome.name}, {total / 1e6:.0f} Mbp: checked, indexed, encoded, first time | {speeds} |")
            lines.append(f"| {genome.name}: peak anonymous memory | {peak:.0f} MiB |")
        os.environ["XDG_CACHE_HOME"] = scratch
        reference = Reference(genomes[-1])
        store = TokenStore.for_reference(reference)
        again = best(lambda: TokenStore.for_reference(Reference(genomes[-1])), options.repeats)
        lines.append(f"| {genomes[-1].name}: opened again | {again * 1000:.1f} ms |")
        for window in (1_024, 32_768, 1_000_000):
            rate = measure_windows(store, window, options.repeats)
            lines.append(f"| windows of {window:,} bp, half reverse-complemented, with soft mask | {rate:.2f} Gbp/s |")

    versions = f"Python {platform.python_version()}, numpy {np.__version__}, pyfaidx {pyfaidx.__version__}"
    sys.stdout.write("\n".join([*lines, "", f"{cpu_name()}, {os.cpu_count()} cores; {versions}", ""]))


def cpu_name() -> str:
    """The processor, as Linux names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
