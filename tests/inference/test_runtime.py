"""Choosing arithmetic, and halving batches when memory runs out."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hyena_dna.errors import InputError, RunError
from hyena_dna.inference.runtime import (
    autocast,
    batch_tokens,
    run_batches,
    select_precision,
    set_threads,
)


@pytest.mark.parametrize(
    ("name", "dtype"), [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_precision_on_a_cpu(name: str, dtype: torch.dtype) -> None:
    assert select_precision(name, torch.device("cpu")) is dtype


@pytest.mark.parametrize("name", ["fp16", "fp8"])
def test_precision_that_a_cpu_does_not_have(name: str) -> None:
    with pytest.raises(InputError, match=name):
        select_precision(name, torch.device("cpu"))


def test_autocast_changes_linear_layers_only_where_asked() -> None:
    layer, cpu = torch.nn.Linear(4, 4), torch.device("cpu")
    for dtype in (torch.float32, torch.bfloat16):
        with autocast(cpu, dtype):
            assert layer(torch.ones(1, 4)).dtype is dtype


def test_threads() -> None:
    before = torch.get_num_threads()
    try:
        set_threads(1)
        assert torch.get_num_threads() == 1
        set_threads(None)
        assert torch.get_num_threads() == 1
    finally:
        set_threads(before)


def test_wider_models_get_fewer_tokens() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert batch_tokens(cpu, 256) * 2 == batch_tokens(cpu, 128)
    assert batch_tokens(cuda, 128) > batch_tokens(cpu, 128)


class Device:
    """Sums rows; runs out of memory where there are more than `room`."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.calls: list[int] = []

    def sum(self, rows: NDArray[np.int64]) -> int:
        self.calls.append(len(rows))
        if len(rows) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return int(rows.sum())


def test_batches_are_halved_until_they_fit_and_stay_so(caplog: pytest.LogCaptureFixture) -> None:
    device = Device(room=3)
    with caplog.at_level(logging.WARNING, "hyena_dna"):
        found = list(run_batches(device.sum, [np.arange(10), np.arange(10, 14)]))
    # Every row once, in order, and no attempt at a size that is known not to fit.
    assert np.concatenate([rows for rows, _ in found]).tolist() == list(range(14))
    assert [result for _, result in found] == [int(rows.sum()) for rows, _ in found]
    assert device.calls == [10, 5, 2, 2, 2, 2, 2, 2, 2]
    assert "going on with 2" in caplog.text


def test_batches_that_fit_are_left_whole() -> None:
    device = Device(room=10)
    assert [len(rows) for rows, _ in run_batches(device.sum, [np.arange(10), np.arange(4)])] == [10, 4]


def test_a_row_that_does_not_fit_ends_the_run() -> None:
    with pytest.raises(RunError, match="shorter --window"):
        list(run_batches(Device(room=0).sum, [np.arange(4)]))
