from __future__ import annotations

import pytest
import torch

from hyena_dna.training.readout import Readout, StepNumbers


def _numbers(step: int, device: str) -> torch.Tensor:
    return torch.tensor([step, 2.0, 3.0, 0.0], dtype=torch.float64, device=device)


def test_a_cpu_answers_at_once() -> None:
    readout = Readout(torch.device("cpu"))
    assert readout.push(4, _numbers(4, "cpu")) == [StepNumbers(4, 4.0, 2.0, 3.0, 0.0)]
    assert readout.drain() == []


@pytest.mark.gpu
def test_a_gpu_answers_late_in_order_and_completely() -> None:
    readout = Readout(torch.device("cuda"))
    arrived = [readout.push(step, _numbers(step, "cuda")) for step in range(50)]
    assert [len(numbers) for numbers in arrived[:31]] == [0] * 31
    assert [numbers.step for numbers in arrived[31]] == list(range(16))
    every = [numbers for part in arrived for numbers in part] + readout.drain()
    assert [numbers.step for numbers in every] == [int(numbers.nll) for numbers in every] == list(range(50))
    assert readout.drain() == []
