"""Memory of an embedding run: freed blocks go back, regions are small, and four times the windows take no more."""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from hyena_dna.genome.interval import Interval
from hyena_dna.genome.region_collector import Region
from hyena_dna.inference.embed_regions import PackedRegions
from hyena_dna.inference.embedding import Embedder, EmbeddingSpec
from hyena_dna.inference.inputs import numbered, sequence_chunks
from hyena_dna.inference.layers import Layers
from hyena_dna.inference.pooling import Pool
from hyena_dna.model.checkpoint import save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA

STATUS = Path("/proc/self/status")
pytestmark = pytest.mark.skipif(
    not STATUS.exists() or "RssAnon" not in STATUS.read_text(), reason="memory is read from Linux's /proc"
)


@pytest.mark.parametrize("pool", [Pool("mean"), Pool("bins", 3), Pool("mean+max"), Pool("mean+std")])
def test_results_of_batches_stay_in_one_block(pool: Pool) -> None:
    torch.manual_seed(0)
    model = HyenaDNA(HyenaConfig(d_model=8, n_layer=1, max_length=66)).eval()
    embedder = Embedder(model, EmbeddingSpec(Layers("last"), pool), batch_size=2)
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACGT"), size)) for size in rng.integers(3, 150, 20)]
    (chunk,) = sequence_chunks(numbered(texts))
    plan = embedder.plan(chunk)
    assert len(plan.batches) > 5
    running = embedder.launch(plan)
    assert len(running.parts) == 1
    alone = [embedder.embed(next(sequence_chunks(numbered([text])))).vectors[0] for text in texts]
    np.testing.assert_allclose(embedder.finish(running).vectors, alone, atol=1e-5)


def test_packed_regions_are_those_that_were_packed() -> None:
    regions = [
        Region(Interval("chr1", 5, 9, "-"), "a", "x", "train"),
        Region(Interval("chr2", 1 << 40, (1 << 40) + 7, "."), "naïve", None, None),
        Region(Interval("chr1", 0, 1, "+"), "", "y", None),
    ]
    packed = PackedRegions(regions)
    assert list(packed) == regions == list(packed)
    assert (len(packed), packed.bases) == (3, 12)


def test_a_packed_region_takes_less_than_a_hundred_bytes() -> None:
    count = 20_000
    tracemalloc.start()
    try:
        packed = PackedRegions(
            Region(Interval("chr1", 7 * n, 7 * n + 5), f"chr1:{7 * n}-{7 * n + 5}", "x") for n in range(count)
        )
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(packed) == count
    assert used < 100 * count


def peak_of(command: Sequence[str]) -> float:
    """The most anonymous memory of a process, in MiB: the pages of mapped files are the system's to take back."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    most = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = status.read_text().split("RssAnon:")
        most = max(most, int(lines[1].split()[0]) if len(lines) > 1 else 0)
        time.sleep(0.01)
    assert process.stderr is not None
    assert process.returncode == 0, process.stderr.read()
    return most / 1024


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["parquet", "npz", "h5ad"])
def test_four_times_the_windows_take_no_more_memory(suffix: str, tmp_path: Path) -> None:
    if suffix == "h5ad":
        pytest.importorskip("h5py")
    torch.manual_seed(0)
    save_model(HyenaDNA(HyenaConfig(d_model=64, n_layer=1, max_length=130)), tmp_path / "m")
    rng = np.random.default_rng(0)
    bases = bytes(rng.choice(np.frombuffer(b"ACGT", np.uint8), 1_000_000))
    (tmp_path / "genome.fa").write_bytes(b">chr1\n" + bases + b"\n")

    # Chunks of 256 windows, so that what varies, how far cutting, computing and writing overlap, is small.
    program = (
        "import sys; from hyena_dna.inference.inputs import ChunkLimits; from pipelines.cli import main; "
        "ChunkLimits.__new__.__defaults__ = (256, *ChunkLimits.__new__.__defaults__[1:]); main()"
    )

    def peak(count: int) -> float:
        starts, sizes = rng.integers(0, 999_000, count), rng.integers(20, 60, count)
        (tmp_path / "r.bed").write_text(
            "".join(f"chr1\t{start}\t{start + size}\tr{start}\n" for start, size in zip(starts, sizes, strict=True))
        )
        files = {"--model": "m", "--genome": "genome.fa", "--regions": "r.bed", "-o": f"out.{suffix}"}
        named = [part for option, name in files.items() for part in (option, str(tmp_path / name))]
        options = ["--pool", "bins:16", "--device", "cpu", "--threads", "1", "--force", "--quiet"]
        return peak_of([sys.executable, "-c", program, "embed", *named, *options])

    peak(1)  # makes the store of the genome
    # From six chunks on everything that runs side by side is full. To keep the vectors of the other 9,216 windows, of
    # 4 kB, would take 36 MiB; by how much threads overlap, peaks of the same run differ by up to 15.
    few, many = peak(3_072), peak(12_288)
    assert many - few < 24, f"{few:.0f} MiB for 3,072 windows, {many:.0f} MiB for 12,288"
