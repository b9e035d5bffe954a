"""The official `standalone_hyenadna.py`, loaded from a path that the user gives.

The file asks for packages of which it uses next to nothing: a regularisation layer that is off, the base class of a
tokenizer that is not made here, and one function of einops. Where they are not installed, small stand-ins take their
place while the file is imported, and go again.
"""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hyena_dna.errors import InputError
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.names import from_native

__all__ = ["OfficialModel", "load_official"]

_AXES = re.compile(r"\([^)]*\)|\S+")


class _NoStochasticDepth(nn.Identity):
    def __init__(self, p: float, mode: str) -> None:
        super().__init__()
        if p:
            raise InputError("stochastic depth is not part of a benchmark")


def _rearrange(x: torch.Tensor, pattern: str, **sizes: int) -> torch.Tensor:
    """What einops.rearrange does to axes that are reordered, split and joined."""
    left, right = (_AXES.findall(side) for side in pattern.split("->"))
    spare = [f"_{index}" for index in range(x.dim() - len(left) + 1)]
    left, right = ([axis for one in side for axis in (spare if one == "..." else [one])] for side in (left, right))
    groups = [axis.strip("()").split() for axis in left]
    shape: list[int] = []
    for parts, size in zip(groups, x.shape, strict=True):
        known = math.prod(sizes.get(part, 1) for part in parts)
        shape += [sizes.get(part, size // known) for part in parts]
    order = [part for parts in groups for part in parts]
    wanted = [axis.strip("()").split() for axis in right]
    spread = x.reshape(shape).permute([order.index(part) for parts in wanted for part in parts])
    extents = iter(spread.shape)
    return spread.reshape([math.prod(next(extents) for _ in parts) for parts in wanted])


def _stand_ins() -> dict[str, ModuleType]:
    def module(name: str, **content: Any) -> ModuleType:
        made = ModuleType(name)
        # Torch asks what is importable while the file is imported.
        made.__spec__ = ModuleSpec(name, None)
        vars(made).update(content)
        return made

    class AddedToken:
        pass

    class PreTrainedTokenizer:
        pass

    return {
        "einops": module("einops", rearrange=_rearrange),
        "torchvision": module("torchvision"),
        "torchvision.ops": module("torchvision.ops", StochasticDepth=_NoStochasticDepth),
        "transformers": module("transformers"),
        "transformers.tokenization_utils": module(
            "transformers.tokenization_utils", AddedToken=AddedToken, PreTrainedTokenizer=PreTrainedTokenizer
        ),
    }


def _is_installed(package: str) -> bool:
    return package in sys.modules or importlib.util.find_spec(package) is not None


@contextmanager
def _importable() -> Iterator[None]:
    """Stand-ins for packages that are not installed, for the time of the import only."""
    stand_ins = _stand_ins()
    missing = {name.split(".")[0] for name in stand_ins if not _is_installed(name.split(".")[0])}
    used = {name: module for name, module in stand_ins.items() if name.split(".")[0] in missing}
    before = {name: sys.modules.get(name) for name in used}
    sys.modules.update(used)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


@lru_cache(maxsize=1)
def load_official(path: Path) -> ModuleType:
    """Import the official file. It is code, and runs: only for files that the user trusts.

    Raises:
        InputError: there is no such file, or it is not that one.
    """
    if path.is_dir():
        path = path / "standalone_hyenadna.py"
    spec = importlib.util.spec_from_file_location("standalone_hyenadna", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError("there is no such Python file", file=path, remedy="--official PATH/standalone_hyenadna.py")
    module = importlib.util.module_from_spec(spec)
    try:
        with _importable():
            spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise InputError(f"cannot be imported: {error}", file=path) from None
    if not hasattr(module, "HyenaDNAModel") or not hasattr(module, "fftconv"):
        raise InputError("is not the official standalone_hyenadna.py", file=path)
    return module


class _Recomputed(nn.Module):
    """A block whose inside is computed again in the backward pass."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
        return checkpoint(self.block, hidden, residual, use_reentrant=False)


class OfficialModel(nn.Module):
    """The official model in the shape of a configuration, with the parts that a benchmark asks for.

    Attributes:
        backbone: the official one; `backbone.layers[i]` and its `mixer` are called as this package's.
        lm_head: the embedding matrix as a head, as in the official training code.

    Args:
        module: from `load_official`.
        config: the architecture, with the published mixer and order 2 or more.
        parameters: weights by this package's names.
    """

    def __init__(self, module: ModuleType, config: HyenaConfig, parameters: dict[str, torch.Tensor]) -> None:
        super().__init__()
        if config.leading_conv:
            raise InputError("the official code has no leading convolution")
        layer = {"emb_dim": config.filter_emb_dim, "filter_order": config.filter_order, "l_max": config.max_length,
                 "order": config.order, "num_inner_mlps": config.filter_num_inner_mlps, "w": config.filter_freq,
                 "shift": config.modulation_shift, "lr": 6e-4, "lr_pos_emb": 0.0}  # fmt: skip
        inner = module.HyenaDNAModel(
            d_model=config.d_model, n_layer=config.n_layer, d_inner=config.d_inner, vocab_size=config.vocab_size,
            pad_vocab_size_multiple=config.pad_vocab_size_multiple, layer=layer, resid_dropout=config.resid_dropout,
            embed_dropout=config.embed_dropout, residual_in_fp32=config.residual_in_fp32,
        )  # fmt: skip
        tables = {name: value for name, value in inner.state_dict().items() if name not in parameters}
        state = from_native({k: v for k, v in parameters.items() if k != "lm_head.weight"}, {}, config, "standalone")
        inner.load_state_dict({**tables, **state})
        self.backbone = inner.backbone
        self.lm_head = nn.Linear(config.d_model, config.padded_vocab_size, bias=False)
        self.lm_head.weight = self.backbone.embeddings.word_embeddings.weight

    def recompute(self) -> None:
        """Compute the inside of every block again in the backward pass, from now on."""
        self.backbone.layers = nn.ModuleList(_Recomputed(block) for block in self.backbone.layers)

    def hidden(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Final hidden states (batch, length, d_model) of ids (batch, length)."""
        states: torch.Tensor = self.backbone(input_ids.long())
        return states
