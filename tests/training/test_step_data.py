from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hyena_dna.datasets.batches import LossWeights
from hyena_dna.datasets.windows import WindowBatch
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.plan import StepPlan
from hyena_dna.training.sources import open_corpus
from hyena_dna.training.step_data import HostCutter, StepData, share_of, step_loader

Maker = Callable[..., PretrainConfig]


def _data(
    config: PretrainConfig, *, rank: int = 0, world_size: int = 1, accumulate: int = 2
) -> tuple[StepData, StepPlan]:
    corpus = open_corpus(config)
    plan = StepPlan.make(config, corpus.train_bases, world_size=world_size)
    samplers = {shape.length: corpus.sampler(shape.length, 5) for shape in plan.shapes}
    cutter = HostCutter(corpus.stores, LossWeights(), torch.device("cpu"))
    return StepData(plan, samplers, cutter, accumulate=accumulate, rank=rank, world_size=world_size), plan


def _steps(data: StepData, plan: StepPlan, start: int, workers: int) -> dict[int, list[NDArray[np.uint8]]]:
    return {item.step: item.passes for items in step_loader(data, plan, start=start, workers=workers) for item in items}


def test_workers_and_resuming_change_no_batch_and_repeat_none(tiny: Maker) -> None:
    # Finding: a stream that every worker reads from the start serves each sample once per worker, silently.
    data, plan = _data(tiny(optim={"duration": "70 steps", "length_warmup": [{"tokens": 4096, "length": 32}]}))
    plain = _steps(data, plan, 0, 0)
    assert list(plain) == list(range(70))
    for start, workers in ((0, 2), (33, 0), (33, 2)):
        other = _steps(data, plan, start, workers)
        assert list(other) == list(range(start, 70))
        for step, passes in other.items():
            assert len(passes) == len(plain[step]) == 2
            assert all(np.array_equal(a, b) for a, b in zip(passes, plain[step], strict=True))
    assert len({passes[0].tobytes() for passes in plain.values()}) == 70


def test_ranks_share_the_windows_of_the_single_process_run(tiny: Maker) -> None:
    config = tiny()
    single, _ = _data(config, accumulate=1)
    whole = single.item(3).passes[0]
    parts = [_data(config, rank=rank, world_size=2, accumulate=2)[0].item(3).passes for rank in range(2)]
    assert np.array_equal(np.concatenate([one for part in parts for one in part], axis=1), whole)


@pytest.mark.parametrize(("count", "world_size", "accumulate"), [(8, 1, 3), (8, 2, 16), (7, 1, 2), (1, 1, 4)])
def test_a_share_has_no_empty_pass_and_loses_no_window(count: int, world_size: int, accumulate: int) -> None:
    column = np.arange(count)
    batch = WindowBatch(column, column, column, column > 2)
    parts = [part for rank in range(world_size) for part in share_of(batch, rank, world_size, accumulate)]
    assert all(len(part) for part in parts)
    assert np.concatenate([part.start for part in parts]).tolist() == column.tolist()


def test_making_a_loader_draws_nothing_from_the_global_random_state(tiny: Maker) -> None:
    # PyTorch's loaders draw a base seed; that alone shifts all later dropout after a resume.
    data, plan = _data(tiny())
    torch.manual_seed(3)
    before = torch.get_rng_state()
    next(iter(step_loader(data, plan, start=0, workers=0)))
    assert torch.equal(torch.get_rng_state(), before)
