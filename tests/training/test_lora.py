"""Adapters: seen by every operator, trained, and equal to the merged model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hyena_dna.model.adapters import linear_weight
from hyena_dna.model.classifier import SequenceClassifier, TaskConfig
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.training.finetune_config import LoraSettings
from hyena_dna.training.lora import add_adapters, merge_adapters

pytest.importorskip("peft")


def adapted(device: str = "cpu", **changes: Any) -> SequenceClassifier:
    """A classifier with adapters that are not zero, so that they count."""
    torch.manual_seed(0)
    config = HyenaConfig.model_validate(
        {"d_model": 16, "n_layer": 2, "max_length": 66, "filter_order": 8, "num_heads": 2, "embed_dropout": 0.0}
        | changes
    )
    classifier = SequenceClassifier(HyenaDNA(config), TaskConfig(kind="binary", labels=("a", "b")))
    add_adapters(classifier, LoraSettings(rank=4))
    return classifier.to(device).eval()


def fill(classifier: SequenceClassifier) -> None:
    generator = torch.Generator().manual_seed(1)
    for name, parameter in classifier.named_parameters():
        if "lora_B" in name:
            parameter.data = (0.5 * torch.randn(parameter.shape, generator=generator)).to(parameter.device)


IDS = torch.randint(7, 11, (3, 40), generator=torch.Generator().manual_seed(0))
MODELS = [{}, {"order": 3}, {"order": 1, "leading_conv": True}, {"mixer": "attention"}]


@pytest.mark.parametrize("changes", MODELS)
def test_adapters_count_learn_and_merge(changes: dict[str, Any]) -> None:
    classifier = adapted(**changes)
    before = classifier(IDS)
    fill(classifier)
    after = classifier(IDS)
    # Adapters of single layers, because one that the operator overlooks is drowned by those that it sees.
    for name, module in classifier.model.backbone.named_modules():
        if hasattr(module, "lora_B"):
            kept = module.lora_B["default"].weight.detach().clone()
            module.lora_B["default"].weight.data.zero_()
            assert (classifier(IDS) - after).abs().max() > 1e-5, name
            module.lora_B["default"].weight.data.copy_(kept)
    assert (after - before).abs().max() > 1e-3
    after.sum().backward()
    trained = {name: value for name, value in classifier.named_parameters() if value.requires_grad}
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in trained.values())
    assert {name.split(".")[0] for name in trained} == {"model", "classifier"}
    assert not any("filter" in name or "embedding" in name for name in trained)
    merge_adapters(classifier)
    assert torch.allclose(classifier(IDS), after, atol=1e-6)
    plain = SequenceClassifier(HyenaDNA(classifier.model.config), classifier.task)
    assert set(classifier.state_dict()) == set(plain.state_dict())


def test_the_trap_that_this_guards_against() -> None:
    # peft's layer shows the frozen matrix as its weight: code that multiplies with it overlooks the adapter.
    classifier = adapted()
    fill(classifier)
    mixer: Any = classifier.model.backbone.layers[0].mixer
    layer = mixer.in_proj
    x = torch.randn(5, 16)
    assert not torch.allclose(layer(x), x @ layer.weight.T + layer.bias, atol=1e-3)
    assert torch.allclose(layer(x), x @ linear_weight(layer).T + layer.bias, atol=1e-5)


@pytest.mark.parametrize("merged", [False, True])
def test_adapters_that_are_turned_off(merged: bool) -> None:
    classifier = adapted().eval()
    with torch.no_grad():
        before = classifier(IDS)
        fill(classifier)
        assert (classifier(IDS) - before).abs().max() > 1e-3
        layers: list[Any] = [module for module in classifier.modules() if hasattr(module, "lora_B")]
        for layer in layers:
            if merged:
                layer.merge()
            layer.enable_adapters(False)
        assert torch.allclose(classifier(IDS), before, atol=1e-6)
        # One that a layer does not have is none of its business.
        layers[0].enable_adapters(True)
        layers[0]._active_adapter = ["default", "other"]
        linear_weight(layers[0])


def test_filters_can_be_trained_too() -> None:
    torch.manual_seed(0)
    config = HyenaConfig(d_model=8, n_layer=1, max_length=34, filter_order=8)
    classifier = SequenceClassifier(HyenaDNA(config), TaskConfig(kind="binary", labels=("a", "b")))
    add_adapters(classifier, LoraSettings(rank=2, train_filters=True))
    trained = [name for name, value in classifier.named_parameters() if value.requires_grad]
    assert any("filter_fn" in name for name in trained)
    assert not any("filter_fn" in name and "lora" in name for name in trained)


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [{"d_model": 64}, {"d_model": 64, "order": 3}])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_fused_operators_see_adapters(changes: dict[str, Any], precision: torch.dtype) -> None:
    classifier = adapted("cuda", **changes)

    def logits() -> torch.Tensor:
        # Within one autocast block casts of weights are kept, whatever is written to the weights.
        with torch.autocast("cuda", dtype=precision):
            found: torch.Tensor = classifier(IDS.cuda())
        return found

    before = logits()
    fill(classifier)
    after = logits()
    for name, module in classifier.model.backbone.named_modules():
        if hasattr(module, "lora_B"):
            kept = module.lora_B["default"].weight.detach().clone()
            module.lora_B["default"].weight.data.zero_()
            assert not torch.equal(logits(), after), name
            module.lora_B["default"].weight.data.copy_(kept)
    after.sum().backward()  # type: ignore[no-untyped-call]
    assert (after - before).abs().max() > 1e-3
    for name, value in classifier.named_parameters():
        if value.requires_grad:
            assert value.grad is not None, name
            assert value.grad.abs().sum() > 0, name
    merge_adapters(classifier)
    assert torch.allclose(logits(), after, atol=5e-2)
