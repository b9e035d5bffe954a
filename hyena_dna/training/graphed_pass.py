"""A forward and backward pass recorded as a CUDA graph: launching a small model's kernels takes longer than they do."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from hyena_dna.model.model import HyenaDNA

__all__ = ["GraphedPass", "suits_graph"]

# Tokens of a pass times width times layers. Larger passes keep a GPU busy by themselves.
_MOST_VALUES = 1 << 29
# A graph keeps activations between steps, about so many bytes for each of these values, beside which validation has to
# find room.
_VALUE_BYTES = 34
_MOST_OF_MEMORY = 0.25
_WARM_UPS = 2

Batch = TypeVar("Batch", bound=NamedTuple)


def suits_graph(model: HyenaDNA, tokens: int, device: torch.device) -> bool:
    """Whether passes over `tokens` tokens on this device are small enough to record, and hold nothing that forbids it.

    Dropout would draw other noise than without a graph.
    """
    config = model.config
    noisy = config.embed_dropout > 0 or config.resid_dropout > 0
    values = tokens * config.d_model * config.n_layer
    if device.type != "cuda" or values > _MOST_VALUES or noisy:
        return False
    return values * _VALUE_BYTES <= _MOST_OF_MEMORY * _memory(device)


def _memory(device: torch.device) -> int:
    """Bytes that a GPU has."""
    return torch.cuda.get_device_properties(device).total_memory


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect garbage now and not within: what frees a graph of before, or its memory, breaks a recording."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class GraphedPass(Generic[Batch]):
    """Runs passes of one shape through a graph, and records anew where the shape or the gradients' memory changes.

    Gradients are added into those that parameters already have: they are kept between steps and set to zero in place.
    A batch is a named tuple of tensors on the device, or None in the place of one.

    Args:
        run: makes a pass, adds its gradients, and returns sums on the device. It must not wait for the device, copy
            from the host, or draw random numbers.
        parameters: those that get gradients.
        state: what else a pass writes to, in place: recording leaves it as it was.
    """

    def __init__(
        self,
        run: Callable[[Batch, int], Tensor],
        parameters: Iterable[torch.nn.Parameter],
        state: Iterable[Tensor] = (),
    ) -> None:
        self._run = run
        self._parameters = list(parameters)
        self._state = list(state)
        self._key: tuple[object, ...] | None = None
        # The graph adds to these very tensors.
        self._gradients: list[Tensor | None] = []
        self._graph: torch.cuda.CUDAGraph
        self._batch: Batch
        self._sums: Tensor

    def __call__(self, batch: Batch, nominal: int) -> Tensor:
        """Make a pass; the first of its shape has to be the first of its step.

        Args:
            batch: what to train on.
            nominal: what gradients are divided by.

        Returns:
            What `run` returns; overwritten by the next call.
        """
        shapes = (None if tensor is None else (tensor.shape, tensor.dtype) for tensor in batch)
        key = (nominal, *shapes)
        # Streams and recordings belong to the current device, whichever device tensors are on.
        with torch.cuda.device(next(tensor.device for tensor in batch if tensor is not None)):
            if key != self._key or any(p.grad is not g for p, g in zip(self._parameters, self._gradients, strict=True)):
                self._record(batch, nominal)
                self._key = key
                self._gradients = [parameter.grad for parameter in self._parameters]
            for kept, given in zip(self._batch, batch, strict=True):
                if kept is not None:
                    kept.copy_(given)
            self._graph.replay()
        return self._sums

    def _record(self, batch: Batch, nominal: int) -> None:
        # What the last graph holds is free before the next one takes its own.
        self._key = None
        self.__dict__.pop("_graph", None)
        self.__dict__.pop("_sums", None)
        self._batch = batch._make(None if tensor is None else tensor.clone() for tensor in batch)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._rehearse(self._batch, nominal)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with _no_collection(), torch.cuda.graph(self._graph):
            self._sums = self._run(self._batch, nominal)

    def _rehearse(self, batch: Batch, nominal: int) -> None:
        """Compile kernels, set up libraries and make gradients outside the recording; else nothing is left behind."""
        before = [tensor.clone() for tensor in self._state]
        for _ in range(_WARM_UPS):
            self._run(batch, nominal)
        with torch.no_grad():
            for tensor, value in zip(self._state, before, strict=True):
                tensor.copy_(value)
        torch._foreach_zero_([parameter.grad for parameter in self._parameters if parameter.grad is not None])
