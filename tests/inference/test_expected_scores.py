"""Shipped models: they say what they said, and a change of any kind is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hyena_dna.errors import InputError
from hyena_dna.inference import expected_scores as module
from hyena_dna.inference.expected_scores import EXPECTED, check_expected, expected_scores
from hyena_dna.model.checkpoint import bundled_models, find_model, load_model, read_model, save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.embedding_defaults import EmbeddingDefaults
from hyena_dna.model.model import HyenaDNA


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "shipped"
    embedding = EmbeddingDefaults(layer="1,2", pool="max", strands="concat")
    save_model(HyenaDNA(HyenaConfig(d_model=8, n_layer=2, max_length=130)), path, embedding=embedding)
    (path / EXPECTED).write_text(json.dumps(expected_scores(path)))
    return path


def test_a_model_says_what_it_said(shipped: Path) -> None:
    stored = json.loads((shipped / EXPECTED).read_text())
    assert len(stored["embedding"]["first"]) == len(stored["sequences"]) == 3
    assert {len(sequence) for sequence in stored["sequences"]} == {130}
    assert max(check_expected(shipped).values()) < 1e-5


@pytest.mark.parametrize("part", ["log_likelihood", "norms", "first"])
def test_another_score_is_noticed(shipped: Path, part: str) -> None:
    stored = json.loads((shipped / EXPECTED).read_text())
    if part == "log_likelihood":
        stored[part]["-"][2] += 1
    elif part == "norms":
        stored["embedding"][part][1] *= 1.01
    else:
        stored["embedding"][part][0][3] += 1
    (shipped / EXPECTED).write_text(json.dumps(stored))
    with pytest.raises(InputError, match="differs by"):
        check_expected(shipped)


def test_other_weights_and_other_files_are_noticed(shipped: Path) -> None:
    scores = (shipped / EXPECTED).read_text()
    model = load_model(shipped)
    with torch.no_grad():
        model.lm_head.weight[7, 0] += 1e-3
    save_model(model, shipped, force=True)
    (shipped / EXPECTED).write_text(scores)
    with pytest.raises(InputError, match="other weights"):
        check_expected(shipped)
    (shipped / EXPECTED).write_text("{}")
    with pytest.raises(InputError, match="not the scores of a shipped model"):
        check_expected(shipped)
    (shipped / EXPECTED).unlink()
    with pytest.raises(InputError, match="cannot be read"):
        check_expected(shipped)


@pytest.mark.parametrize("name", bundled_models())
def test_every_bundled_model_is_small_licensed_and_says_what_it_said(name: str) -> None:
    folder = find_model(name).parent
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8_000_000
    loaded = read_model(name)
    assert loaded.verified
    assert loaded.card.licence == "Apache-2.0"
    assert loaded.card.tokens
    assert loaded.card.metrics
    assert loaded.embedding is not None
    found = check_expected(name)
    assert found["log_likelihood"] <= module.LIKELIHOOD_TOLERANCE
