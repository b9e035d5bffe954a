"""Model directories: what is written, and how models of any published layout are read. Loading never runs code."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from hyena_dna.config import nearest
from hyena_dna.errors import InputError
from hyena_dna.files import atomic_directory
from hyena_dna.model import hub, names, official_config
from hyena_dna.model.card import ModelCard, render_card
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.embedding_defaults import EmbeddingDefaults
from hyena_dna.model.half import half_parameters
from hyena_dna.model.model import HyenaDNA
from hyena_dna.model.presets import PRESETS, is_published_name
from hyena_dna.model.tables import check_tables
from hyena_dna.model.weights import WeightsFile, check_values, errors_name, model_digest, read_weights, write_weights
from hyena_dna.paths import models_root
from hyena_dna.tokenizer import Tokenizer

__all__ = [
    "HEAD_PREFIX",
    "LoadedModel",
    "bundled_models",
    "check_replaceable",
    "find_model",
    "load_model",
    "parameters_digest",
    "read_model",
    "save_model",
]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
README = "README.md"
FORMAT = "hyena-dna"
FORMAT_VERSION = 1
HEAD_PREFIX = "classifier."
"""Names of the tensors of a fine-tuned model that are no part of the language model begin with this."""

# In order of preference: the first holds nothing but tensors.
_WEIGHT_NAMES = (WEIGHTS, "weights.ckpt", "pytorch_model.bin")
_CONFIG_LIMIT = 1 << 20
_log = logging.getLogger("hyena_dna")


@dataclass(frozen=True)
class LoadedModel:
    """A model and what was learnt while it was read.

    Attributes:
        model: in evaluation mode, float32, on the CPU.
        card: what is known about it.
        path: the weights file.
        kind: what that file is, for people.
        layout: the naming of its tensors.
        stored_shift: whether its configuration says what the modulation shift is.
        verified: whether the sha256 of every tensor was there, and right.
        tables: number of positional tables that were in the file, all as recomputed.
        ignored: names in the file that are no part of a model.
        task: what a fine-tuned model predicts, see `hyena_dna.model.classifier`; None for a language model.
        head: tensors of its classifier, by names that begin with `classifier.`; empty for a language model.
        embedding: layers, pooling and strands of its embeddings where nobody says otherwise.
    """

    model: HyenaDNA
    card: ModelCard
    path: Path
    kind: str
    layout: names.Layout
    stored_shift: bool
    verified: bool
    tables: int
    ignored: list[str]
    task: dict[str, Any] | None = None
    head: dict[str, torch.Tensor] = field(default_factory=dict)
    embedding: EmbeddingDefaults | None = None


def save_model(
    model: HyenaDNA,
    directory: str | PathLike[str],
    *,
    card: Mapping[str, Any] | ModelCard | None = None,
    dtype: torch.dtype = torch.float32,
    force: bool = False,
    task: Mapping[str, Any] | None = None,
    head: Mapping[str, torch.Tensor] | None = None,
    embedding: EmbeddingDefaults | None = None,
) -> None:
    """Write a model directory: config.json, model.safetensors, tokenizer.json, README.md.

    The directory appears whole or not at all. Weights are parameters only, each with its sha256.

    Args:
        model: the model, on any device.
        directory: the directory to make; its parent must exist.
        card: what is known about the model, see `ModelCard`.
        dtype: float32, or float16 to halve the size: all but the filter networks, see `hyena_dna.model.half`.
        force: replace a model directory that is there.
        task: what the model was fine-tuned to predict, as plain data; see `hyena_dna.model.classifier`.
        head: tensors of its classifier, by names that begin with `classifier.`.
        embedding: layers, pooling and strands of its embeddings where nobody says otherwise; those that the model
            came with by default.

    Raises:
        InputError: the directory exists and `force` is off, or is no model directory, cannot be written, or a weight
            is NaN or infinite (at `dtype`).
    """
    if dtype not in (torch.float32, torch.float16):
        raise InputError(f"models are stored as float32 or float16, not {dtype}")
    check_replaceable(directory)
    facts = card if isinstance(card, ModelCard) else ModelCard.model_validate(dict(card or {}))
    named = {**dict(model.named_parameters()), **(head or {})}
    if dtype == torch.float16:
        tensors = half_parameters(named)
    else:
        tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in named.items()}
    check_values(tensors)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": model.config.model_dump(mode="json"),
        "card": facts.facts(),
    }
    if task is not None:
        content["task"] = dict(task)
    embedding = embedding or model.embedding
    if embedding is not None:
        content["embedding"] = embedding.model_dump(mode="json")
    count = sum(tensor.numel() for tensor in tensors.values())
    with atomic_directory(directory, force=force) as folder:
        (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (folder / TOKENIZER).write_text(model.tokenizer.to_json(), encoding="utf-8")
        (folder / README).write_text(render_card(facts, model.config, count), encoding="utf-8")
        write_weights(folder / WEIGHTS, tensors)


def check_replaceable(directory: str | PathLike[str]) -> None:
    """Check that a directory to be written is new, empty, or a model's, so that `force` never deletes anything else.

    Raises:
        InputError: something else is there.
    """
    path = Path(directory)
    if path.exists() and not (path.is_dir() and ((path / CONFIG).is_file() or not any(path.iterdir()))):
        raise InputError("exists and is no model directory", file=path, remedy="choose another name")


def load_model(
    source: str | PathLike[str], *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> HyenaDNA:
    """Load a model in evaluation mode. No code is run from any file.

    Args:
        source: a model or run directory, a directory in the layout of the Hugging Face port or of the official code, a
            weights file with its config.json beside it, the name of a bundled model, or `hf:owner/name[@revision]`.
        device: where to put it.
        dtype: dtype of its parameters; float32 by default, whatever the file holds.

    Raises:
        InputError: nothing is there, or it is refused, damaged, incomplete, or of another architecture.
    """
    model = read_model(source).model
    return model.to(device=device, dtype=dtype)


def read_model(source: str | PathLike[str], *, shift: float | None = None) -> LoadedModel:
    """Load a model onto the CPU in float32, with what was learnt on the way.

    Args:
        source: as in `load_model`.
        shift: modulation shift to use where the file's configuration does not say; 0.05 by default.

    Raises:
        InputError: as `load_model`; or `shift` is given and the configuration says another.
    """
    path = find_model(source)
    config_path = path.with_name(CONFIG)
    with errors_name(config_path):
        content = _read_json(config_path)
        config, card, native = _read_config(content)
        stored = native or "shift" in content.get("layer", {})
        if shift is not None and shift != config.modulation_shift:
            if stored:
                raise InputError(f"its modulation shift is known to be {config.modulation_shift}")
            config = config.model_copy(update={"modulation_shift": shift})
        embedding = _read_embedding(content) if native else None
    if native:
        _check_tokenizer(path.with_name(TOKENIZER))
    file = read_weights(path)
    with errors_name(path):
        if native and file.digests is None:
            raise InputError("holds no checksums", remedy="it was not written by save_model; convert the original")
        task = content.get("task") if native else None
        model, weights, head = _build(config, file, native, fine_tuned=task is not None)
    model.embedding = embedding
    if file.step is not None and card.steps is None:
        card = card.model_copy(update={"steps": file.step})
    return LoadedModel(
        model, card, path, file.kind, weights.layout, stored, bool(file.digests), len(weights.tables), weights.ignored,
        task, head, embedding,
    )  # fmt: skip


def find_model(source: str | PathLike[str]) -> Path:
    """The weights file that a source means: see `load_model`.

    Raises:
        InputError: there is none.
    """
    text = fspath(source)
    if text.startswith(hub.PREFIX):
        return hub.download(text) / WEIGHTS
    path = Path(text)
    if not path.exists():
        path = _bundled(text)
    if path.is_file():
        if not path.with_name(CONFIG).is_file():
            raise InputError("a weights file needs its config.json beside it", file=path)
        return path
    # A run directory holds its model in a subfolder.
    for folder in (path, path / "model"):
        found = next((folder / name for name in _WEIGHT_NAMES if (folder / name).is_file()), None)
        if found is not None and (folder / CONFIG).is_file():
            return found
    raise InputError("holds no model", file=path, remedy=f"a model has {CONFIG} and one of {', '.join(_WEIGHT_NAMES)}")


def bundled_models() -> list[str]:
    """Names of the pretrained models that come with this package."""
    root = models_root()
    return sorted(path.parent.name for path in root.glob(f"*/{CONFIG}"))


def _bundled(name: str) -> Path:
    bundled = bundled_models()
    if name in bundled:
        return models_root() / name
    if is_published_name(name) or name in PRESETS:
        raise InputError(
            f"{name} is a published model whose weights do not come with this package",
            remedy="use hf:LongSafari/NAME-hf, or download it and run 'hyena-dna convert'",
        )
    remedy = nearest(name, bundled) or f"bundled models: {', '.join(bundled) or 'none'}"
    raise InputError(f"no such file, directory or model: {name}", remedy=remedy)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()[: _CONFIG_LIMIT + 1]
        content = json.loads(data) if len(data) <= _CONFIG_LIMIT else None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError("not the configuration of a model")
    return content


def _read_config(content: dict[str, Any]) -> tuple[HyenaConfig, ModelCard, bool]:
    """The architecture, the card, and whether it is this project's own configuration."""
    if content.get("format") == FORMAT:
        if content.get("format_version") != FORMAT_VERSION:
            version = content.get("format_version")
            raise InputError(f"model format version {version!r} is unknown", remedy="update hyena-dna")
        try:
            card = ModelCard.model_validate(content.get("card", {}))
            return HyenaConfig.model_validate(content.get("model")), card, True
        except ValidationError as error:
            raise _invalid(error) from None
    if official_config.is_official(content):
        return official_config.from_official(content), ModelCard(), False
    if official_config.is_hf(content):
        return official_config.from_hf(content), ModelCard(), False
    raise InputError("not the configuration of a HyenaDNA model, neither ours, nor official, nor Hugging Face's")


def _read_embedding(content: Mapping[str, Any]) -> EmbeddingDefaults | None:
    try:
        return EmbeddingDefaults.model_validate(content["embedding"]) if "embedding" in content else None
    except ValidationError as error:
        raise _invalid(error, "embedding.") from None


def _invalid(error: ValidationError, section: str = "") -> InputError:
    first = error.errors()[0]
    return InputError(f"{section}{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


def _check_tokenizer(path: Path) -> None:
    with errors_name(path):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot be read: {error}") from None
        Tokenizer.from_json(text)


def _build(
    config: HyenaConfig, file: WeightsFile, native: bool, *, fine_tuned: bool
) -> tuple[HyenaDNA, names.NativeWeights, dict[str, torch.Tensor]]:
    """The model, all of its file, and the tensors of its classifier."""
    weights = names.to_native(file.tensors)
    if not native:
        config = config.model_copy(update={"tie_embeddings": weights.tied})
        if not weights.tied:
            _log.info("the LM head differs from the embeddings; they are kept apart")
    parameters = weights.parameters
    heads = [name for name in parameters if fine_tuned and name.startswith(HEAD_PREFIX)]
    head = {name: parameters.pop(name).float() for name in heads}
    if config.tie_embeddings and weights.tied:
        parameters.pop(names.LM_HEAD, None)
    # Initial values are drawn and overwritten; the caller's random state must not notice.
    with torch.random.fork_rng(devices=[]):
        model = HyenaDNA(config)
    expected = dict(model.named_parameters())
    names.check_names(parameters, {name: value.shape for name, value in expected.items()}, config)
    check_values({**parameters, **head})
    check_tables(weights.tables, config)
    narrowed = [name for name, tensor in parameters.items() if tensor.dtype == torch.float64]
    if narrowed:
        _log.warning("%d float64 tensors are rounded to float32", len(narrowed))
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(parameters[name])
    return model.eval(), weights, head


def parameters_digest(model: HyenaDNA) -> str:
    """One sha256 for the weights of a model, for provenance records; equal weights have equal ones."""
    return model_digest(dict(model.named_parameters()))
