"""Run configurations: strict YAML in, validated values out.

One file is one whole run: no inheritance, no interpolation, no aliases. Scalars follow the YAML 1.2 core schema, so
`1e-3` is a number, `no` is a word and `010` is ten. Unknown and repeated keys are errors with file, line and the
nearest known key.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hyena_dna.errors import InputError
from hyena_dna.files import atomic_open
from hyena_dna.paths import config_root

__all__ = ["Config", "dump_yaml", "find_config", "list_configs", "load_yaml", "nearest"]

_SIZE_LIMIT = 1 << 20

Path_ = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


class Config(BaseModel):
    """Base of every configuration class: unknown keys, NaN and infinity are errors; values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of the YAML 1.2 core schema instead of YAML 1.1's."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own interface


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes what `_Loader` would take for something else than text."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^{_pattern}$"), _first)


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    # PyYAML would read a leading zero as octal.
    return int(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A remedy that names the known words nearest to `name`, or None when nothing is near."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(repr(word) for word in close)}?" if close else None


def list_configs(kind: str) -> list[str]:
    """Names of the shipped configurations of a kind (`pretrain`), without folder and suffix."""
    return sorted(path.stem for path in (config_root() / kind).glob("*.yaml"))


def find_config(name: str, kind: str) -> Path:
    """The file that `--config NAME` means: an existing path, or the name of a shipped configuration.

    Args:
        name: a path, `KIND/NAME` or `NAME`.
        kind: the folder of shipped configurations that a bare name is looked up in.

    Raises:
        InputError: neither a file nor a shipped name.
    """
    shipped = name.removeprefix(f"{kind}/")
    if shipped in list_configs(kind):
        return config_root() / kind / f"{shipped}.yaml"
    if Path(name).is_file():
        return Path(name)
    remedy = nearest(shipped, list_configs(kind)) or f"shipped: {', '.join(list_configs(kind))}"
    raise InputError("no such file and no such shipped configuration", file=name, remedy=remedy)


def load_yaml(path: str | os.PathLike[str], model: type[Model], overrides: Sequence[str] = ()) -> Model:
    """Read a YAML file into a configuration class.

    Args:
        path: the file.
        model: the pydantic class to fill.
        overrides: `section.key=value` texts that win over the file, values in YAML syntax.

    Raises:
        InputError: unreadable, not YAML, over 1 MiB, aliases, repeated or unknown keys, or values that do not fit;
            with file and line.
    """
    data, lines = _read(path)
    origins: dict[Path_, str] = {}
    for text in overrides:
        _override(data, text, origins)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explain(error, model, path, lines, origins) from None


def dump_yaml(model: BaseModel, path: str | os.PathLike[str]) -> None:
    """Write a configuration so that `load_yaml` reads the same values back."""
    with atomic_open(path, "w") as handle:
        data = model.model_dump(mode="json")
        handle.write(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[Path_, int]]:
    try:
        with open(path, "rb") as handle:
            raw = handle.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from None
    if len(raw) > _SIZE_LIMIT:
        raise InputError("larger than 1 MiB, which no configuration is", file=path)
    lines: dict[Path_, int] = {}
    try:
        data = _compose(raw.decode("utf-8"), path, lines)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError("not UTF-8 text", file=path, line=line) from None
    if not isinstance(data, dict):
        raise InputError("a configuration is a mapping of keys to values", file=path, line=1)
    return data, lines


def _compose(text: str, path: str | os.PathLike[str], lines: dict[Path_, int]) -> Any:
    loader = _Loader(text)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            # Refused before composing: nested aliases expand without bound.
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else None
                raise InputError("aliases are not allowed", file=path, line=line)
        node = loader.get_single_node()
        return None if node is None else _construct(loader, node, (), path, lines)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "not YAML"
        raise InputError(str(problem), file=path, line=mark.line + 1 if mark else None) from None
    except RecursionError:
        raise InputError("nested too deeply", file=path) from None
    finally:
        loader.dispose()


def _construct(
    loader: _Loader, node: yaml.Node, at: Path_, path: str | os.PathLike[str], lines: dict[Path_, int]
) -> Any:
    lines[at] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InputError("a key is a plain word", file=path, line=line)
            key = str(key_node.value)
            if key in mapping:
                raise InputError(f"the key {key!r} is given twice", file=path, line=line, remedy="keep one of them")
            mapping[key] = _construct(loader, value_node, (*at, key), path, lines)
            lines[(*at, key)] = line
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*at, index), path, lines) for index, item in enumerate(node.value)]
    return loader.construct_object(node)


def _override(data: dict[str, Any], text: str, origins: dict[Path_, str]) -> None:
    key, equals, value = text.partition("=")
    parts = tuple(key.strip().split("."))
    if not equals or not all(parts):
        raise InputError(f"--set {text}: not of the form section.key=value")
    target = data
    for part in parts[:-1]:
        child = target.setdefault(part, {})
        if not isinstance(child, dict):
            raise InputError(f"--set {text}: {part!r} is not a section")
        target = child
    target[parts[-1]] = _compose(value, f"--set {key}", {})
    origins[parts] = f"--set {text}"


def _explain(
    error: ValidationError,
    model: type[BaseModel],
    path: str | os.PathLike[str],
    lines: Mapping[Path_, int],
    origins: Mapping[Path_, str],
) -> InputError:
    first = error.errors(include_url=False)[0]
    at: Path_ = tuple(first["loc"])
    name = ".".join(str(part) for part in at)
    if first["type"] == "extra_forbidden":
        reason, remedy = f"unknown key {name!r}", nearest(str(at[-1]), _fields(model, at[:-1]))
    elif first["type"] == "missing":
        reason, remedy = f"the key {name!r} is missing", None
    else:
        problem = first["msg"].removeprefix("Value error, ")
        value = "" if isinstance(first["input"], dict | BaseModel) else f" {first['input']!r}"
        reason, remedy = (f"{name}:{value} {problem}" if name else problem), None
    for origin, text in origins.items():
        if at[: len(origin)] == origin:
            return InputError(f"{text}: {reason}", remedy=remedy)
    line = next((lines[at[:end]] for end in range(len(at), 0, -1) if at[:end] in lines), None)
    return InputError(reason, file=path, line=line, remedy=remedy)


def _fields(model: type[BaseModel], at: Path_) -> list[str]:
    for part in at:
        field = model.model_fields.get(str(part)) if isinstance(part, str) else None
        if field is None:
            continue
        annotation = field.annotation
        for candidate in (annotation, *get_args(annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
    return list(model.model_fields)
