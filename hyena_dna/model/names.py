"""What tensors are called in each of the published layouts of HyenaDNA weights, and in ours.

    tensor of this project       native         standalone     lightning            hf
    ---------------------------  -------------  -------------  -------------------  ----------------
    backbone.*                   backbone.*     backbone.*     model.backbone.*     hyena.backbone.*
    lm_head.weight               where untied   where untied   model.lm_head.*      lm_head.*
    *.implicit_filter.1.freq     one            .1 .3 .5       .1 .3 .5             .1 (or .1 .3 .5)
    *.pos_emb.z, .pos_emb.t      -              yes            yes                  yes
    *.modulation.deltas          -              yes            yes                  yes

Below `backbone.` all layouts agree. Lightning files of models trained with gradient checkpointing say `mixer.layer.`
and `mlp.layer.` for `mixer.` and `mlp.`, whatever their settings say, so reading goes by the names alone. The filter
network has one sine whose frequency appears under the index of every activation. `z`, `t` and `deltas` follow from the
architecture (`hyena_dna.model.tables`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hyena_dna.errors import InputError
from hyena_dna.model.config import HyenaConfig

__all__ = ["EMBEDDING", "LM_HEAD", "Layout", "NativeWeights", "check_names", "from_native", "to_native"]

Layout = Literal["native", "standalone", "lightning", "hf"]

EMBEDDING = "backbone.embeddings.word_embeddings.weight"
LM_HEAD = "lm_head.weight"

_PREFIXES: dict[Layout, tuple[str, str]] = {
    # layout: what stands before "backbone." and before "lm_head."
    "native": ("", ""),
    "standalone": ("", ""),
    "lightning": ("model.", "model."),
    "hf": ("hyena.", ""),
}
# Prefixes of `_PREFIXES` and of wrappers that training code puts around a model, in any combination.
_WRAPPERS = re.compile(r"^(?:(?:model|module|_orig_mod|hyena)\.)+(?=backbone\.|lm_head\.)")
_RECOMPUTED = re.compile(r"\.(mixer|mlp)\.layer\.")
_TABLE = re.compile(r"\.(?:pos_emb\.[zt]|modulation\.deltas)$")
_FREQUENCY = re.compile(r"(?<=\.implicit_filter\.)\d+(?=\.freq$)")
# Counters that torchmetrics keeps in a Lightning module's state.
_COUNTERS = re.compile(r"^(?:train|val|test)_torchmetrics\.")
_SHOWN = 3


@dataclass(frozen=True)
class NativeWeights:
    """Weights under this project's names.

    Attributes:
        parameters: parameters, `lm_head.weight` among them where the file has it.
        tables: `z`, `t`, `deltas` as the file has them, by their standalone names.
        ignored: names in the file that are no part of a model.
        layout: the naming that was found.
    """

    parameters: dict[str, Tensor]
    tables: dict[str, Tensor]
    ignored: list[str]
    layout: Layout

    @property
    def tied(self) -> bool:
        """Whether one matrix serves as embeddings and LM head: the file has no head of its own, or an equal one."""
        head, embedding = self.parameters.get(LM_HEAD), self.parameters.get(EMBEDDING)
        return head is None or (embedding is not None and torch.equal(head, embedding))


def to_native(tensors: Mapping[str, Tensor]) -> NativeWeights:
    """Translate a state dict of any layout to this project's names.

    Raises:
        InputError: two tensors have the same meaning and different values, e.g. the copies of a frequency.
    """
    parameters: dict[str, Tensor] = {}
    tables: dict[str, Tensor] = {}
    ignored = []
    for name, tensor in tensors.items():
        if _COUNTERS.match(name):
            ignored.append(name)
            continue
        canonical = _FREQUENCY.sub("1", _RECOMPUTED.sub(r".\1.", _WRAPPERS.sub("", name)))
        target = tables if _TABLE.search(canonical) else parameters
        known = target.setdefault(canonical, tensor)
        if known is not tensor and not torch.equal(known, tensor):
            raise InputError(f"{name} differs from another tensor that is the same parameter, {canonical}")
    return NativeWeights(parameters, tables, ignored, _layout(tensors))


def _layout(tensors: Mapping[str, Tensor]) -> Layout:
    first = next((name for name in tensors if "backbone." in name), "")
    if first.startswith("hyena."):
        return "hf"
    if not first.startswith("backbone."):
        return "lightning"
    return "standalone" if any(_TABLE.search(name) for name in tensors) else "native"


def check_names(
    parameters: Mapping[str, Tensor], expected: Mapping[str, torch.Size], config: HyenaConfig | None = None
) -> None:
    """Check that nothing is missing, nothing unused, and every shape is the architecture's.

    Args:
        parameters: tensors by this project's names.
        expected: shape of every parameter of the model.
        config: the model, for the message.

    Raises:
        InputError: names the first mismatches.
    """
    missing = [name for name in expected if name not in parameters]
    unused = [name for name in parameters if name not in expected]
    wrong = [
        f"{name} is {tuple(parameters[name].shape)} and not {tuple(shape)}"
        for name, shape in expected.items()
        if name in parameters and parameters[name].shape != shape
    ]
    found = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for names, what in ((missing, "missing"), (unused, "not part of the model"), (wrong, "of another shape"))
        if names
    ]
    if found:
        dims = f"d_model {config.d_model}, {config.n_layer} layers" if config else "this architecture"
        raise InputError(f"the weights are not those of a model with {dims}: {'; '.join(found)}")


def from_native(
    parameters: Mapping[str, Tensor], tables: Mapping[str, Tensor], config: HyenaConfig, layout: Layout
) -> dict[str, Tensor]:
    """Translate this project's names to a published layout.

    Args:
        parameters: the model's parameters, `lm_head.weight` only where it is not tied to the embeddings.
        tables: tables by their standalone names.
        config: the model.
        layout: the naming to write.

    Returns:
        New names to tensors. HF and Lightning always have an LM head, a copy of the embeddings where these are tied;
        HF has every frequency once, the others under the index of every activation.
    """
    backbone, head = _PREFIXES[layout]
    translated: dict[str, Tensor] = {}
    for name, tensor in {**parameters, **tables}.items():
        target = f"{head if name == LM_HEAD else backbone}{name}"
        copies = range(config.filter_num_inner_mlps + 1) if layout in ("standalone", "lightning") else range(1)
        if _FREQUENCY.search(name):
            translated |= {_FREQUENCY.sub(str(2 * index + 1), target): tensor for index in copies}
        else:
            translated[target] = tensor
    if layout in ("lightning", "hf"):
        translated.setdefault(f"{head}{LM_HEAD}", parameters[EMBEDDING])
    return translated
