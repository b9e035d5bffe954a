from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hyena_dna.config import find_config, list_configs, load_yaml
from hyena_dna.errors import InputError
from hyena_dna.genome.regions import read_regions
from hyena_dna.model.presets import PRESETS
from hyena_dna.training.config import RESUMABLE, OptimConfig, PretrainConfig
from hyena_dna.training.genomes import genome_names
from hyena_dna.training.plan import StepPlan


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [("10000 steps", 10_000, "steps"), ("1 step", 1, "steps"), ("5G tokens", 5e9, "tokens"),
     ("2.5e6 tokens", 2.5e6, "tokens"), ("60epochs", 60, "epochs"), ("0.5 epochs", 0.5, "epochs")],
)  # fmt: skip
def test_durations_are_read_in_every_unit(text: str, amount: float, unit: str) -> None:
    assert OptimConfig(duration=text).length == (amount, unit)


@pytest.mark.parametrize("text", ["", "10", "steps", "-5 steps", "0 steps", "1e400 tokens", "nan steps", "3 hours"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        OptimConfig(duration=text)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_shipped_configurations_have_the_published_architecture(name: str) -> None:
    # Weights trained from a YAML that drifted would not fit the published ones, and nobody would see it.
    config = load_yaml(find_config(name, "pretrain"), PretrainConfig)
    assert config.model == PRESETS[name]
    assert config.data.window == config.model.max_length - 2


@pytest.mark.parametrize("name", list_configs("pretrain"))
def test_every_shipped_configuration_makes_a_plan(name: str) -> None:
    config = load_yaml(find_config(name, "pretrain"), PretrainConfig)
    plan = StepPlan.make(config, 100_000_000)
    assert plan.total_steps > 0
    assert plan.shapes[-1].length == config.data.window


def test_all_presets_are_shipped() -> None:
    assert {*PRESETS, "example", "release-tiny", "release-small"} == set(list_configs("pretrain"))


@pytest.mark.parametrize("name", ["release-tiny", "release-small"])
def test_a_release_comes_with_its_splits_and_weights_its_genomes_by_name(name: str) -> None:
    path = find_config(name, "pretrain")
    config = load_yaml(path, PretrainConfig, ["data.genomes=[sacCer3.fa.gz, human_contigs.fa.gz, ce10.fa.gz]"])
    assert config.data.folds is not None
    regions = read_regions(path.parent / config.data.folds, split_column="split")
    assert {region.interval.chrom.split(":")[0] for region in regions} == set(genome_names(config.data.genomes))
    held_out = {region.interval.chrom: region.split for region in regions}
    assert held_out["human_contigs:hg38_chr2"] == held_out["ce10:chrII"] == held_out["sacCer3:chrIV"] == "test"
    assert held_out["ce10:chrIII"] == "val"
    assert isinstance(config.data.genome_weights, dict)
    assert config.data.weight(2, "ce10") == config.data.genome_weights["ce10"]
    assert sum("chr6" in pattern for pattern in config.data.contigs) == 1, "seven versions of one locus"


def test_numbers_like_1e_3_are_numbers_and_not_text(tmp_path: Path) -> None:
    # PyYAML alone reads 3e-4 as text; this is how a learning rate becomes a string.
    config = load_yaml(find_config("tiny-1k", "pretrain"), PretrainConfig, ["optim.lr=3e-4", "data.window=1k"])
    assert config.optim.lr == 3e-4
    assert config.data.window == 1000


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["optim.leraning_rate=1"], "unknown key"),
        (["data.window=4k"], "longer than model.max_length"),
        (["data.window=-1"], "data.window"),
        (["optim.lr=0"], "optim.lr"),
        (["optim.lr=.nan"], "optim.lr"),
        (["optim.batch_tokens=512"], "less than one data.window"),
        (["optim.length_warmup=[{tokens: 10, length: 2048}]"], "longer than data.window"),
        (["optim.length_warmup=[{tokens: 10, length: 512}, {tokens: 10, length: 64}]"], "short to long"),
        (["data.folds=x.json", "data.val_contigs=[a]"], "exclude each other"),
        (["data.genomes=[a, b]", "data.genome_weights=[1]"], "1 genome_weights for 2 genomes"),
        (["data.genomes=[a.fa, b.fa]", "data.genome_weights={a: 1, c: 2}"], "genome_weights are of a, c"),
        (["model.d_model=none"], "model.d_model"),
    ],
)
def test_settings_that_make_no_run_name_themselves(overrides: list[str], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load_yaml(find_config("tiny-1k", "pretrain"), PretrainConfig, overrides)


def test_settings_that_a_resumed_run_may_change_exist() -> None:
    config = load_yaml(find_config("tiny-1k", "pretrain"), PretrainConfig)
    tree: dict[str, Any] = config.model_dump()
    for key in RESUMABLE:
        section, name = key.split(".")
        assert name in tree[section]


def test_every_field_says_what_it_is() -> None:
    def undescribed(model: Any) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            if not field.description:
                found.append(name)
            if hasattr(field.annotation, "model_fields"):
                found += undescribed(field.annotation)
        return found

    assert undescribed(PretrainConfig) == []
