"""Classifiers: what is pooled, both strands, and directories that are language models and classifiers at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from hyena_dna.errors import InputError
from hyena_dna.model.checkpoint import load_model, read_model, save_model
from hyena_dna.model.classifier import (
    FeatureNorm,
    Pooling,
    SequenceClassifier,
    TaskConfig,
    load_classifier,
    pool_positions,
    reverse_complement_rows,
    save_classifier,
)
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.describe import describe_model
from hyena_dna.model.model import HyenaDNA
from hyena_dna.tokenizer import PAD, Tokenizer

CONFIG = HyenaConfig(d_model=8, n_layer=2, max_length=18, filter_order=8)
POOLINGS: tuple[Pooling, ...] = ("mean", "last", "max", "attention", "mean+max", "mean+std", "mean+max+std")


def task(**changes: Any) -> TaskConfig:
    return TaskConfig.model_validate({"kind": "binary", "labels": ["background", "promoter"], **changes})


def classifier(**changes: Any) -> SequenceClassifier:
    torch.manual_seed(3)
    made = SequenceClassifier(HyenaDNA(CONFIG), task(**changes)).eval()
    if made.classifier.query is not None:
        torch.nn.init.normal_(made.classifier.query)
    return made


def bases(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(7, 12, (rows, length), np.uint8))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_against_its_definition(pooling: Pooling) -> None:
    hidden = torch.randn(3, 7, 5)
    query = torch.randn(5)
    lengths = torch.tensor([7, 1, 4])
    # What stands in the padding must not matter, not even infinity.
    for row, length in enumerate(lengths.tolist()):
        hidden[row, length:] = torch.inf
    found = pool_positions(hidden, lengths, pooling, query)
    for row, length in enumerate(lengths.tolist()):
        real = hidden[row, :length]
        weights = torch.softmax(real @ query / 5**0.5, 0)
        wanted = {
            "mean": real.mean(0),
            "last": real[-1],
            "max": real.max(0).values,
            "attention": (weights[:, None] * real).sum(0),
            "mean+max": torch.cat([real.mean(0), real.max(0).values]),
            "mean+std": torch.cat([real.mean(0), real.std(0, correction=0)]),
            "mean+max+std": torch.cat([real.mean(0), real.max(0).values, real.std(0, correction=0)]),
        }[pooling]
        assert torch.allclose(found[row], wanted, atol=1e-6)
        assert torch.allclose(pool_positions(real[None], None, pooling, query)[0], wanted, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("changes", [{}, {"layers": [1, 2]}, {"both_strands": True}])
def test_padding_changes_nothing(pooling: Pooling, changes: dict[str, Any]) -> None:
    made = classifier(pooling=pooling, **changes)
    ids = bases(2, 11)
    padded = torch.full((2, 16), PAD, dtype=torch.uint8)
    padded[0, :11], padded[1, :6] = ids[0], ids[1, :6]
    padding = padded == PAD
    with torch.inference_mode():
        for method in (made.forward, made.predict):
            found = method(padded, padding)
            alone = torch.cat([method(ids[:1]), method(ids[1:, :6])])
            assert torch.allclose(found, alone, atol=1e-5)


def test_reverse_complement_of_padded_rows() -> None:
    ids = bases(3, 9)
    lengths = torch.tensor([9, 4, 1])
    ids[torch.arange(9) >= lengths[:, None]] = PAD
    found = reverse_complement_rows(ids, lengths)
    for row, length in enumerate(lengths.tolist()):
        wanted = Tokenizer().reverse_complement(ids[row, :length].numpy())
        assert found[row, :length].tolist() == wanted.tolist()
        assert (found[row, length:] == PAD).all()
    assert torch.equal(reverse_complement_rows(ids[:1]), found[:1])
    assert torch.equal(reverse_complement_rows(found, lengths), ids)


@pytest.mark.parametrize("both", [False, True])
def test_strands_are_averaged(both: bool) -> None:
    made = classifier(both_strands=both, pooling="mean+max")
    ids = bases(4, 13)
    other = reverse_complement_rows(ids)
    with torch.inference_mode():
        assert not torch.allclose(made(ids), made(other), atol=1e-6)
        assert torch.allclose(made.predict(ids), (made(ids) + made(other)) / 2, atol=1e-6)
        assert torch.allclose(made.predict(ids), made.predict(other), atol=1e-6)
        single = SequenceClassifier(made.model, task(average_strands=False, both_strands=both, pooling="mean+max"))
        single.classifier.load_state_dict(made.classifier.state_dict())
        assert torch.equal(single.eval().predict(ids), made(ids))


@pytest.mark.parametrize(
    ("kind", "labels", "outputs"),
    [("binary", ("no", "yes"), 1), ("multiclass", ("a", "b", "c"), 3), ("multilabel", ("a", "b"), 2),
     ("regression", ("expression",), 1)],
)  # fmt: skip
def test_outputs_and_probabilities(kind: str, labels: tuple[str, ...], outputs: int) -> None:
    made = classifier(kind=kind, labels=labels, temperature=2.0)
    logits = made(bases(5, 10))
    assert logits.shape == (5, outputs)
    assert logits.dtype == torch.float32
    assert len(made.task.output_labels) == outputs
    shown = made.task.probabilities(logits)
    wanted = {
        "binary": torch.sigmoid(logits / 2),
        "multilabel": torch.sigmoid(logits / 2),
        "multiclass": torch.softmax(logits / 2, -1),
        "regression": logits,
    }[kind]
    assert torch.allclose(shown, wanted)


def test_regression_speaks_in_the_unit_of_the_labels() -> None:
    ids = bases(2, 10)
    plain = classifier(kind="regression", labels=["tpm"])
    scaled = classifier(kind="regression", labels=["tpm"], shift=100.0, scale=7.0)
    assert torch.allclose(scaled(ids), plain(ids) * 7 + 100)


def test_a_directory_is_a_classifier_and_a_language_model(tmp_path: Path) -> None:
    made = classifier(pooling="attention", layers=[2], window=12, both_strands=True, temperature=1.5)
    save_classifier(made, tmp_path / "model", card={"steps": 9, "licence": "BSD-3-Clause"})
    loaded = load_classifier(tmp_path / "model")
    assert loaded.task == made.task
    assert not loaded.training
    ids = bases(2, 12)
    with torch.inference_mode():
        # Up to the rounding that depends on where in memory matrices lie.
        assert torch.allclose(loaded.predict(ids), made.predict(ids), atol=1e-6)
        assert torch.allclose(load_model(tmp_path / "model")(ids).logits, made.model(ids).logits, atol=1e-6)
    read = read_model(tmp_path / "model")
    assert set(read.head) == {"classifier.query", "classifier.output.weight", "classifier.output.bias"}
    facts = describe_model(read)
    assert facts["steps"] == 9
    assert "background, promoter" in facts["task"]
    assert "background, promoter" in (tmp_path / "model" / "README.md").read_text()


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    save_classifier(classifier(), tmp_path / "model")
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    load_classifier(tmp_path / "model")
    assert torch.equal(torch.rand(3), wanted)


def test_a_language_model_is_no_classifier(tmp_path: Path) -> None:
    save_model(HyenaDNA(CONFIG), tmp_path / "model")
    with pytest.raises(InputError, match="predicts no labels"):
        load_classifier(tmp_path / "model")


def test_damaged_directories_are_refused(tmp_path: Path) -> None:
    save_classifier(classifier(), tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    content = json.loads(config.read_text())

    def refused(task: Any, message: str) -> None:
        config.write_text(json.dumps({**content, "task": task}))
        with pytest.raises(InputError, match=message):
            load_classifier(tmp_path / "model")

    refused({**content["task"], "labels": ["one"]}, r"config\.json: task: .*two labels")
    refused({**content["task"], "pooling": "sum"}, r"task\.pooling")
    refused({**content["task"], "both_strands": True}, "of another shape: classifier")
    refused({**content["task"], "pooling": "attention"}, r"missing: classifier\.query")
    refused("promoter", "task")
    # Without its task the file has tensors that nobody asked for.
    config.write_text(json.dumps({key: value for key, value in content.items() if key != "task"}))
    with pytest.raises(InputError, match="not part of the model"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    "changes",
    [{"labels": ["a"]},
     {"thresholds": [0.1, 0.2]}, {"labels": ["a", "a"]}, {"kind": "multiclass"}, {"kind": "regression"},
     {"layers": [0]},     {"layers": [1, 1]}, {"temperature": 0.0}, {"window": 0}, {"colour": "red"}],
)  # fmt: skip
def test_impossible_tasks(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        task(**changes)


def test_tasks_that_do_not_fit_the_model() -> None:
    with pytest.raises(InputError, match="blocks 1 to 2"):
        classifier(layers=[3])
    with pytest.raises(InputError, match="longer than the model reads"):
        classifier(window=19)


def test_float16_heads_are_read_as_float32(tmp_path: Path) -> None:
    made = classifier()
    save_classifier(made, tmp_path / "model", dtype=torch.float16)
    head = load_classifier(tmp_path / "model").classifier.output.weight
    assert head.dtype == torch.float32
    assert torch.equal(head, made.classifier.output.weight.detach().half().float())


@pytest.mark.parametrize("pooling", ["attention", "mean+std"])
def test_gradients_reach_head_and_model(pooling: Pooling) -> None:
    made = classifier(pooling=pooling, both_strands=True).train()
    made(bases(2, 10)).sum().backward()
    parameters = {name: value for name, value in made.named_parameters() if not name.startswith("model.lm_head")}
    assert [name for name, value in parameters.items() if value.grad is None or not value.grad.abs().sum()] == []


def test_one_position_has_no_deviation_and_a_finite_gradient() -> None:
    hidden = torch.randn(2, 1, 5, requires_grad=True)
    found = pool_positions(hidden, None, "mean+std")
    (gradient,) = torch.autograd.grad(found.sum(), hidden)
    assert found[:, 5:].abs().max() <= 1e-5
    assert torch.equal(gradient, torch.ones_like(hidden))


@pytest.mark.parametrize("keep", [False, True])
def test_standardised_features_fold_into_the_head(keep: bool) -> None:
    made = classifier(pooling="mean+max")
    ids = bases(6, 12)
    torch.nn.init.normal_(made.classifier.output.weight)
    with torch.inference_mode():
        before, features = made(ids), made.features(ids)
    made.classifier.set_norm(FeatureNorm(features.mean(0), features.std(0), momentum=0.5), keep=keep)
    with torch.inference_mode():
        normed = made(ids)
    assert torch.allclose(normed, before, atol=1e-3) == keep
    # In training the statistics follow what comes in; in evaluation they stay.
    assert made.classifier.norm is not None
    centre = made.classifier.norm.center.clone()
    made.eval()(bases(6, 12, 1))
    assert torch.equal(made.classifier.norm.center, centre)
    made.classifier.train()
    for _ in range(40):
        made(bases(6, 12, 1))
    with torch.no_grad():
        wanted = made.eval().features(bases(6, 12, 1))
        assert torch.allclose(made.classifier.norm.center, wanted.mean(0), atol=1e-5)
        assert torch.allclose(made.classifier.norm.spread, wanted.std(0, correction=0), rtol=1e-2, atol=1e-5)
        after = made(ids)
        made.classifier.fold_norm()
        assert torch.allclose(made(ids), after, rtol=1e-4, atol=1e-3)
