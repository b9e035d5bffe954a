"""What a shipped model said when it was made, so that anyone can see that it still says the same."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.inference.embedding import Embedder, EmbeddingSpec
from hyena_dna.inference.inputs import Row, sequence_chunks
from hyena_dna.inference.layers import parse_layers
from hyena_dna.inference.likelihood import log_likelihood
from hyena_dna.inference.pooling import parse_pool
from hyena_dna.model.checkpoint import find_model, parameters_digest, read_model
from hyena_dna.model.embedding_defaults import EmbeddingDefaults
from hyena_dna.model.model import HyenaDNA

__all__ = ["EXPECTED", "check_expected", "expected_scores"]

EXPECTED = "expected.json"
"""The file in a shipped model's directory."""

LIKELIHOOD_TOLERANCE = 1e-3
"""Nats per base: other processors and releases of torch round otherwise."""

EMBEDDING_TOLERANCE = 1e-3
"""Relative L2 error of an embedding, for the same reason."""

_SHOWN = 16


def expected_scores(source: str | PathLike[str]) -> dict[str, Any]:
    """Score fixed sequences with a model.

    The sequences are drawn by a fixed seed: random bases, a repeat, and the reverse complement of a part.

    Returns:
        The digest of the weights, the sequences, their log-likelihood on either strand (nats), and the norm and the
        first numbers of their embedding by the model's own default.
    """
    loaded = read_model(source)
    sequences = _sequences(loaded.model.config.max_length)
    spec = loaded.embedding or EmbeddingDefaults()
    vectors = _embed(loaded.model, spec, sequences)
    return {
        "weights_sha256": parameters_digest(loaded.model),
        "sequences": sequences,
        "log_likelihood": {
            strand: [round(value, 5) for value in log_likelihood(loaded.model, sequences, strand=strand).tolist()]
            for strand in ("+", "-")
        },
        "embedding": spec.model_dump()
        | {
            "norms": [float(f"{value:.7g}") for value in np.linalg.norm(vectors, axis=1)],
            "first": [[float(f"{value:.7g}") for value in row[:_SHOWN]] for row in vectors],
        },
    }


def check_expected(source: str | PathLike[str]) -> dict[str, float]:
    """Score the sequences of a shipped model's `expected.json` again.

    Returns:
        The largest differences: `log_likelihood` in nats per base, `embedding` relative.

    Raises:
        InputError: there is no such file, the weights are others, or a score differs by more than the tolerance.
    """
    path = Path(find_model(source)).with_name(EXPECTED)
    try:
        stored = json.loads(path.read_text("utf-8"))
        now = expected_scores(source)
        lengths = np.array([len(sequence) for sequence in stored["sequences"]])
        if stored["weights_sha256"] != now["weights_sha256"] or stored["sequences"] != now["sequences"]:
            raise InputError("these scores are of other weights", file=path, remedy="make the release again")
        gaps = [
            np.abs(np.subtract(stored["log_likelihood"][strand], now["log_likelihood"][strand])) / lengths
            for strand in ("+", "-")
        ]
        norms = np.array(stored["embedding"]["norms"])
        shown = np.linalg.norm(np.subtract(stored["embedding"]["first"], now["embedding"]["first"]), axis=1)
        gap = np.maximum(np.abs(norms - now["embedding"]["norms"]), shown) / norms
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"not the scores of a shipped model: {error}", file=path) from None
    found = {"log_likelihood": float(np.max(gaps)), "embedding": float(gap.max())}
    limits = {"log_likelihood": LIKELIHOOD_TOLERANCE, "embedding": EMBEDDING_TOLERANCE}
    for name, limit in limits.items():
        if not found[name] <= limit:
            raise InputError(f"{name} differs by {found[name]:.3g} from what is stored (allowed: {limit})", file=path)
    return found


def _sequences(max_length: int) -> list[str]:
    rng = np.random.default_rng(20)
    length = min(600, max_length)
    bases = rng.choice(list("ACGT"), (3, length))
    bases[1, length // 2 :] = bases[1, : length - length // 2]
    bases[2, : length // 2] = rng.choice(list("AT"), length // 2)
    return ["".join(row) for row in bases]


def _embed(model: HyenaDNA, spec: EmbeddingDefaults, sequences: list[str]) -> NDArray[np.float32]:
    layers = parse_layers(spec.layer, model.config.n_layer)
    embedder = Embedder(model, EmbeddingSpec(layers, parse_pool(spec.pool), spec.strands))
    rows = ((Row(None, 0, len(text), str(number), "."), text.encode()) for number, text in enumerate(sequences))
    return np.concatenate([embedder.embed(chunk).vectors for chunk in sequence_chunks(rows)])
