from __future__ import annotations

import dataclasses
import errno
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from hyena_dna.errors import InputError
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.checkpoints import (
    RunState,
    checkpoint_path,
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    read_state,
    save_checkpoint,
)
from hyena_dna.training.config import OptimConfig
from hyena_dna.training.optim import build_optimizer

STATE = RunState(7, 700, 1.25, 0.5, {"optim": {"lr": 1e-3}}, {"sequence 1": "abc"}, {"metrics": 10}, {"nll": 0.1 + 0.2})


def _trained(steps: int, d_model: int = 8) -> tuple[HyenaDNA, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = HyenaDNA(HyenaConfig(d_model=d_model, n_layer=1, max_length=18, filter_order=8))
    optimizer = build_optimizer(model, OptimConfig(duration="1 step", lr=1e-2))
    for step in range(steps):
        _step(model, optimizer, step)
    return model, optimizer


def _step(model: HyenaDNA, optimizer: torch.optim.Optimizer, step: int) -> None:
    torch.manual_seed(step)
    optimizer.zero_grad()
    model(torch.randint(7, 11, (2, 16))).logits.square().mean().backward()
    optimizer.step()


def test_training_goes_on_bit_for_bit_after_a_checkpoint(tmp_path: Path) -> None:
    model, optimizer = _trained(3)
    save_checkpoint(tmp_path / "c.safetensors", model, optimizer, STATE)
    other, other_optimizer = _trained(0)
    assert load_checkpoint(tmp_path / "c.safetensors", other, other_optimizer) == STATE
    for step in range(3, 6):
        _step(model, optimizer, step)
        _step(other, other_optimizer, step)
    for (name, a), (_, b) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_checkpoint_without_its_moments_would_differ(tmp_path: Path) -> None:
    # Shows that the test above sees a lost optimiser state.
    model, optimizer = _trained(3)
    save_checkpoint(tmp_path / "c.safetensors", model, optimizer, STATE)
    other, other_optimizer = _trained(0)
    load_checkpoint(tmp_path / "c.safetensors", other)
    _step(model, optimizer, 3)
    _step(other, other_optimizer, 3)
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    # safetensors has no checksum of its own: such a file loads.
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, *_trained(1), STATE)
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="checksum"):
        load_checkpoint(path, *_trained(0))


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, *_trained(1), STATE)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep >= 1 or keep == 0 else keep * len(data))])
    with pytest.raises(InputError, match="not a complete checkpoint"):
        load_checkpoint(path, *_trained(0))


def test_other_files_are_refused(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    (tmp_path / "c.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError, match="not a training checkpoint"):
        read_state(tmp_path / "c.safetensors")
    with pytest.raises(InputError, match="not a complete checkpoint"):
        read_state(tmp_path / "missing.safetensors")


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, *_trained(1), STATE)
    with pytest.raises(InputError, match="8"):
        load_checkpoint(path, *_trained(0, d_model=16))


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, *_trained(1), STATE)
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(InputError, match="No space left"):
        save_checkpoint(path, *_trained(2), dataclasses.replace(STATE, step=8))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.safetensors"]
    load_checkpoint(path, *_trained(0))


def test_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    for step in (5, 90, 1000, 20):
        checkpoint_path(tmp_path, step).touch()
    (tmp_path / "best.safetensors").touch()
    prune_checkpoints(tmp_path, 2)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "best.safetensors",
        "step-000000090.safetensors",
        "step-000001000.safetensors",
    ]
    assert latest_checkpoint(tmp_path) == checkpoint_path(tmp_path, 1000)
    assert latest_checkpoint(tmp_path / "none") is None


def test_floats_in_the_state_keep_every_bit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.safetensors", *_trained(1), STATE)
    assert read_state(tmp_path / "c.safetensors").partial["nll"] == 0.1 + 0.2
