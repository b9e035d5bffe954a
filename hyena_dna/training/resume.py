"""Whether a run may go on: the configuration and the data must be those that it began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from hyena_dna.errors import InputError
from hyena_dna.training.checkpoints import RunState
from hyena_dna.training.config import RESUMABLE, PretrainConfig
from hyena_dna.training.run_folder import RunFolder

__all__ = ["adopt_resolved", "check_same_config", "check_same_data", "check_same_settings"]

# Where these files lie plays no part; what is in them is compared by `check_same_data`.
_PATHS = frozenset({"data.genomes", "data.bam", "data.folds", "data.exclude"})


def adopt_resolved(config: PretrainConfig, saved: PretrainConfig) -> PretrainConfig:
    """Give settings that are "auto" the values that they had when the run began."""
    update = {
        name: getattr(saved.optim, name)
        for name in ("precision", "accumulate")
        if getattr(config.optim, name) == "auto"
    }
    return config.model_copy(update={"optim": config.optim.model_copy(update=update)})


def check_same_config(config: PretrainConfig, saved: PretrainConfig, folder: RunFolder) -> None:
    """Refuse to resume with another configuration.

    Raises:
        InputError: names the first setting that differs, with both values.
    """
    check_same_settings(config, saved, folder, RESUMABLE | _PATHS)


def check_same_settings(config: BaseModel, saved: BaseModel, folder: RunFolder, free: frozenset[str]) -> None:
    """Refuse to resume with other settings than those that a run began with.

    Args:
        config: the settings.
        saved: those that the run began with.
        folder: of the run.
        free: names of settings that may differ.

    Raises:
        InputError: names the first setting that differs, with both values.
    """
    before, now = dict(_flatten(saved.model_dump(mode="json"))), dict(_flatten(config.model_dump(mode="json")))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key) and key not in free]
    if changed:
        key = changed[0]
        raise InputError(
            f"the run began with {key} = {before.get(key)}, not {now.get(key)}",
            file=folder.config,
            remedy="resume with the same settings, or begin a new run with another -o",
        )


def check_same_data(fingerprints: Mapping[str, str], state: RunState, folder: RunFolder) -> None:
    """Refuse to resume on other sequence, other splits or another number of devices.

    Raises:
        InputError: names what differs.
    """
    for name in {**state.fingerprints, **fingerprints}:
        if state.fingerprints.get(name) != fingerprints.get(name):
            raise InputError(
                f"{name} is not what the run began with",
                file=folder.path,
                remedy="resume with the same data and devices, or begin a new run with another -o",
            )


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
