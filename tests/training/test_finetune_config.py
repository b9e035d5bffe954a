"""Shipped configurations of fine-tuning, and what a configuration may not say."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hyena_dna.config import find_config, list_configs, load_yaml
from hyena_dna.training.finetune_config import FinetuneConfig


@pytest.mark.parametrize("name", list_configs("finetune"))
def test_shipped_configurations(name: str) -> None:
    config = load_yaml(find_config(f"finetune/{name}", "finetune"), FinetuneConfig)
    assert config.mode == "full"
    if name.startswith("ce10"):
        assert config.data.val_contigs == ("chrIII",)
        assert config.data.test_contigs == ("chrII",)


def test_the_usual_names_are_there() -> None:
    assert {"default", "example", "gue", "ce10-promoter-512", "ce10-element-2k"} <= set(list_configs("finetune"))


@pytest.mark.parametrize(
    "content",
    [
        {"model": {"d_model": 8, "n_layer": 1, "max_length": 64}},
        {"data": {"negatives": "gc", "fasta": {"a": "a.fa"}}},
        {"data": {"k_folds": 2}},
        {"data": {"window": "1"}},
        {"optim": {"class_weights": {"a": 0.0}}},
        {"optim": {"lr": float("nan")}},
        {"trainer": {"seeds": 0}},
        {"probe": {"strengths": []}},
    ],
)
def test_what_makes_no_sense(content: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FinetuneConfig.model_validate(content)
