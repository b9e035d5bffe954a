"""Filters kept between batches: the same values, and never those of parameters that are gone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch

from hyena_dna.model import filter as filter_module
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.filter import ImplicitFilter


@pytest.fixture
def filters() -> ImplicitFilter:
    torch.manual_seed(0)
    made = ImplicitFilter(HyenaConfig(d_model=8, n_layer=1, max_length=130)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
    return made


def fresh(filters: ImplicitFilter, length: int) -> torch.Tensor:
    """As autograd computes them, which never uses what is kept."""
    kernel: torch.Tensor = filters(length)
    return kernel.detach()


def test_filters_of_one_length_are_computed_once(filters: ImplicitFilter) -> None:
    expected = fresh(filters, 100)
    with torch.inference_mode():
        first, again, other = filters(100), filters(100), filters(50)
    assert first.data_ptr() == again.data_ptr()
    assert (first == expected).all()
    assert other.shape[-1] == 50


def step(filters: ImplicitFilter) -> None:
    optimiser = torch.optim.AdamW(filters.parameters(), lr=0.1)
    filters(64).square().sum().backward()
    optimiser.step()


def write(filters: ImplicitFilter) -> None:
    with torch.no_grad():
        filters.implicit_filter["0"].weight.mul_(2)  # type: ignore[operator]


def load(filters: ImplicitFilter) -> None:
    filters.load_state_dict({name: value * 1.5 for name, value in filters.state_dict().items()})


def replace(filters: ImplicitFilter) -> None:
    layer = filters.implicit_filter["2"]
    assert isinstance(layer, torch.nn.Linear)
    layer.weight = torch.nn.Parameter(layer.weight.detach() * 3)


def round_off(filters: ImplicitFilter) -> None:
    filters.half().float()


@pytest.mark.parametrize("change", [step, write, load, replace, round_off])
def test_a_changed_parameter_changes_the_filters(
    filters: ImplicitFilter, change: Callable[[ImplicitFilter], None]
) -> None:
    with torch.no_grad():
        before = filters(64).clone()
    change(filters)
    with torch.no_grad():
        after = filters(64)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, fresh(filters, 64), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_copy_starts_without_them(
    filters: ImplicitFilter, duplicate: Callable[[ImplicitFilter], ImplicitFilter]
) -> None:
    with torch.no_grad():
        filters(64)
        twin = duplicate(filters)
        write(twin)
        assert not torch.equal(twin(64), filters(64))


def test_training_and_autograd_compute_them_anew(filters: ImplicitFilter) -> None:
    with torch.inference_mode():
        filters(64)
    assert filters(64).requires_grad
    with torch.no_grad():
        # Tensors of inference mode are no good for what may be saved for a backward pass.
        assert not filters(64).is_inference()
        filters.train()
        assert filters(64).data_ptr() != filters(64).data_ptr()


def test_what_is_kept_is_bounded(filters: ImplicitFilter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_module, "_KNOWN_BYTES", {"cpu": 3 * 8 * 10 * 4, "cuda": 0})
    with torch.no_grad():
        first = filters(10)
        assert filters(10).data_ptr() == first.data_ptr()
        for length in range(11, 16):
            filters(length)
        kept = filters._known._kept
        assert sum(kernel.nbytes for tensors in kept.values() for kernel in tensors) <= 3 * 8 * 10 * 4
        assert filters(100).data_ptr() != filters(100).data_ptr()


def test_state_dicts_do_not_hold_them(filters: ImplicitFilter) -> None:
    before = list(filters.state_dict())
    with torch.no_grad():
        filters(64)
    assert list(filters.state_dict()) == before


@torch.inference_mode()
def test_filters_of_parameters_that_count_no_writes_are_not_kept() -> None:
    made = ImplicitFilter(HyenaConfig(d_model=8, n_layer=1, max_length=64)).eval()
    for parameter in made.parameters():
        parameter.normal_(std=0.5)
    before = made(40)
    for parameter in made.parameters():
        parameter.mul_(2)
    assert not torch.equal(made(40), before)


def test_a_training_step_forgets_them_even_where_its_writes_are_not_counted(filters: ImplicitFilter) -> None:
    with torch.no_grad():
        before = filters(64)
        filters.train()(64)
        # As fused optimisers on a GPU do, this leaves the version counter alone.
        filters.bias.data.add_(0)
        next(filters.implicit_filter.parameters()).data.mul_(2.0)
        after = filters.eval()(64)
    assert not torch.equal(before, after)
    assert torch.equal(after, fresh(filters, 64))
