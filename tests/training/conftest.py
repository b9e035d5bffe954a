"""A small genome, a small model, and runs of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyena_dna.training.config import PretrainConfig

CONTIGS = {"chrA": 6000, "chrB": 5000, "chrC": 900, "chrD_alt": 1500}


def write_genome(path: Path, seed: int = 0, contigs: dict[str, int] | None = None) -> Path:
    """A FASTA of random contigs with soft-masked stretches and a run of N in the first one."""
    rng = np.random.default_rng(seed)
    with open(path, "w", encoding="ascii") as handle:
        for index, (name, length) in enumerate((contigs or CONTIGS).items()):
            bases = rng.choice(np.frombuffer(b"AACGTT", np.uint8), length)
            bases[length // 3 : length // 2] |= 0x20
            if index == 0:
                bases[1000:1200] = ord("N")
            text = bases.tobytes().decode("ascii")
            handle.write(f">{name}\n" + "\n".join(text[i : i + 60] for i in range(0, length, 60)) + "\n")
    return path


def make_config(**sections: dict[str, Any]) -> PretrainConfig:
    """A run of seconds; sections override its settings."""
    settings: dict[str, dict[str, Any]] = {
        "model": {"d_model": 8, "n_layer": 1, "max_length": 66, "filter_order": 8, "embed_dropout": 0.2},
        "data": {"window": 64},
        "optim": {"duration": "12 steps", "batch_tokens": 512, "lr": 3e-3, "precision": "fp32"},
        "trainer": {"val_every": 5, "val_windows": 8, "checkpoint_every": 4, "log_every": 1, "markov": False},
    }
    for name, values in sections.items():
        settings[name] = settings[name] | values
    return PretrainConfig.model_validate(settings)


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    """A small genome of three contigs and an alternate locus."""
    return write_genome(tmp_path / "genome.fa")


@pytest.fixture
def tiny(genome: Path) -> Callable[..., PretrainConfig]:
    """Makes configurations of runs on the small genome."""

    def make(**sections: dict[str, Any]) -> PretrainConfig:
        data = {"genomes": [str(genome)], **sections.pop("data", {})}
        return make_config(data=data, **sections)

    return make
