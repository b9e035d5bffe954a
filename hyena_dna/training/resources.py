"""What the machine offers, and what a run asks of it: device, precision, forward passes per step."""

from __future__ import annotations

import logging
import math
import resource
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer

from hyena_dna.errors import InputError
from hyena_dna.model.config import HyenaConfig
from hyena_dna.training.config import PretrainConfig
from hyena_dna.training.engine import Precision

__all__ = ["build_trainer", "device_name", "peak_memory", "quiet_lightning", "resolve",
           "select_training_precision"]  # fmt: skip

# On a CPU, batches of this many tokens keep activations near the caches and memory in the hundreds of MB.
_CPU_PASS_TOKENS = 1 << 14
_GPU_SHARE = 0.7

# Tensors of d_model values that one block keeps for the backward pass, per token; a fifth of them float32 under bf16.
_KEPT_PER_BLOCK = 34


def device_name(device: torch.device) -> str:
    """What the device is called by its maker, or `CPU`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def peak_memory(device: torch.device) -> int:
    """Highest memory so far, in bytes: resident memory of the process (CPU), or held by torch on the device (GPU)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def build_trainer(device: torch.device, devices: int, num_nodes: int) -> Trainer:
    """A Lightning trainer that places the model, starts processes and feeds batches, and writes nothing.

    Args:
        device: where to train; with several devices, their kind.
        devices: devices of this machine to use.
        num_nodes: machines that take part, each started by torchrun or SLURM.

    Raises:
        InputError: there are not as many devices.
    """
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise InputError(f"--devices {devices}: this machine has {torch.cuda.device_count()} CUDA devices")
    single = devices == 1 and num_nodes == 1
    chosen = [device.index or 0] if single and device.type == "cuda" else devices
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=chosen,
        num_nodes=num_nodes,
        strategy="auto" if single else "ddp",
        # Lightning's requeueing runs a shell command and would take our signals.
        plugins=[SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else None,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice, which is about code, from users, who cannot follow it."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def resolve(config: PretrainConfig, device: torch.device, world_size: int) -> PretrainConfig:
    """Replace every "auto" by what it means on this machine, so that a resumed run goes on with the same.

    Raises:
        InputError: the precision does not exist on the device.
    """
    precision = select_training_precision(config.optim.precision, device)
    accumulate = config.optim.accumulate
    if accumulate == "auto":
        accumulate = _passes(config, precision, device, world_size)
    optim = config.optim.model_copy(update={"precision": precision, "accumulate": accumulate})
    return config.model_copy(update={"optim": optim})


def activation_bytes(config: HyenaConfig, precision: Precision, *, recompute: bool) -> float:
    """Estimate of the memory that a forward pass keeps for its backward pass, in bytes per token."""
    value = 4.0 if precision == "fp32" else 2.4
    block = _KEPT_PER_BLOCK * config.d_model * value
    return block + 8.0 * config.d_model * config.n_layer if recompute else block * config.n_layer


def select_training_precision(wanted: str, device: torch.device) -> Precision:
    """What `auto`, `fp32`, `bf16` or `fp16` means in training on a device.

    Raises:
        InputError: the precision does not exist on the device.
    """
    match wanted:
        case "auto":
            return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
        case "fp16" if device.type == "cpu":
            raise InputError("optim.precision fp16 needs a GPU", remedy="use fp32 or bf16")
        case "fp16":
            return "fp16"
        case "bf16":
            return "bf16"
        case _:
            return "fp32"


def _passes(config: PretrainConfig, precision: Precision, device: torch.device, world_size: int) -> int:
    windows = max(1, round(config.optim.batch_tokens / config.data.window / world_size))
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        per_token = activation_bytes(config.model, precision, recompute=config.trainer.recompute)
        most = int(_GPU_SHARE * free / per_token)
    else:
        most = _CPU_PASS_TOKENS
    rows = max(1, most // config.data.window)
    return math.ceil(windows / rows)
