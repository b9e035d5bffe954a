"""Speed of `hyena-dna embed`, and of the same loop over another implementation of the model.

    python tests/benchmarks/embedding.py                                   # 100,000 windows, BED + bgzipped FASTA
    python tests/benchmarks/embedding.py --device cpu --windows 1000
    taskset -c 0 python tests/benchmarks/embedding.py --host               # all but the model, on one core
    python tests/benchmarks/embedding.py --device cpu --windows 256 --peer FOLDER

The first form writes a genome of `--size` Mbp, bgzips it, places windows of 1,024 bp on it at random, and runs the
command from files to .parquet in this process: once for the token store of the genome, then `--repeats` times. Weights
are random: they do not change the speed. Tokens are those of the windows; with `--strands mean` the model reads each
twice.

With `--host`, the model and its pooling are left out: what remains is reading, cutting, batching, putting vectors
together and writing, in batches of the size that a GPU takes; CPU time is given too, which other work on the machine
does not change.

With `--peer`, a folder with the official `standalone_hyenadna.py` (and, under `stubs`, what it imports), the same
windows go through the official model and through this one in the same loop, one after the other, forward strand, mean
over positions; both have the published tiny-1k shape. Figures are the best of `--repeats`. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import torch
from click.testing import CliRunner

from hyena_dna.datasets.cut import cut_windows
from hyena_dna.inference import runtime
from hyena_dna.inference.embedding import Embedder
from hyena_dna.model.checkpoint import save_model
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.presets import preset
from pipelines.embed import command

WINDOW = 1024


def write_inputs(folder: Path, megabases: int, windows: int) -> None:
    """A genome of one contig, bgzipped, and random windows on it."""
    rng = np.random.default_rng(0)
    total = megabases * 1_000_000
    with pysam.BGZFile(str(folder / "genome.fa.gz"), "wb", None) as handle:
        handle.write(b">chr1\n")
        for _ in range(0, total, 1_000_000):
            lines = np.full((10_000, 101), 10, np.uint8)
            lines[:, :100] = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, (10_000, 100), np.uint8)]
            handle.write(lines.tobytes())
    starts = rng.integers(0, total - WINDOW, windows).tolist()
    (folder / "windows.bed").write_text("".join(f"chr1\t{start}\t{start + WINDOW}\n" for start in starts))


def embed(folder: Path, *options: str) -> dict[str, Any]:
    """One run of the command; its summary, with the wall time from call to return."""
    arguments = ["--model", f"{folder}/model", "--genome", f"{folder}/genome.fa.gz", "--regions",
                 f"{folder}/windows.bed", "-o", f"{folder}/out.parquet", "--force", "--json", *options]  # fmt: skip
    began, busy = time.perf_counter(), time.process_time()
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary | {"wall": time.perf_counter() - began, "cpu": time.process_time() - busy}


def leave_the_model_out() -> None:
    """Make every embedder give zeros at once, in batches as on a GPU."""

    def nothing(self: Embedder, batch: object, rows: object, row: object, pieces: object, numbers: Any) -> torch.Tensor:
        return torch.zeros(len(numbers), self.spec.layers.count * self.model.config.d_model)

    Embedder._compute = nothing  # type: ignore[method-assign]
    runtime._BATCH_VALUES["cpu"] = runtime._BATCH_VALUES["cuda"]


def measure_command(options: argparse.Namespace) -> list[str]:
    """Rows of the table for the whole command."""
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        write_inputs(folder, options.size, options.windows)
        torch.manual_seed(0)
        save_model(HyenaDNA(preset(options.preset)), folder / "model")
        rest = ["--device", options.device, "--precision", options.precision, "--strands", options.strands]
        first = embed(folder, *rest)
        rows = [f"| first run, which also checks and encodes {options.size} Mbp | {first['wall']:.2f} s |"]
        best = min((embed(folder, *rest) for _ in range(options.repeats)), key=lambda found: float(found["wall"]))
        rate = best["bases"] / best["wall"] / 1e6
        what = f"{best['records']:,} windows of {WINDOW:,} bp, strands {options.strands}, {best['precision']}"
        rows.append(f"| {what}, BED + .fa.gz to .parquet | {best['wall']:.2f} s, {rate:.2f} M tokens/s |")
        if options.host:
            rows.append(f"| the same, CPU time | {best['cpu']:.2f} s, {best['bases'] / best['cpu'] / 1e6:.2f} Mbp/s |")
        return rows


def official(folder: Path) -> torch.nn.Module:
    """The official standalone model in the shape of tiny-1k, in evaluation mode."""
    sys.path[:0] = [str(folder), str(folder / "stubs")]
    module = importlib.import_module("standalone_hyenadna")
    shape = preset("tiny-1k")
    layer = {"emb_dim": 5, "filter_order": 64, "local_order": 3, "l_max": shape.max_length, "modulate": True, "w": 10,
             "lr": 6e-4, "wd": 0.0, "lr_pos_emb": 0.0}  # fmt: skip
    model: torch.nn.Module = module.HyenaDNAModel(
        d_model=shape.d_model, n_layer=shape.n_layer, d_inner=shape.d_inner, vocab_size=12,
        pad_vocab_size_multiple=8, layer=layer, resid_dropout=0.0, embed_dropout=0.1, residual_in_fp32=True,
    )  # fmt: skip
    return model.eval()


def measure_peer(options: argparse.Namespace) -> list[str]:
    """Rows of the table for the same loop over both models, batch sizes in turn."""
    torch.manual_seed(0)
    ours, theirs = HyenaDNA(preset("tiny-1k")).eval(), official(options.peer)
    tokens = np.random.default_rng(0).integers(7, 11, options.windows * WINDOW).astype(np.uint8)
    starts = np.arange(0, len(tokens), WINDOW)
    windows = torch.from_numpy(cut_windows(tokens, starts, None, WINDOW, np.zeros(len(starts), np.bool_)).ids)

    def loop(function: Callable[[torch.Tensor], torch.Tensor], batch: int) -> float:
        began = time.perf_counter()
        for start in range(0, len(windows), batch):
            function(windows[start : start + batch].long()).float().mean(1).numpy()
        return time.perf_counter() - began

    def low_precision(ids: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return ours.hidden(ids)

    rows = []
    with torch.inference_mode():
        for batch in (1, 4, 16, 64):
            seconds: dict[str, list[float]] = {"official": [], "fp32": [], "bf16": []}
            for _ in range(options.repeats + 1):
                # In turn, so that what else the machine does meets all of them.
                for name, function in (("official", theirs), ("fp32", ours.hidden), ("bf16", low_precision)):
                    seconds[name].append(loop(functools.partial(function), batch))
            best = {name: min(values[1:]) for name, values in seconds.items()}
            speeds = ", ".join(f"{name} {tokens.size / value / 1e3:.1f} k" for name, value in best.items())
            ratios = f"{best['official'] / best['fp32']:.2f} x, bf16 {best['official'] / best['bf16']:.2f} x"
            rows.append(f"| batch {batch}: tokens/s | {speeds}: {ratios} |")
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=100_000, help="number of windows (default 100,000)")
    parser.add_argument("--size", type=int, default=100, help="size of the genome in Mbp (default 100)")
    parser.add_argument("--preset", default="tiny-1k", help="shape of the model (default tiny-1k)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--strands", default="mean")
    parser.add_argument("--host", action="store_true", help="leave the model out, on one thread")
    parser.add_argument("--peer", type=Path, help="folder of the official standalone model")
    parser.add_argument("--folder", type=Path, default=Path(), help="where to write (default here)")
    parser.add_argument("--repeats", type=int, default=3, help="take the best of this many (default 3)")
    options = parser.parse_args()
    if options.host:
        options.device = "cpu"
        torch.set_num_threads(1)
        leave_the_model_out()
    rows = measure_peer(options) if options.peer else measure_command(options)
    place = torch.cuda.get_device_name() if torch.cuda.is_available() and options.device != "cpu" else "CPU"
    versions = (
        f"{place}, {torch.get_num_threads()} threads; Python {platform.python_version()}, torch {torch.__version__}"
    )
    sys.stdout.write("\n".join(["| what | figure |", "|---|---|", *rows, "", versions, ""]))


if __name__ == "__main__":
    main()
