"""Configurations: YAML 1.2 scalars, strict keys with places, overrides, lengths."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import Field

from hyena_dna.config import Config, dump_yaml, find_config, load_yaml
from hyena_dna.errors import InputError
from hyena_dna.lengths import parse_length


class Inner(Config):
    learning_rate: float = Field(1e-4, gt=0)
    name: str = "a"
    steps: int = 1
    flag: bool = False


class Outer(Config):
    optim: Inner = Inner()
    sizes: list[int] = Field(default_factory=list)
    title: str | None = None


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_scalars_are_what_they_look_like(tmp_path: Path) -> None:
    text = "optim: {learning_rate: 1e-3, name: no, steps: 010}\nsizes: [1, 2]\n"
    # The naive reader gets every one of them wrong.
    assert yaml.safe_load(text)["optim"] == {"learning_rate": "1e-3", "name": False, "steps": 8}
    config = load_yaml(write(tmp_path, text), Outer)
    assert config.optim.learning_rate == 1e-3
    assert config.optim.name == "no"
    assert config.optim.steps == 10


def test_round_trip(tmp_path: Path) -> None:
    config = Outer(optim=Inner(learning_rate=3e-4, name="yes", steps=7, flag=True), sizes=[3], title="1e5")
    dump_yaml(config, tmp_path / "out.yaml")
    assert load_yaml(tmp_path / "out.yaml", Outer) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "optim:\n  leraning_rate: 1\n",
            "run.yaml:2: unknown key 'optim.leraning_rate' (did you mean 'learning_rate'?)",
        ),
        ("optim:\n  steps: 1\n  steps: 2\n", "run.yaml:3: the key 'steps' is given twice"),
        ("optim:\n  steps: many\n", "run.yaml:2: optim.steps: 'many' Input should be a valid integer"),
        ("optim:\n  learning_rate: -1\n", "run.yaml:2: optim.learning_rate: -1 Input should be greater than 0"),
        ("optim:\n  learning_rate: .nan\n", "run.yaml:2: optim.learning_rate"),
        ("optim:\n  learning_rate: nan\n", "run.yaml:2: optim.learning_rate"),
        ("optim: &a {steps: 1}\nsizes: *a\n", "run.yaml:2: aliases are not allowed"),
        ("optim: {steps: 1\n", "run.yaml:2: "),
        ("- 1\n", "a configuration is a mapping"),
        ("", "a configuration is a mapping"),
        ("a: !!python/object/apply:os.system [touch canary]\n", "run.yaml:1"),
        ("title: !!python/object/apply:os.system [touch canary]\n", "run.yaml:1"),
        ("[a]: 1\n", "a key is a plain word"),
        ("#" * (1 << 20) + "\na: 1\n", "larger than 1 MiB"),
        ("a: " + "[" * 1500, "run.yaml"),
    ],
)
def test_bad_files_name_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_yaml(write(tmp_path, text), Outer)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_not_utf8_and_missing(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"title: a\nname: \xff\n")
    with pytest.raises(InputError, match=r"run\.yaml:2: not UTF-8"):
        load_yaml(path, Outer)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_yaml(tmp_path / "none.yaml", Outer)


def test_overrides_win_and_are_named_in_errors(tmp_path: Path) -> None:
    path = write(tmp_path, "optim: {learning_rate: 1}\n")
    config = load_yaml(path, Outer, ["optim.learning_rate=3e-4", "sizes=[4, 5]", "title=null"])
    assert config.optim.learning_rate == 3e-4
    assert config.sizes == [4, 5]
    for text, message in [
        ("optim.learning_rat=1", "--set optim.learning_rat=1: unknown key 'optim.learning_rat' (did you mean"),
        ("optim.steps=x", "--set optim.steps=x: optim.steps: 'x'"),
        ("steps", "not of the form"),
        ("optim.steps.more=1", "is not a section"),
    ]:
        with pytest.raises(InputError) as caught:
            load_yaml(path, Outer, ["optim.steps=1", text])
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "length"),
    [("1024", 1024), ("32k", 32_000), ("1.5kb", 1500), ("1M", 1_000_000), ("7bp", 7), ("2Mb", 2_000_000)],
)
def test_lengths(text: str, length: int) -> None:
    assert parse_length(text) == length


@pytest.mark.parametrize("text", ["", "k", "-1", "1e3", "1_000", "1.0005k", "\u0661", "nan"])
def test_bad_lengths(text: str) -> None:
    with pytest.raises(InputError):
        parse_length(text)


def test_configurations_are_found_by_name_or_path(tmp_path: Path) -> None:
    assert find_config("tiny-1k", "pretrain") == find_config("pretrain/tiny-1k", "pretrain")
    own = write(tmp_path, "")
    assert find_config(str(own), "pretrain") == own
    with pytest.raises(InputError, match="did you mean 'tiny-1k"):
        find_config("tiny-1kk", "pretrain")
