"""Losses and class weights against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyena_dna.errors import InputError
from hyena_dna.model.classifier import TaskConfig
from hyena_dna.training.finetune_loss import class_weights, weighted_loss

BINARY = TaskConfig(kind="binary", labels=("a", "b"))
THREE = TaskConfig(kind="multiclass", labels=("a", "b", "c"))
SEVERAL = TaskConfig(kind="multilabel", labels=("a", "b"))
NUMBER = TaskConfig(kind="regression", labels=("x",), shift=5.0, scale=2.0)


def test_balanced_weights() -> None:
    targets = np.array([0, 0, 0, 1])
    found = class_weights(BINARY, targets, "balanced")
    # Both classes count alike in sum, and the mean weight is one.
    assert found is not None
    assert found.tolist() == pytest.approx([4 / 6, 4 / 2])
    found = class_weights(SEVERAL, np.array([[1, 0], [0, 1], [0, 1], [0, 1]]), "balanced")
    assert found is not None
    assert found.tolist() == pytest.approx([3.0, 1 / 3])
    found = class_weights(THREE, targets, {"c": 4.0})
    assert found is not None
    assert found.tolist() == [1.0, 1.0, 4.0]
    assert class_weights(BINARY, targets, "none") is None
    with pytest.raises(InputError, match="names 'z'"):
        class_weights(BINARY, targets, {"z": 1.0})
    with pytest.raises(InputError, match="no class weights"):
        class_weights(NUMBER, targets, "balanced")


def test_weighted_losses() -> None:
    logits = torch.tensor([[0.5], [-1.0]])
    targets = torch.tensor([[1.0], [0.0]])
    loss, weight = weighted_loss(BINARY, logits, targets, torch.tensor([2.0, 3.0]))
    assert float(weight) == 5.0
    assert float(loss) == pytest.approx(3 * np.log1p(np.exp(-0.5)) + 2 * np.log1p(np.exp(-1.0)), rel=1e-5)
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    loss, weight = weighted_loss(THREE, logits, torch.tensor([2, 0]), torch.tensor([2.0, 1.0, 5.0]))
    wanted = 5 * (np.log(np.exp([1, 2, 3]).sum()) - 3) + 2 * np.log(3)
    assert float(loss) == pytest.approx(wanted, rel=1e-5)
    assert float(weight) == 7.0
    logits, targets = torch.tensor([[1.0, -2.0]]), torch.tensor([[1.0, 0.0]])
    loss, weight = weighted_loss(SEVERAL, logits, targets, torch.tensor([4.0, 9.0]))
    assert float(loss) == pytest.approx(4 * np.log1p(np.exp(-1)) + np.log1p(np.exp(-2)), rel=1e-5)
    # In units of the spread of the labels.
    loss, weight = weighted_loss(NUMBER, torch.tensor([[9.0], [5.0]]), torch.tensor([[5.0], [5.0]]), None)
    assert (float(loss), float(weight)) == (4.0, 2.0)
