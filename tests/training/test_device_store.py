from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyena_dna.datasets.batches import LossWeights
from hyena_dna.datasets.store import TokenStore
from hyena_dna.datasets.windows import WindowBatch
from hyena_dna.training.device_store import DeviceCutter
from hyena_dna.training.step_data import HostCutter, WindowCutter


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[TokenStore]:
    folder = tmp_path_factory.mktemp("stores")
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGTacgtNnRY", np.uint8)
    return [
        TokenStore.from_sequences(
            [("a", rng.choice(letters, 400).tobytes()), ("b", rng.choice(letters, 90).tobytes())], folder / str(i), {}
        )
        for i in range(2)
    ]


def _devices() -> list[object]:
    return ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", _devices())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_windows_cut_on_the_device_equal_those_of_the_host(
    stores: list[TokenStore], device: str, data: st.DataObject
) -> None:
    window = data.draw(st.integers(1, 120))
    rows = data.draw(st.integers(1, 5))
    source = np.array(data.draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)), np.int64)
    length = np.array([data.draw(st.integers(2, window + 1)) for _ in range(rows)], np.int64)
    start = np.array([data.draw(st.integers(0, stores[0].total - int(n))) for n in length], np.int64)
    reverse = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), np.bool_)
    batch = WindowBatch(source, start, length, reverse)
    weights = LossWeights(n=0.25, soft_masked=0.5)
    cutters: list[WindowCutter] = [
        HostCutter(stores, weights, torch.device("cpu")),
        DeviceCutter(stores, weights, torch.device(device)),
    ]
    host, other = (cutter.load(cutter.prepare(batch, window), window) for cutter in cutters)
    for name, a, b in zip(host._fields, host, other, strict=True):
        assert a.dtype == b.dtype, name
        assert torch.equal(a, b.cpu()), name


def test_a_reversed_short_window_is_padded_on_the_right(tmp_path: Path) -> None:
    # Left padding is what a plain flip of the padded row gives; a causal model would read it as sequence.
    store = TokenStore.from_sequences([("a", b"AACG")], tmp_path / "s", {})
    batch = WindowBatch(np.array([0]), np.array([0]), np.array([4]), np.array([True]))
    cutter = DeviceCutter([store], LossWeights(), torch.device("cpu"))
    loaded = cutter.load(cutter.prepare(batch, 6), 6)
    assert loaded.input_ids.tolist() == [[8, 9, 10, 10, 4, 4]]
    assert loaded.target_ids.tolist() == [[9, 10, 10, 4, 4, 4]]
    assert loaded.loss_weight.tolist() == [[1, 1, 1, 0, 0, 0]]
