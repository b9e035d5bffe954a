from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.plan import StepPlan


def _config(duration: str, stages: list[dict[str, int]] | None = None, batch_tokens: int = 1024) -> PretrainConfig:
    return PretrainConfig.model_validate(
        {
            "model": {"d_model": 8, "n_layer": 1, "max_length": 256},
            "data": {"window": 256},
            "optim": {"duration": duration, "batch_tokens": batch_tokens, "length_warmup": stages or []},
        }
    )


def test_shorter_windows_come_in_larger_batches_of_the_same_tokens() -> None:
    stages = [{"tokens": 3000, "length": 64}, {"tokens": 2048, "length": 128}]
    plan = StepPlan.make(_config("10 steps", stages), 10**6)
    assert [(shape.length, shape.windows) for shape in plan.shapes] == [(64, 16), (128, 8), (256, 4)]
    assert {shape.tokens for shape in plan.shapes} == {1024}
    assert plan.ends == (3, 5, 10)
    assert [plan.shape(step).length for step in range(10)] == [64] * 3 + [128] * 2 + [256] * 5


def test_epochs_and_tokens_are_counted_over_all_stages() -> None:
    stages = [{"tokens": 2048, "length": 64}]
    assert StepPlan.make(_config("10240 tokens", stages), 10**6).total_steps == 10
    assert StepPlan.make(_config("2 epochs", stages), 5120).total_tokens == 10240


def test_a_run_shorter_than_its_warm_up_stops_inside_it() -> None:
    plan = StepPlan.make(_config("2 steps", [{"tokens": 10**6, "length": 64}]), 10**6)
    assert plan.total_steps == 2
    assert plan.shape(1).length == 64


def test_windows_divide_evenly_among_devices() -> None:
    plan = StepPlan.make(_config("5 steps"), 10**6, world_size=3)
    assert plan.shapes[-1].windows % 3 == 0


@settings(max_examples=50, deadline=None)
@given(
    steps=st.integers(1, 300),
    stage=st.integers(1, 20_000),
    start=st.integers(0, 299),
    batch_tokens=st.sampled_from([256, 1024, 1 << 20, 1 << 23]),
)
def test_groups_cover_every_step_once_from_anywhere(steps: int, stage: int, start: int, batch_tokens: int) -> None:
    plan = StepPlan.make(_config(f"{steps} steps", [{"tokens": stage, "length": 64}], batch_tokens), 10**6)
    covered = [step for group in plan.groups(start) for step in group]
    assert covered == list(range(start, steps))
    tokens = [plan.shape(step).tokens for step in range(steps)]
    assert plan.tokens_before(start) == sum(tokens[:start])
    assert plan.total_tokens == sum(tokens)


@pytest.mark.parametrize("step", [0, 7, 31, 32, 33])
def test_what_a_step_is_does_not_depend_on_where_its_group_began(step: int) -> None:
    plan = StepPlan.make(_config("40 steps", [{"tokens": 8000, "length": 64}]), 10**6)
    assert next(group[0] for group in plan.groups(step)) == step
