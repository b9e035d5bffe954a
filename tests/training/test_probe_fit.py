"""Probes: every way is a view of the widest features, and validation chooses the one that carries the signal."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyena_dna.model.classifier import SequenceClassifier, TaskConfig
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.finetune_config import ProbeConfig
from hyena_dna.training.probe_fit import (
    HEAD_POOLINGS,
    PROBE_POOLINGS,
    Way,
    _view,
    fit_probe,
    probe_task,
    ways_of,
    widest,
)

TASK = TaskConfig(kind="binary", labels=("no", "yes"))
CONFIG = ProbeConfig(layers=(1, 2))


@pytest.fixture(scope="module")
def model() -> HyenaDNA:
    torch.manual_seed(0)
    return HyenaDNA(HyenaConfig(d_model=8, n_layer=2, max_length=34, filter_order=8)).eval()


def features(model: HyenaDNA, ids: torch.Tensor, way: Way) -> np.ndarray:
    with torch.inference_mode():
        found: np.ndarray = SequenceClassifier(model, probe_task(TASK, CONFIG, 2, way)).eval().features(ids).numpy()
    return found


def test_auto_tries_three_poolings_of_each_strand_use() -> None:
    ways = ways_of(("mean", "concat"), PROBE_POOLINGS)
    assert ways == tuple(Way(s, p) for s in ("mean", "concat") for p in ("mean", "mean+max", "mean+std"))
    assert widest(ways) == Way("concat", "mean+max+std")
    assert widest(ways_of(("each", "concat"), HEAD_POOLINGS)) == Way("concat", "mean+max")
    assert widest(ways_of(("fwd",), ("mean+std",))) == Way("fwd", "mean+std")


@pytest.mark.parametrize("strands", ["concat", "fwd"])
@pytest.mark.parametrize("pooling", ["mean", "mean+max", "mean+std"])
def test_each_way_is_a_view_of_the_widest(model: HyenaDNA, strands: str, pooling: str) -> None:
    ids = torch.from_numpy(np.random.default_rng(0).integers(7, 11, (5, 20)))
    way, read = Way(strands, pooling), widest(ways_of((strands,), PROBE_POOLINGS))  # type: ignore[arg-type]
    np.testing.assert_allclose(_view(features(model, ids, read), way, read), features(model, ids, way), atol=1e-6)


def test_validation_chooses_deviations_where_they_alone_differ(model: HyenaDNA) -> None:
    rng = np.random.default_rng(0)
    width, targets = 16, np.arange(300) % 2
    # Features of a strand: means and maxima that say nothing, then deviations of which one channel tells the classes.
    values = rng.normal(size=(300, 2, 3 * width)).astype(np.float32)
    values[:, :, 2 * width] += 3 * targets[:, None]
    rows = values.reshape(300, -1)
    train, val = (rows[:200], targets[:200]), (rows[200:], targets[200:])
    found = fit_probe(model, TASK, CONFIG, train, val, ways=ways_of(("mean", "concat"), PROBE_POOLINGS))
    assert found.way.pooling == "mean+std"
    assert found.value > 0.95
    assert found.classifier.task.pooling == "mean+std"
    assert found.classifier.classifier.output.in_features == 2 * width * (2 if found.way.strands == "concat" else 1)
    plain = max(row["val_auroc"] for row in found.tried if row["pooling"] != "mean+std")
    assert plain < 0.7
