from __future__ import annotations

import pytest

from hyena_dna.training.config import OptimConfig
from hyena_dna.training.schedule import lr_scale


def test_the_rate_rises_peaks_and_falls_to_its_minimum() -> None:
    config = OptimConfig(duration="1 step", warmup_fraction=0.1, min_lr_ratio=0.05)
    scales = [lr_scale(step, 100, config) for step in range(100)]
    assert scales[:10] == sorted(scales[:10])
    assert scales[0] == pytest.approx(1 / 11)
    assert max(scales) == scales[10] == 1.0
    assert scales[10:] == sorted(scales[10:], reverse=True)
    assert scales[-1] == pytest.approx(0.05)
    assert scales[55] == pytest.approx(0.05 + 0.95 * 0.5, abs=0.02)


def test_a_constant_schedule_stays_at_the_peak() -> None:
    config = OptimConfig(duration="1 step", schedule="constant", warmup_fraction=0.0)
    assert {lr_scale(step, 50, config) for step in range(50)} == {1.0}


@pytest.mark.parametrize("total", [1, 2, 3])
def test_the_shortest_runs_have_a_positive_rate(total: int) -> None:
    config = OptimConfig(duration="1 step", warmup_fraction=0.5)
    assert all(0 < lr_scale(step, total, config) <= 1 for step in range(total))
