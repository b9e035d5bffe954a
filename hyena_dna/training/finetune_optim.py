"""AdamW with a learning rate per depth of a classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hyena_dna.model.classifier import SequenceClassifier
from hyena_dna.training.finetune_config import FinetuneOptim
from hyena_dna.training.optim import is_decayed, is_filter

__all__ = ["finetune_optimizer", "freeze_unused"]


def finetune_optimizer(classifier: SequenceClassifier, config: FinetuneOptim) -> torch.optim.AdamW:
    """AdamW with a learning rate per depth: blocks far from the output know more that is general, and change less.

    Groups carry `peak_lr` and `names`, as `hyena_dna.training.optim.build_optimizer` makes them. Head, norms, biases,
    embeddings, filters and adapters are not decayed.
    """
    top = classifier.model.config.n_layer
    members: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in classifier.named_parameters():
        if not parameter.requires_grad:
            continue
        own = name.removeprefix("model.")
        if own.startswith("classifier."):
            lr, decay = config.head_lr or config.lr, 0.0
        else:
            lr = config.lr * config.layer_decay ** (top - _depth(own, top))
            adapter = ".lora_" in own
            decay = config.weight_decay if is_decayed(own, parameter) and not adapter else 0.0
            decay = 0.0 if is_filter(own) else decay
        members.setdefault((lr, decay), []).append((name, parameter))
    groups: list[dict[str, Any]] = [
        {
            "params": [parameter for _, parameter in found],
            "names": [name for name, _ in found],
            "lr": lr,
            "peak_lr": lr,
            "weight_decay": decay,
        }
        for (lr, decay), found in members.items()
    ]
    fused = all(parameter.is_cuda for parameter in classifier.parameters())
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=fused)


def _depth(name: str, top: int) -> int:
    """0 for the embeddings, the number of its block for what is in one, the last for what comes after."""
    if name.startswith("backbone.layers."):
        return int(name.split(".")[2]) + 1
    return 0 if name.startswith("backbone.embeddings.") else top


def freeze_unused(classifier: SequenceClassifier) -> None:
    """Leave out of training what no logit depends on: the LM head, and what lies above the highest pooled block."""
    layers, model = classifier.task.layers, classifier.model
    embeddings = model.backbone.embeddings.word_embeddings.weight
    unused = [parameter for parameter in model.lm_head.parameters() if parameter is not embeddings]
    if layers:
        unused += model.backbone.ln_f.parameters()
        unused += model.backbone.layers[max(layers) :].parameters()
    for parameter in unused:
        parameter.requires_grad = False
