"""One cell as something that can be prepared, run, and asked for its results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from hyena_dna.benchmark.contenders import build_model, convolution, dtype_of, is_ours, surroundings
from hyena_dna.benchmark.workload import Contender, Settings, Workload
from hyena_dna.inference.embedding import Embedder, EmbeddingSpec
from hyena_dna.inference.inputs import ChunkLimits, Row, sequence_chunks
from hyena_dna.inference.layers import Layers
from hyena_dna.inference.pooling import parse_pool
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.filter import ImplicitFilter
from hyena_dna.model.init import init_weights
from hyena_dna.model.model import HyenaDNA
from hyena_dna.ops.losses import next_token_loss
from hyena_dna.tokenizer import BASE_IDS, Tokenizer
from hyena_dna.training.graphed_pass import GraphedPass, suits_graph

__all__ = ["Task", "build_task", "operator_inputs"]

_CLIP = 1.0
_LEARNING_RATE = 1e-5


class Task(ABC):
    """Work of one contender. `prepare` is not timed, `run` is; `results` are compared with a reference."""

    def __init__(self, workload: Workload, contender: Contender, settings: Settings) -> None:
        self.workload, self.contender, self.settings = workload, contender, settings
        self.device = torch.device(settings.device)
        self.dtype = dtype_of(contender, settings)
        self.generator = torch.Generator(self.device).manual_seed(settings.seed + 1)

    @contextmanager
    def context(self) -> Iterator[None]:
        """Where `run` and `results` belong."""
        with ExitStack() as stack:
            stack.enter_context(surroundings(self.contender, self.settings))
            if not self.workload.backward:
                stack.enter_context(torch.inference_mode())
            yield

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Make inputs of the next run."""

    @abstractmethod
    def run(self) -> object:
        """Do the work once."""

    @abstractmethod
    def results(self) -> dict[str, torch.Tensor]:
        """Outputs and gradients on fixed inputs, by name."""


def operator_inputs(workload: Workload, settings: Settings, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Random input of `dtype`, an implicit filter as it is initialised, random skip weights, a random gradient."""
    device = torch.device(settings.device)
    generator = torch.Generator(device).manual_seed(settings.seed)
    config = _config(workload, settings.config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(settings.seed)
        filters = ImplicitFilter(config)
        init_weights(filters, config)
        kernel = filters.to(device)(workload.length)[0].clone()
    shape = (workload.batch, config.d_model, workload.length)
    u, grad = (torch.randn(shape, device=device, generator=generator).to(dtype) for _ in range(2))
    skip = torch.randn(config.d_model, device=device, generator=generator)
    return u, kernel, skip, grad


class _OperatorTask(Task):
    def __init__(self, workload: Workload, contender: Contender, settings: Settings) -> None:
        super().__init__(workload, contender, settings)
        self._convolve = convolution(contender, workload, settings)
        u, kernel, skip, self._grad = operator_inputs(workload, settings, self.dtype)
        self._inputs = tuple(tensor.requires_grad_(workload.backward) for tensor in (u, kernel, skip))

    @contextmanager
    def context(self) -> Iterator[None]:
        # Convolutions are called with the dtypes that they are meant for; autocast has nothing to add.
        with super().context(), torch.autocast(self.device.type, enabled=False):
            yield

    def run(self) -> object:
        y = self._convolve(*self._inputs)
        return torch.autograd.grad(y, self._inputs, self._grad) if self.workload.backward else y

    def results(self) -> dict[str, torch.Tensor]:
        u, kernel, skip = self._inputs
        # The values are rounded already; a float32 output shows the error of the arithmetic before the last rounding.
        # FlashFFTConv rounds inside.
        inputs = (u.detach().float().requires_grad_(self.workload.backward), kernel, skip)
        y = self._convolve(*inputs)
        found = {"y": y.detach()}
        if self.workload.backward:
            gradients = torch.autograd.grad(y, inputs, self._grad.to(y.dtype))
            found |= dict(zip(("d_u", "d_kernel", "d_skip"), gradients, strict=True))
        return found


class _PartTask(Task):
    """A mixer or a block."""

    def __init__(self, workload: Workload, contender: Contender, settings: Settings) -> None:
        super().__init__(workload, contender, settings)
        config = _config(workload, settings.config).model_copy(update={"n_layer": 1})
        layer = build_model(contender, config, settings).backbone.layers[0]
        self._module: nn.Module = layer.mixer if workload.level == "mixer" else layer
        self._module.train(workload.backward)
        shape = (workload.batch, workload.length, config.d_model)
        generator = torch.Generator(self.device).manual_seed(settings.seed)
        # A mixer reads what a norm wrote, in the dtype of the linear layers; a block the branch and the stream.
        self._inputs = [torch.randn(shape, device=self.device, generator=generator)]
        if workload.level == "block":
            self._inputs.append(torch.randn(shape, device=self.device, generator=generator))
        self._inputs[0] = self._inputs[0].to(self.dtype)
        for tensor in self._inputs:
            tensor.requires_grad_(workload.backward)
        self._grad = torch.randn(shape, device=self.device, generator=generator)

    def run(self) -> object:
        outputs = self._module(*self._inputs)
        if not self.workload.backward:
            return outputs
        y = outputs[0] if isinstance(outputs, tuple) else outputs
        wanted = [*self._inputs, *(p for p in self._module.parameters() if p.requires_grad)]
        return y, torch.autograd.grad(y, wanted, self._grad.to(y.dtype), allow_unused=True)

    def results(self) -> dict[str, torch.Tensor]:
        found = self.run()
        if self.workload.backward:
            assert isinstance(found, tuple)
            y, gradients = found
            return {"y": y.detach(), "d_u": gradients[0]}
        y = found[0] if isinstance(found, tuple) else found
        assert isinstance(y, torch.Tensor)
        return {"y": y}


class _Ids(NamedTuple):
    """Token ids, (batch, length) uint8, as a recorded pass takes them."""

    ids: torch.Tensor


class _ModelTask(Task):
    def __init__(self, workload: Workload, contender: Contender, settings: Settings) -> None:
        super().__init__(workload, contender, settings)
        self._model = build_model(contender, _config(workload, settings.config), settings)
        self._model.train(workload.backward)
        self._weight = torch.ones(workload.batch, workload.length, device=self.device)
        self._optimizer = None
        if workload.level == "step":
            parameters = [p for p in self._model.parameters() if p.requires_grad]
            self._optimizer = torch.optim.AdamW(
                parameters, lr=_LEARNING_RATE, weight_decay=0.1, fused=self.device.type == "cuda"
            )
        # As training does, with our models; the official code cannot be recorded.
        self._graphed: GraphedPass[_Ids] | None = None
        recordable = isinstance(self._model, HyenaDNA) and self.dtype == torch.bfloat16
        if workload.level == "step" and recordable and suits_graph(self._model, workload.tokens, self.device):
            self._graphed = GraphedPass(self._pass, self._model.parameters())
        self._ids = torch.empty(0)
        self.prepare()

    def prepare(self) -> None:
        shape = (self.workload.batch, self.workload.length)
        bases = torch.tensor(BASE_IDS, dtype=torch.uint8, device=self.device)
        self._ids = bases[torch.randint(4, shape, device=self.device, generator=self.generator)]

    def _loss(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self._model.hidden(ids)
        loss = next_token_loss(hidden, self._model.lm_head.weight, ids.roll(-1, 1), self._weight)
        return loss.loss_sum / self.workload.tokens

    def _pass(self, batch: _Ids, _: int) -> torch.Tensor:
        # Weights move between steps, but autocast keeps its casts of them as long as its context lasts; nor can a
        # recording use casts that were made outside it.
        torch.clear_autocast_cache()
        loss = self._loss(batch.ids)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _gradients(self) -> torch.Tensor:
        return (self._graphed or self._pass)(_Ids(self._ids), self.workload.tokens)

    def run(self) -> object:
        if not self.workload.backward:
            return self._loss(self._ids)
        loss = self._gradients()
        if self._optimizer is not None:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), _CLIP)
            self._optimizer.step()
        # A graph adds to the gradients that it was recorded with.
        self._model.zero_grad(set_to_none=self._graphed is None)
        return loss

    def results(self) -> dict[str, torch.Tensor]:
        self.generator.manual_seed(self.settings.seed + 1)
        self.prepare()
        # What autograd keeps of this pass goes with it; a recording must not meet it.
        found = {"y": self._model.hidden(self._ids).detach()}
        if self.workload.backward:
            self._gradients()
            # One parameter at each end and one in the middle of every path through the model.
            block = self._model.backbone.layers[0]
            block = getattr(block, "block", block)
            found["d_embedding"] = self._model.lm_head.weight.grad
            found["d_in_proj"] = block.mixer.in_proj.weight.grad
            if hasattr(block.mixer, "filter_fn"):
                *_, last = block.mixer.filter_fn.implicit_filter.children()
                found["d_filter"] = last.weight.grad
            self._model.zero_grad(set_to_none=True)
        return found


class _EmbedTask(Task):
    """Tokens on the host to one mean vector per sequence on the host."""

    def __init__(self, workload: Workload, contender: Contender, settings: Settings) -> None:
        super().__init__(workload, contender, settings)
        self._model = build_model(contender, _config(workload, settings.config), settings).eval()
        rng = np.random.default_rng(settings.seed)
        shape = (workload.batch, workload.length)
        letters = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, shape)]
        self._ids = torch.from_numpy(Tokenizer().encode(letters.tobytes())).view(shape)
        rows = ((Row(None, 0, workload.length, "", "."), row.tobytes()) for row in letters)
        (self._chunk,) = sequence_chunks(rows, limits=ChunkLimits(workload.batch, workload.tokens))
        self._embedder = None
        if is_ours(contender):
            spec = EmbeddingSpec(Layers("last"), parse_pool("mean"), strands="fwd")
            self._embedder = Embedder(self._model, spec, precision=self.dtype)

    def run(self) -> torch.Tensor:
        if self._embedder is not None:
            return torch.from_numpy(self._embedder.embed(self._chunk).vectors)
        vectors: torch.Tensor = self._model.hidden(self._ids.to(self.device)).float().mean(1).cpu()
        return vectors

    def results(self) -> dict[str, torch.Tensor]:
        return {"y": self.run()}


def build_task(workload: Workload, contender: Contender, settings: Settings) -> Task:
    """The task of a cell, on its device.

    Raises:
        Unsupported: the contender cannot do it.
    """
    kinds: dict[str, Callable[[Workload, Contender, Settings], Task]] = {
        "operator": _OperatorTask,
        "mixer": _PartTask,
        "block": _PartTask,
        "embed": _EmbedTask,
    }
    return kinds.get(workload.level, _ModelTask)(workload, contender, settings)


def _config(workload: Workload, config: HyenaConfig) -> HyenaConfig:
    # Dropout is off so that results can be compared; no contender gains by it.
    return config.model_copy(update={"max_length": workload.length + 2, "embed_dropout": 0.0, "resid_dropout": 0.0})
