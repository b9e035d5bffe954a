"""Low-rank adapters on the projections and the MLP of a frozen language model, made by peft."""

from __future__ import annotations

from torch import nn

from hyena_dna.errors import missing_extra
from hyena_dna.model.classifier import SequenceClassifier
from hyena_dna.training.finetune_config import LoraSettings
from hyena_dna.training.optim import is_filter

__all__ = ["add_adapters", "merge_adapters"]


def add_adapters(classifier: SequenceClassifier, settings: LoraSettings) -> None:
    """Freeze a classifier but for its head, and put an adapter beside every linear layer of its blocks.

    Filter networks get none: a small change of a filter's weights is no small change of the filter. An adapter is zero
    until it is trained.

    Raises:
        InputError: the optional dependency is missing.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise missing_extra("LoRA", "lora") from None
    backbone = classifier.model.backbone
    targets = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and not is_filter(f".{name}.")
    ]
    for name, parameter in classifier.model.named_parameters():
        parameter.requires_grad = settings.train_filters and is_filter(name)
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=targets, bias="none")
    inject_adapter_in_model(config, backbone)
    for name, parameter in backbone.named_parameters():
        if ".lora_" in name or (settings.train_filters and is_filter(name)):
            parameter.requires_grad = True


def merge_adapters(classifier: SequenceClassifier) -> None:
    """Add every adapter to the matrix it lies beside, and put the plain linear layers back."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    backbone = classifier.model.backbone
    adapted = [(name, module) for name, module in backbone.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        module.merge()
        parent, _, own = name.rpartition(".")
        setattr(backbone.get_submodule(parent), own, module.get_base_layer())
    for parameter in classifier.parameters():
        parameter.requires_grad = True
