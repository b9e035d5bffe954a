"""The byte and operation model, against figures worked out by hand for 8 layers x 256."""

from __future__ import annotations

import pytest

from hyena_dna.benchmark.floor import Machine, floor
from hyena_dna.benchmark.workload import Workload
from hyena_dna.model.config import HyenaConfig

CONFIG = HyenaConfig(d_model=256, n_layer=8, max_length=1_000_002)
LONG = 1 << 20


def work(level: str, *, backward: bool, length: int = LONG, batch: int = 1) -> Workload:
    return Workload(level, backward, "batch-1", length, batch)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("level", "backward", "gigabytes", "tera"),
    [
        # U = K = 0.537 GB. Training: 17 U + 8 K forward, 29 U + 12 K backward; cached filters: 2 K in place of 8.
        ("mixer", True, 66 * 0.537, 4.47),
        ("mixer", False, 19 * 0.537, 1.10),
        ("step", True, (8 * (66 + 5) + 4) * 0.537, 66.6),
        ("operator", False, 2 * 0.537 + 1.074, 0.82),
    ],
)
def test_a_million_positions(level: str, backward: bool, gigabytes: float, tera: float) -> None:
    least = floor(work(level, backward=backward), CONFIG, value_bytes=2, tensor_cores=True)
    assert least.bytes / 1e9 == pytest.approx(gigabytes, rel=0.01)
    assert least.flops / 1e12 == pytest.approx(tera, rel=0.02)


def test_short_sequences_stay_on_chip() -> None:
    short = floor(work("mixer", backward=True, length=1024, batch=1024), CONFIG, value_bytes=2, tensor_cores=True)
    assert short.bytes / 1e9 == pytest.approx(22 * 0.537, rel=0.01)


def test_butterflies_need_fewer_operations_than_matrices() -> None:
    cells = [floor(work("operator", backward=False), CONFIG, value_bytes=4, tensor_cores=t) for t in (True, False)]
    assert cells[0].flops / cells[1].flops == pytest.approx(51.2 / 5)


def test_the_slower_of_bytes_and_operations_decides() -> None:
    least = floor(work("mixer", backward=False), CONFIG, value_bytes=2, tensor_cores=True)
    assert least.seconds(Machine(1e9, 1e30, "given")) == pytest.approx(least.bytes / 1e9)
    assert least.seconds(Machine(1e30, 1e12, "given")) == pytest.approx(least.flops / 1e12)
