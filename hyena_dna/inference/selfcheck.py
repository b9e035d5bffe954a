"""Does this installation compute what it promises? Short checks of a model on this machine.

Each check returns a `Check` and never raises for a wrong number. The thresholds are the promises of the package: the
long convolution within 1e-5 of float64, causality within rounding, equal scores for equal windows, the same score for
a sequence and its reverse complement when both strands are averaged, and the same logits on every device.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from hyena_dna.inference.likelihood import log_likelihood
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.presets import PRESETS
from hyena_dna.ops.long_conv import long_conv
from hyena_dna.paths import cache_root
from hyena_dna.tokenizer import BASE_IDS, Tokenizer

__all__ = ["Check", "check_files", "check_memory", "check_model", "forward_bytes"]

CONVOLUTION_ERROR = 1e-5
CAUSALITY_ERROR = 5e-5
DEVICE_ERROR = 1e-3
STRAND_ERROR = 1e-6
LENGTH = 512


class Check(NamedTuple):
    """One finding: what was checked, whether it holds (None: information only), and the measured figure."""

    name: str
    ok: bool | None
    detail: str


def check_model(model: HyenaDNA, device: torch.device) -> Iterator[Check]:
    """Check a model's arithmetic on a device: convolution, causality, equal windows, strands, parity with the CPU.

    Args:
        model: a model on the CPU in evaluation mode; it is moved to `device` and back.
        device: where to check.
    """
    generator = torch.Generator().manual_seed(0)
    length = min(LENGTH, model.config.max_length)
    ids = torch.tensor(BASE_IDS)[torch.randint(4, (2, length), generator=generator)]
    with torch.inference_mode():
        expected = model(ids).logits
        model.to(device)
        try:
            yield _check_convolution(device, generator)
            logits = model(ids.to(device)).logits
            finite = bool(torch.isfinite(logits).all())
            yield Check("finite outputs", finite, f"{logits.numel():,} logits")
            if device.type != "cpu":
                error = _relative(logits.cpu(), expected)
                yield Check(f"same logits on {device} as on cpu", error <= DEVICE_ERROR, f"relative error {error:.1e}")
            yield _check_causality(model, ids.to(device), logits)
            yield _check_equal_windows(model, ids.to(device))
            yield _check_strands(model, ids.to(device))
        finally:
            model.to("cpu")


def _relative(value: torch.Tensor, expected: torch.Tensor) -> float:
    return float((value.double() - expected.double()).norm() / expected.double().norm())


def _check_convolution(device: torch.device, generator: torch.Generator) -> Check:
    # An odd, awkward length, so that padding and FFT size matter.
    u = torch.randn(1, 8, 1021, generator=generator)
    kernel = torch.randn(8, 1021, generator=generator)
    exact = long_conv(u.double(), kernel.double(), impl="reference")
    # The one for inputs of this size, and the one for larger ones.
    found = [long_conv(u.to(device), kernel.to(device), impl=impl).cpu() for impl in ("rfft", "fft")]
    error = max(_relative(value, exact) for value in found)
    return Check("long convolution against its definition", error <= CONVOLUTION_ERROR, f"relative error {error:.1e}")


def _check_causality(model: HyenaDNA, ids: torch.Tensor, logits: torch.Tensor) -> Check:
    middle = ids.shape[1] // 2
    changed = ids.clone()
    changed[:, middle:] = changed[:, middle:].flip(0)
    before = logits[:, :middle]
    leak = float((model(changed).logits[:, :middle] - before).abs().max() / before.abs().max())
    return Check("a change leaves what is before it unchanged", leak <= CAUSALITY_ERROR, f"largest change {leak:.1e}")


def _check_equal_windows(model: HyenaDNA, ids: torch.Tensor) -> Check:
    difference = log_likelihood(model, ids) - log_likelihood(model, ids.clone())
    largest = float(difference.abs().max())
    return Check("equal windows score exactly zero", largest == 0, f"largest difference {largest:.1e} nats")


def _check_strands(model: HyenaDNA, ids: torch.Tensor) -> Check:
    def both(forward: np.ndarray) -> torch.Tensor:
        strands = (forward, Tokenizer().reverse_complement(forward))
        scores = [log_likelihood(model, torch.from_numpy(s.copy()).long().to(ids.device)) for s in strands]
        return (scores[0] + scores[1]) / 2

    forward = ids.cpu().numpy().astype(np.uint8)
    there, back = both(forward), both(Tokenizer().reverse_complement(forward))
    error = float(((there - back) / there).abs().max())
    return Check("both strands score the same", error <= STRAND_ERROR, f"relative difference {error:.1e}")


def check_files() -> Iterator[Check]:
    """Check that the cache folder can be written and has room."""
    folder = cache_root()
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    writable = os.access(existing, os.W_OK | os.X_OK)
    free = shutil.disk_usage(existing).free
    state = "writable" if writable else "not writable"
    yield Check("cache folder", writable, f"{folder}, {state}, {free / 1e9:.0f} GB free")


def forward_bytes(config: HyenaConfig, length: int) -> int:
    """An upper estimate of the memory of one float32 forward pass without gradients over one window, in bytes.

    The widest moment of a block: the residual stream and the block's input, the mixer's projections before and after
    the short convolution, the filters, and the transforms of one group of channels.
    """
    streams = 2 + 2 * (config.order + 1) + (config.order - 1) + 1
    return 4 * length * config.d_model * streams + (1 << 30)


def check_memory(device: torch.device) -> Iterator[Check]:
    """Say for each published preset whether a forward pass over its whole context fits into free memory now."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        # What can be had without swapping, the page cache included; free pages alone would say far too little.
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    for name, config in PRESETS.items():
        needed = forward_bytes(config, config.max_length)
        verdict = "fits" if needed <= free else "does not fit"
        detail = f"{config.max_length:,} bp needs about {needed / 2**30:.1f} GiB of {free / 2**30:.1f} free: {verdict}"
        yield Check(f"{name} on {device}", None, detail)
