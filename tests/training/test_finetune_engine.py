"""Steps of a fine-tuning: what is recorded as a graph, what is launched, and that both come to the same."""

from __future__ import annotations

import gc
import logging
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from hyena_dna.datasets.labelled import Examples as Labelled
from hyena_dna.datasets.labels import Labelling
from hyena_dna.model.classifier import FeatureNorm, SequenceClassifier, TaskConfig
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.tokenizer import PAD
from hyena_dna.training import finetune_engine
from hyena_dna.training.engine import Precision
from hyena_dna.training.finetune import FINETUNE_COLUMNS
from hyena_dna.training.finetune_batches import BatchShape, DeviceExamples, Examples
from hyena_dna.training.finetune_config import FinetuneConfig
from hyena_dna.training.finetune_data import LabelledData
from hyena_dna.training.finetune_engine import FinetuneEngine
from hyena_dna.training.finetune_fit import FitOptions, fit
from hyena_dna.training.finetune_optim import freeze_unused
from hyena_dna.training.graphed_pass import GraphedPass
from hyena_dna.training.lora import add_adapters
from hyena_dna.training.metrics_log import CsvLog
from hyena_dna.training.signals import StopSignals

# More tokens in a batch than 3,072, beyond which gradients of embeddings come from another kernel.
TRAIN, VAL, WIDTH, ROWS = 150, 40, 70, 48
# Three batches of 48 rows, and one of 6.
FULL, LAST = TRAIN // ROWS, TRAIN % ROWS
BINARY = TaskConfig(kind="binary", labels=("a", "b"), layers=(1, 2), pooling="mean+max")
KINDS = {
    "binary": BINARY,
    "multiclass": BINARY.model_copy(
        update={"kind": "multiclass", "labels": ("a", "b", "c"), "layers": (), "pooling": "attention"}
    ),
    "multilabel": BINARY.model_copy(
        update={"kind": "multilabel", "labels": ("a", "b", "c"), "pooling": "last", "average_strands": False}
    ),
    "regression": BINARY.model_copy(
        update={"kind": "regression", "labels": ("x",), "scale": 2.0, "both_strands": True, "pooling": "mean+std"}
    ),
}


class Fitted(NamedTuple):
    """What a fit leaves."""

    history: list[dict[str, float]]
    weights: dict[str, Tensor]
    norm: FeatureNorm


def examples(device: str, task: TaskConfig = BINARY, *, vary: bool = False) -> tuple[DeviceExamples, Any]:
    """Random sequences, of one length or of lengths of 40 to 70, and random targets."""
    rng = np.random.default_rng(1)
    count = TRAIN + VAL
    ids = rng.integers(7, 11, (count, WIDTH)).astype(np.uint8)
    lengths = rng.integers(40, WIDTH + 1, count) if vary else np.full(count, WIDTH)
    ids[np.arange(WIDTH) >= lengths[:, None]] = PAD
    match task.kind:
        case "regression":
            targets: Any = rng.normal(size=count)
        case "multilabel":
            targets = rng.integers(0, 2, (count, len(task.labels)))
        case _:
            targets = rng.integers(0, len(task.labels), count)
    labelled = Labelled(ids, lengths, [], [], [], [], [], {})
    labelling = Labelling(task.kind, task.labels, np.arange(count), targets, {})
    return DeviceExamples(LabelledData(labelled, labelling, [], []), torch.device(device)), targets


def settings(*, graph: bool = True, **optim: Any) -> FinetuneConfig:
    return FinetuneConfig.model_validate(
        {
            "optim": {"epochs": 3, "batch_size": ROWS, "lr": 1e-3, **optim},
            "trainer": {"graph": graph, "checkpoint_seconds": 1e6},
        }
    )


def classifier(
    device: str, task: TaskConfig = BINARY, *, d_model: int = 16, dropout: float = 0.0
) -> SequenceClassifier:
    torch.manual_seed(0)
    model = HyenaDNA(HyenaConfig(d_model=d_model, n_layer=2, max_length=WIDTH + 60, filter_order=16, embed_dropout=0.0))
    made = SequenceClassifier(model, task, dropout=dropout).to(device)
    features = made.classifier.output.in_features
    # Far from what the features are, so that every change of the statistics shows.
    made.classifier.set_norm(FeatureNorm(torch.ones(features), torch.full((features,), 2.0)), keep=False)
    freeze_unused(made)
    return made


def fitted(
    folder: Path,
    config: FinetuneConfig,
    *,
    device: str = "cpu",
    task: TaskConfig = BINARY,
    precision: Precision = "fp32",
    vary: bool = False,
    d_model: int = 16,
    lora: bool = False,
) -> Fitted:
    data, targets = examples(device, task, vary=vary)
    made = classifier(device, task, d_model=d_model)
    norm = made.classifier.norm
    assert norm is not None
    if lora:
        add_adapters(made, config.lora)
        made.to(device)
    train, val = np.arange(TRAIN), np.arange(TRAIN, TRAIN + VAL)
    with CsvLog(folder / "metrics.csv", FINETUNE_COLUMNS) as log:
        options = FitOptions(
            seed=3, fold=0, folder=folder / "fit", log=log, precision=precision, fingerprints={},
            signals=StopSignals(), quiet=True,
        )  # fmt: skip
        state = fit(made, data, targets, train, val, config, options)
    return Fitted(state.history, {name: value.detach().cpu() for name, value in made.named_parameters()}, norm.cpu())


class Launched(GraphedPass[Examples]):
    """Takes the place of a graph: makes passes as they come, and keeps their shapes."""

    made = 0
    shapes: list[BatchShape]
    gradients: set[tuple[int, ...]]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        Launched.made += 1

    def __call__(self, batch: Examples, nominal: int) -> Tensor:
        sums = self._run(batch, nominal)
        Launched.shapes.append(batch.shape)
        Launched.gradients.add(tuple(id(parameter.grad) for parameter in self._parameters))
        return sums


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> type[Launched]:
    """Everything suits a graph, and none is needed."""
    Launched.made, Launched.shapes, Launched.gradients = 0, [], set()
    monkeypatch.setattr(finetune_engine, "suits_graph", lambda *_: True)
    monkeypatch.setattr(finetune_engine, "GraphedPass", Launched)
    return Launched


def same(one: Fitted, other: Fitted, *, rtol: float = 0.0, atol: float = 0.0, apart: float | None = None) -> None:
    """Losses, statistics and weights agree; `apart` allows each tensor of weights a relative L2 distance instead."""
    # A ranking has steps, which a tolerance does not cover.
    columns = ("loss", "val_loss") if atol else ("loss", "val_loss", "val_metric")
    for mine, yours in zip(one.history, other.history, strict=True):
        assert [mine[name] for name in columns] == pytest.approx([yours[name] for name in columns], rel=rtol, abs=atol)
    for name, value in one.weights.items():
        expected = other.weights[name]
        if apart is None:
            torch.testing.assert_close(value, expected, rtol=rtol, atol=atol)
        else:
            assert (value - expected).norm() <= apart * expected.norm() + atol * expected.numel() ** 0.5, name
    for ours, theirs in zip(one.norm.parameters(), other.norm.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


def test_a_fit_on_a_cpu_knows_no_graph(tmp_path: Path) -> None:
    found = [fitted(tmp_path, settings(graph=graph)) for graph in (False, True)]
    same(*found)


@pytest.mark.parametrize(
    ("kind", "vary"),
    [("binary", False), ("binary", True), ("multiclass", False), ("multilabel", True), ("regression", True)],
)
def test_only_the_usual_shape_is_recorded(kind: str, vary: bool, launched: type[Launched], tmp_path: Path) -> None:
    plain = fitted(tmp_path, settings(graph=False), task=KINDS[kind], vary=vary)
    assert launched.made == 0
    recorded = fitted(tmp_path, settings(), task=KINDS[kind], vary=vary)
    assert launched.made == 1
    # The last batch of each epoch has fewer rows.
    assert launched.shapes == [BatchShape(ROWS, WIDTH, vary)] * (3 * FULL)
    assert len(launched.gradients) == 1, "gradients keep their memory, after a batch of another shape too"
    same(plain, recorded)


def test_a_batch_of_another_width_is_launched(launched: type[Launched]) -> None:
    data, _ = examples("cpu", vary=True)
    short, long = np.flatnonzero(data.lengths <= 64), np.flatnonzero(data.lengths > 64)
    assert data.shape(short[:8]) == BatchShape(8, 64, True)
    assert data.shape(long[:8]) == BatchShape(8, WIDTH, True), "no wider than the widest"
    assert data.shape(np.flatnonzero(data.lengths == 66)[:1]) == BatchShape(1, 66, False)
    usual = data.usual_shape([short[:8], long[:8], short[8:16], short[:4]])
    assert usual == BatchShape(8, 64, True)
    engine = FinetuneEngine(
        classifier("cpu"), data, settings(), None, total_steps=4, usual=usual, longest=WIDTH, precision="fp32", seed=0,
        fold=0,
    )  # fmt: skip
    for step, rows in enumerate([long[:8], short[:8], long[8:16], short[:4]]):
        batch = data.batch(rows)
        assert batch.shape == data.shape(rows)
        engine.step(step, rows, data.send(rows))
    assert launched.shapes == [usual]
    assert len(launched.gradients) == 1


@pytest.mark.parametrize("case", ["suits", "off", "dropout", "fp16", "memory"])
def test_what_forbids_a_graph(case: str, launched: type[Launched], monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = examples("cpu")
    if case == "memory":
        # A pass of all rows fits, two at a time do not.
        monkeypatch.setattr(finetune_engine, "_CPU_PASS_TOKENS", (2 * ROWS - 1) * WIDTH)
    FinetuneEngine(
        classifier("cpu", dropout=0.1 if case == "dropout" else 0.0),
        data,
        settings(graph=case != "off"),
        None,
        total_steps=4,
        usual=BatchShape(ROWS, WIDTH, False),
        longest=WIDTH,
        precision="fp16" if case == "fp16" else "fp32",
        seed=0,
        fold=0,
    )
    assert launched.made == (case == "suits")


def test_a_step_counts_as_a_write_to_every_parameter() -> None:
    data, _ = examples("cpu")
    made = classifier("cpu")
    made.register_parameter("unused", torch.nn.Parameter(torch.zeros(3)))
    before = [value._version for value in made.parameters()]
    rows = np.arange(ROWS)
    FinetuneEngine(
        made, data, settings(), None, total_steps=1, usual=data.shape(rows), longest=WIDTH, precision="fp32", seed=0,
        fold=0,
    ).step(0, rows, data.send(rows))  # fmt: skip
    assert all(value._version > old for value, old in zip(made.parameters(), before, strict=True))


def test_a_graph_goes_with_its_fit(launched: type[Launched], tmp_path: Path) -> None:
    alive: weakref.WeakSet[Launched] = weakref.WeakSet()
    first = launched.__init__

    def watched(self: Launched, *arguments: Any) -> None:
        first(self, *arguments)
        alive.add(self)

    gc.collect()
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launched, "__init__", watched)
            fitted(tmp_path, settings(epochs=1))
        assert launched.made == 1
        assert not alive, "its memory waits for no garbage collector"
    finally:
        gc.enable()


@pytest.mark.gpu
@pytest.mark.parametrize("vary", [False, True])
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_fits_equal_those_without_a_graph(
    precision: Precision, kind: str, vary: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compare(tmp_path, caplog, task=KINDS[kind], precision=precision, vary=vary)


@pytest.mark.gpu
@pytest.mark.parametrize("train_filters", [False, True])
def test_adapters_train_in_a_graph(train_filters: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("peft")
    compare(tmp_path, caplog, precision="bf16", lora=train_filters)


def compare(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    precision: Precision,
    task: TaskConfig = BINARY,
    vary: bool = False,
    lora: bool | None = None,
) -> None:
    """Fit with and without a graph on a GPU; `lora` says whether filters train beside adapters, None: no adapters."""
    weights = "none" if task.kind == "regression" else "balanced"
    shapes: list[BatchShape] = []

    class Watched(GraphedPass[Examples]):
        def __call__(self, batch: Examples, nominal: int) -> Tensor:
            shapes.append(batch.shape)
            return super().__call__(batch, nominal)

    found = []
    for graph in (False, True):
        config = settings(graph=graph, class_weights=weights)
        if lora is not None:
            config = config.model_copy(update={"lora": config.lora.model_copy(update={"train_filters": lora})})
        caplog.clear()
        with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO, logger="hyena_dna"):
            patch.setattr(finetune_engine, "GraphedPass", Watched)
            adapted = lora is not None
            result = fitted(
                folder, config, device="cuda", task=task, precision=precision, vary=vary, d_model=64, lora=adapted
            )
        found.append(result)
        assert ("as a CUDA graph" in caplog.text) == graph
        assert ("without a CUDA graph" in caplog.text) != graph
    assert shapes == [BatchShape(ROWS, WIDTH, vary)] * (3 * FULL)
    # Statistics that the recording had moved would be off by more than a tenth. Gradients of embeddings of few tokens
    # are summed in any order; rounded to bfloat16, a last digit becomes a step of Adam where a gradient is near zero.
    same(*found, rtol=1e-3, atol=2e-4, apart=0.05 if precision == "bf16" else None)


@pytest.mark.gpu
def test_a_resumed_graph_goes_on_with_the_weights(tmp_path: Path) -> None:
    """Evaluation between steps sees new filters, and weights that are loaded into the model are those of the graph."""
    data, _ = examples("cuda")
    rows = np.arange(ROWS)
    made = [classifier("cuda", d_model=64) for _ in range(2)]
    engines = []
    for one, graph in zip(made, (False, True), strict=True):
        engine = FinetuneEngine(
            one, data, settings(graph=graph), None, total_steps=6, usual=data.shape(rows), longest=WIDTH,
            precision="bf16", seed=0, fold=0,
        )  # fmt: skip
        engines.append(engine)
    before = {name: value.detach().clone() for name, value in made[0].named_parameters()}
    for step in range(6):
        if step == 3:
            for one in made:
                with torch.no_grad():
                    for name, value in one.named_parameters():
                        value.copy_(before[name])
        part = rows[: LAST if step == 2 else ROWS]
        sums, logits = [], []
        for one, engine in zip(made, engines, strict=True):
            one.train()
            sums.append(engine.step(step, part, data.send(part)).clone())
            one.eval()
            with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
                logits.append(one.predict(data.batch(rows).input_ids).float())
        torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(*logits, rtol=1e-2, atol=1e-2)
