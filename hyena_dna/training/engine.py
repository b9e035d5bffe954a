"""One optimiser step: forward, backward, clip, update. No loop, no files, no framework."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hyena_dna.model.model import HyenaDNA
from hyena_dna.ops.losses import next_token_loss
from hyena_dna.training.config import OptimConfig
from hyena_dna.training.graphed_pass import GraphedPass, suits_graph
from hyena_dna.training.optim import clip_coefficient, set_lr_scale
from hyena_dna.training.plan import StepPlan
from hyena_dna.training.schedule import lr_scale

__all__ = ["Engine", "Precision", "TokenBatch", "step_seed"]

Precision = Literal["fp32", "bf16", "fp16"]


class TokenBatch(NamedTuple):
    """What one forward pass trains on, on the device.

    Attributes:
        input_ids: (batch, length), uint8.
        target_ids: (batch, length), uint8; the next token of every position.
        loss_weight: (batch, length), float32.
    """

    input_ids: Tensor
    target_ids: Tensor
    loss_weight: Tensor


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of the dropout noise of one step on one device: distinct steps and ranks get unrelated streams."""
    # SplitMix64's finaliser, because neighbouring seeds of some generators start alike.
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + step * 0xD1342543DE82EF95 + rank * 0xAF251AF3B0F025B5 + 1) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


class Engine:
    """Makes optimiser steps.

    The gradient of a step is that of one mean over all its tokens, weighted, however many forward passes and devices
    share them: sums are added first and divided once, because a mean of means would favour passes with few counted
    targets. Nothing in a step waits for a GPU.

    Args:
        model: the model, on its device.
        optimizer: from `build_optimizer`.
        config: optimisation settings; only schedule and clipping are read.
        plan: the steps of the run.
        precision: arithmetic of the forward pass.
        seed: seed of the dropout noise.
        rank: index of this device in a distributed run.
        world_size: devices that share each step.
        backward: called with each loss; `Tensor.backward` by default.
        accumulating: context for all but the last backward pass of a step, where gradients need not be shared yet.
        total: adds a tensor over all devices, in place.
        graph: record passes as CUDA graphs where they suit it: on one GPU, small, in bf16, without dropout.
    """

    def __init__(
        self,
        model: HyenaDNA,
        optimizer: torch.optim.Optimizer,
        config: OptimConfig,
        plan: StepPlan,
        *,
        precision: Precision,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        backward: Callable[[Tensor], None] = Tensor.backward,
        accumulating: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        total: Callable[[Tensor], None] | None = None,
        graph: bool = True,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._config = config
        self._plan = plan
        self._precision = precision
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._backward = backward
        self._accumulating = accumulating
        self._total = total
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self._graph = graph and precision == "bf16" and world_size == 1
        self._graphed = GraphedPass(self._pass, model.parameters())

    def lr(self, step: int) -> float:
        """Learning rate of a step, of the parameters outside the filters."""
        return self._config.lr * lr_scale(step, self._plan.total_steps, self._config)

    def step(self, step: int, passes: Sequence[TokenBatch], *, stop: bool = False) -> Tensor:
        """Make one optimiser step.

        Args:
            step: its index, 0-based.
            passes: what each forward pass trains on, this device's share.
            stop: whether this device was asked to stop; told to all devices with the sums.

        Returns:
            (4,) float64 on the device: weighted nats, weights, gradient norm before clipping, devices asked to stop.
        """
        torch.manual_seed(step_seed(self._seed, step, self._rank))
        set_lr_scale(self._optimizer, lr_scale(step, self._plan.total_steps, self._config))
        graphed = self._graph and self._suits_graph(passes)
        # A graph adds to the gradients that it was recorded with.
        self._optimizer.zero_grad(set_to_none=not graphed)
        # Before the true sum of weights is known, gradients are divided by the number of tokens, so that their size
        # suits the number formats.
        nominal = self._plan.shape(step).tokens
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        if stop:
            sums[2] = 1.0
        for index, batch in enumerate(passes):
            last = index == len(passes) - 1
            with contextlib.nullcontext() if last else self._accumulating():
                sums[:2] += self._graphed(batch, nominal) if graphed else self._pass(batch, nominal)
        if self._total is not None:
            self._total(sums)
        norm = self._update(sums[1], nominal)
        return torch.stack([sums[0], sums[1], norm.double(), sums[2]])

    def _suits_graph(self, passes: Sequence[TokenBatch]) -> bool:
        shape, *others = {batch.input_ids.shape for batch in passes}
        return not others and suits_graph(self._model, shape.numel(), self.device)

    def _pass(self, batch: TokenBatch, nominal: int) -> Tensor:
        with self._autocast():
            hidden = self._model.hidden(batch.input_ids)
        head = self._model.lm_head.weight
        loss = next_token_loss(hidden, head, batch.target_ids, batch.loss_weight, vocab=self._model.config.vocab_size)
        self._backward(self.scaler.scale(loss.loss_sum / nominal))
        return torch.stack([loss.loss_sum.detach(), loss.weight_sum])

    def _update(self, weight: Tensor, nominal: int) -> Tensor:
        self.scaler.unscale_(self._optimizer) if self.scaler.is_enabled() else None
        gradients = [p.grad for group in self._optimizer.param_groups for p in group["params"] if p.grad is not None]
        # Distributed backward passes leave the mean over devices; a step without any counted target moves nothing.
        factor = (nominal * self._world_size / weight.clamp(min=1e-12)).float() * (weight > 0)
        norm, coefficient = clip_coefficient(gradients, factor, self._config.clip)
        torch._foreach_mul_(gradients, coefficient)
        self.scaler.step(self._optimizer)
        self.scaler.update()
        # Fused optimisers write to parameters without counting it, and what evaluation keeps is trusted by that count.
        torch.autograd.graph.increment_version(list(self._model.parameters()))
        return norm

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "fp32":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self._precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)
