"""What is measured: a piece of the model, at a length, by an implementation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from hyena_dna.errors import InputError
from hyena_dna.model.config import HyenaConfig

__all__ = ["LEVELS", "Contender", "Level", "Settings", "Sweep", "Workload", "parse_contender", "workloads"]

Level = Literal["operator", "mixer", "block", "forward", "forward-backward", "step", "embed"]
Sweep = Literal["tokens", "batch-1"]

LEVELS: tuple[Level, ...] = get_args(Level)
_PARTS = ("operator", "mixer", "block")
_OPTIONS = ("recompute", "fused")


@dataclass(frozen=True)
class Workload:
    """One piece of work.

    Attributes:
        level: `operator` is one long convolution of d_model channels; `mixer` and `block` one of the model's;
            `forward` the model in evaluation mode with head and loss; `forward-backward` and `step` in training mode,
            the latter with gradient clipping, AdamW and `zero_grad`, recorded as a CUDA graph where training does so;
            `embed` tokens on the host to mean vectors there.
        backward: whether gradients are computed too.
        sweep: `tokens`, where batch times length is constant, or `batch-1`.
        length: positions.
        batch: sequences.
    """

    level: Level
    backward: bool
    sweep: Sweep
    length: int
    batch: int

    @property
    def tokens(self) -> int:
        """Positions of all sequences."""
        return self.batch * self.length

    @property
    def title(self) -> str:
        """The level in words."""
        if self.level in _PARTS:
            return f"{self.level}, forward{' + backward' if self.backward else ''}"
        return {"forward": "model, forward", "forward-backward": "model, forward + backward", "step": "training step",
                "embed": "embedding"}[self.level]  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """An implementation.

    Attributes:
        base: `fast`, `high`, the name of an implementation of the long convolution, `plain`, `transformer`,
            `official` or `flashfftconv`.
        recompute: whether the inside of every block is computed again in the backward pass.
        fused: whether a peer may use this package's fused kernels around its mixer.
    """

    base: str
    recompute: bool = False
    fused: bool = False

    @property
    def name(self) -> str:
        """As it is written on the command line."""
        return self.base + "+recompute" * self.recompute + "+fused" * self.fused


@dataclass(frozen=True)
class Settings:
    """What all cells of a run share.

    Attributes:
        config: the architecture; `max_length` is replaced by each workload's length and two, as published.
        device: torch's name of the device.
        precision: `fp32`, `bf16` or `fp16`, arithmetic of the linear layers. `high` is float32 whatever this is.
        seed: of weights and inputs.
        threads: CPU threads.
        official: path of the official `standalone_hyenadna.py`.
    """

    config: HyenaConfig
    device: str
    precision: str
    seed: int = 0
    threads: int = 1
    official: Path | None = None


def parse_contender(text: str, known: Sequence[str]) -> Contender:
    """Read `NAME`, `NAME+recompute` or `NAME+fused`.

    Raises:
        InputError: there is no such implementation or option.
    """
    base, *options = text.strip().split("+")
    if base not in known:
        raise InputError(f"there is no contender {base!r}", remedy=f"one of {', '.join(known)}")
    for option in options:
        if option not in _OPTIONS:
            raise InputError(f"{text!r}: there is no option +{option}", remedy="+recompute or +fused")
    return Contender(base, "recompute" in options, "fused" in options)


def workloads(levels: Sequence[Level], lengths: Sequence[int], tokens: int, sweeps: Sequence[Sweep]) -> list[Workload]:
    """All pieces of work: levels in the order given, both sweeps, lengths ascending.

    A length above `tokens` appears in the sweep over batch 1 alone, and one of exactly that many in both.
    """
    found = []
    for level in levels:
        for backward in (False, True) if level in _PARTS else (level in ("forward-backward", "step"),):
            for sweep in sweeps:
                for length in sorted(set(lengths)):
                    batch = tokens // length if sweep == "tokens" else 1
                    if batch:
                        found.append(Workload(level, backward, sweep, length, batch))
    return found
