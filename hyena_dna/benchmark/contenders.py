"""Implementations side by side: how each convolves, which model it is, and in which context it runs."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from hyena_dna.benchmark.official import OfficialModel, load_official
from hyena_dna.benchmark.plain import make_plain
from hyena_dna.benchmark.workload import Contender, Settings, Workload
from hyena_dna.errors import InputError
from hyena_dna.inference.runtime import autocast, select_precision
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.ops.long_conv import Implementation, Precision, choose, long_conv
from hyena_dna.ops.long_conv.plain import plain_long_conv
from hyena_dna.ops.tier import tier_name

__all__ = [
    "Convolution",
    "Unsupported",
    "build_model",
    "check_contender",
    "chosen_implementation",
    "contender_names",
    "convolution",
    "dtype_of",
    "implementations",
    "is_ours",
    "precision_of",
    "surroundings",
    "used",
]

Convolution = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

_PEERS = ("plain", "transformer", "official", "flashfftconv")
_TIER = "HYENA_DNA_TIER"


class Unsupported(Exception):
    """A contender cannot do a workload; the message says why."""


def implementations() -> tuple[str, ...]:
    """Implementations that the dispatch of the long convolution knows, without the automatic choice."""
    return tuple(name for name in get_args(Implementation) if name != "auto")


def contender_names() -> tuple[str, ...]:
    """All names that a contender can have."""
    return ("fast", "high", *implementations(), *_PEERS)


def is_ours(contender: Contender) -> bool:
    """Whether this package's own operators run."""
    return contender.base not in _PEERS


def precision_of(contender: Contender) -> Precision | None:
    """The precision that a contender promises for its long convolution, None where it promises nothing.

    An implementation that is named directly is held to `fast`; its measured error says how much better it is.
    """
    if contender.base in ("transformer", "flashfftconv"):
        return None
    return "high" if contender.base in ("high", "plain", "official", "reference") else "fast"


def dtype_of(contender: Contender, settings: Settings) -> torch.dtype:
    """The dtype of activations and linear layers: the run's, and float32 for `high`."""
    return torch.float32 if contender.base == "high" else select_precision(settings.precision, torch.device("cpu"))


def convolution(contender: Contender, workload: Workload, settings: Settings) -> Convolution:
    """The long convolution of a contender, with skip term.

    Raises:
        Unsupported: it has none.
    """
    match contender.base:
        case "transformer":
            raise Unsupported("attention has no convolution")
        case "plain":
            return plain_long_conv
        case "official":
            convolve: Convolution = _official(settings).fftconv
            return convolve
        case "flashfftconv":
            return _flashfftconv(workload, settings)
        case "reference" if workload.length > 8192:
            raise Unsupported("the definition takes O(length^2)")
    impl, precision = _impl(contender), precision_of(contender)
    assert precision is not None

    def ours(u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return long_conv(u, kernel, skip, impl=impl, precision=precision)

    return ours


def _official(settings: Settings) -> ModuleType:
    assert settings.official is not None
    return load_official(settings.official)


def check_contender(contender: Contender, official: Path | None, flashfftconv: Path | None) -> None:
    """Check that a contender can be had at all.

    Raises:
        InputError: its code is not there.
    """
    if contender.base == "official":
        if official is None:
            raise InputError("the contender official needs --official PATH")
        load_official(official)
    if contender.base == "flashfftconv":
        if flashfftconv is not None and str(flashfftconv) not in sys.path:
            sys.path.insert(0, str(flashfftconv))
        if importlib.util.find_spec("flashfftconv") is None:
            raise InputError("FlashFFTConv is not installed", remedy="--flashfftconv FOLDER that holds flashfftconv/")


def _impl(contender: Contender) -> Implementation:
    return "auto" if contender.base in ("fast", "high") else contender.base  # type: ignore[return-value]


def _flashfftconv(workload: Workload, settings: Settings) -> Convolution:
    if settings.device == "cpu":
        raise Unsupported("FlashFFTConv needs a GPU")
    size = 2 * workload.length
    if size & (size - 1) or not 256 <= size <= 1 << 22:
        raise Unsupported("FlashFFTConv takes powers of two from 128 to 2,097,152")
    dtype = select_precision(settings.precision, torch.device("cpu"))
    if dtype == torch.float32:
        raise Unsupported("FlashFFTConv takes half precision only")
    layer = importlib.import_module("flashfftconv").FlashFFTConv(size, dtype=dtype).to(settings.device)

    def convolve(u: torch.Tensor, kernel: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = layer(u.to(dtype), kernel) + u * skip[:, None].to(u.dtype)
        return y

    return convolve


def build_model(contender: Contender, config: HyenaConfig, settings: Settings) -> Any:
    """A model with `hidden(ids)`, `lm_head` and `backbone.layers[i].mixer`; all but attention have equal weights.

    Raises:
        Unsupported: the contender is an operator only.
    """
    if contender.base in ("flashfftconv", "reference"):
        raise Unsupported("an operator, not a model")
    device = torch.device(settings.device)
    if contender.base == "official":
        if device.type == "cpu":
            # On the host a second copy would count as memory of the cell.
            made = _new_official(config, settings)
        else:
            made = copy.deepcopy(_known_official(config, settings))
        if contender.recompute:
            made.recompute()
        return made.to(device)
    torch.manual_seed(settings.seed)
    if contender.base == "transformer":
        config = config.model_copy(update={"mixer": "attention"})
    model = HyenaDNA(config)
    if contender.base == "plain":
        make_plain(model, config)
    elif contender.base != "transformer":
        model.set_long_conv(_impl(contender), precision_of(contender) or "high")
    model.set_recompute(contender.recompute)
    return model.to(device)


def _new_official(config: HyenaConfig, settings: Settings) -> OfficialModel:
    torch.manual_seed(settings.seed)
    parameters = {name: value.detach() for name, value in HyenaDNA(config).named_parameters()}
    return OfficialModel(_official(settings), config, parameters)


@lru_cache(maxsize=1)
def _known_official(config: HyenaConfig, settings: Settings) -> OfficialModel:
    """The official model on the host. Its tables, made for every layer, take seconds at a million positions."""
    return _new_official(config, settings)


@contextmanager
def surroundings(contender: Contender, settings: Settings) -> Iterator[None]:
    """The context that a contender runs in: autocast, family of kernels, backend of attention."""
    device = torch.device(settings.device)
    with ExitStack() as stack:
        dtype = dtype_of(contender, settings)
        if dtype != torch.float32:
            stack.enter_context(autocast(device, dtype))
        if not is_ours(contender) and not contender.fused:
            stack.enter_context(_variable(_TIER, "torch"))
        if contender.base == "transformer" and device.type == "cuda":
            # FlashAttention or an error: a comparison with anything slower would be none.
            stack.enter_context(sdpa_kernel(SDPBackend.FLASH_ATTENTION))
        yield


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def used(contender: Contender, workload: Workload, settings: Settings) -> str:
    """What runs in a cell, in words: tier of operators and implementation of the long convolution."""
    device = torch.device(settings.device)
    match contender.base:
        case "transformer":
            return f"{tier_name(device) if contender.fused else 'torch'}, attention"
        case "plain" | "official":
            return "torch, rfft of 2L"
        case "flashfftconv":
            return "flashfftconv"
    return f"{tier_name(device)}, {chosen_implementation(contender, workload, settings)}"


def chosen_implementation(contender: Contender, workload: Workload, settings: Settings) -> Implementation:
    """How one of ours convolves: a convolution for itself at the operator's level, else one within a mixer."""
    device = torch.device(settings.device)
    # Shapes, device and dtypes decide; a single number stands for all.
    shape = (workload.batch, settings.config.d_model, workload.length)
    u = torch.empty(1, device=device, dtype=dtype_of(contender, settings)).expand(shape)
    kernel = torch.empty(1, device=device).expand(shape[1:])
    precision = precision_of(contender) or "high"
    return choose(u, kernel, impl=_impl(contender), precision=precision, alone=workload.level == "operator")
