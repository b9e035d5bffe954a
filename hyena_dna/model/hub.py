"""Models on the Hugging Face hub: `hf:owner/name` or `hf:owner/name@revision`, weights and settings only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hyena_dna.errors import InputError, escape, missing_extra

__all__ = ["PREFIX", "HubName", "download"]

PREFIX = "hf:"
FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""The only files that are asked for: no code, no pickles."""

_NAME = re.compile(
    r"hf:(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[A-Za-z0-9][\w./-]*))?", re.ASCII
)


@dataclass(frozen=True)
class HubName:
    """A repository on the hub and, optionally, a branch, tag or commit of it."""

    repo: str
    revision: str | None

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Read `hf:owner/name[@revision]`.

        Raises:
            InputError: not of that form.
        """
        match = _NAME.fullmatch(text)
        if match is None:
            raise InputError(f"{text!r} is no model on the hub", remedy="write hf:owner/name or hf:owner/name@revision")
        return cls(match["repo"], match["revision"])


def download(text: str) -> Path:
    """Download a model's weights and settings into the hub's own cache, or find them there.

    Args:
        text: `hf:owner/name[@revision]`.

    Returns:
        The folder of that revision, whose name is the commit.

    Raises:
        InputError: huggingface_hub is not installed, or the repository, revision or network is not there, or it holds
            no safetensors weights.
    """
    name = HubName.parse(text)
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise missing_extra("a model from the Hugging Face hub", "hf") from None
    try:
        folder = Path(huggingface_hub.snapshot_download(name.repo, revision=name.revision, allow_patterns=list(FILES)))
    except LocalEntryNotFoundError:
        raise InputError(f"{text} cannot be downloaded", remedy="is the network reachable?") from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        first = escape(str(error).strip().split("\n")[0])
        raise InputError(f"{text} cannot be downloaded: {first}") from None
    for wanted in FILES[:2]:
        if not (folder / wanted).is_file():
            raise InputError(f"{text} has no {wanted}", remedy="only safetensors weights are downloaded")
    return folder
