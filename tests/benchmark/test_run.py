"""Whole runs on a small model: what is measured, what is refused, what is written."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hyena_dna.benchmark import contenders as contenders_module
from hyena_dna.benchmark import exactness
from hyena_dna.benchmark import run as run_module
from hyena_dna.benchmark import task as task_module
from hyena_dna.benchmark.contenders import contender_names, implementations, used
from hyena_dna.benchmark.exactness import exact_convolution, relative_error
from hyena_dna.benchmark.floor import Machine
from hyena_dna.benchmark.picture import write_picture
from hyena_dna.benchmark.report import FORMAT, markdown, write_json
from hyena_dna.benchmark.run import Benchmark, Cell, Limits
from hyena_dna.benchmark.task import Task, build_task, operator_inputs
from hyena_dna.benchmark.timing import OutOfMemory, Probe, Timing, TooSlow
from hyena_dna.benchmark.workload import (
    LEVELS,
    Contender,
    Settings,
    Sweep,
    Workload,
    parse_contender,
    workloads,
)
from hyena_dna.errors import InputError
from hyena_dna.model.config import HyenaConfig
from hyena_dna.ops.long_conv import long_conv
from hyena_dna.ops.long_conv.plain import plain_long_conv

SETTINGS = Settings(HyenaConfig(d_model=16, n_layer=1, max_length=128), "cpu", "fp32")
MACHINE = Machine(2e10, 1e11, "given")
FACTS: dict[str, Any] = {
    "command": ["hyena-dna", "bench"], "status": "done", "started": "now", "commit": None, "precision": "fp32",
    "machine": {"cpu": "a processor", "threads": 1}, "versions": {"torch": "2"},
    "model": SETTINGS.config.model_dump(), "floor": {"bandwidth": 2e10, "flops": 1e11, "source": "given"},
}  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("base", ["fast", "transformer"])
def test_recorded_steps_have_the_gradients_of_launched_ones(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(HyenaConfig(d_model=128, n_layer=2, max_length=1026), "cuda", "bf16")
    found = []
    for recorded in (True, False):
        monkeypatch.setattr(task_module, "suits_graph", lambda *_, recorded=recorded: recorded)
        task = build_task(Workload("step", True, "tokens", 1024, 4), Contender(base), settings)
        with task.context():
            first = task.results()
            # Weights move in between, and casts and recordings of before must not be what is used after.
            task.run()
            task.run()
            found.append((first, task.results()))
    for launched, replayed in zip(found[1], found[0], strict=True):
        assert launched.keys() == replayed.keys()
        for name, gradient in launched.items():
            assert relative_error(replayed[name], gradient) < 1e-2, name


@pytest.fixture
def _own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured here, not in a process for each cell, which would take seconds."""
    monkeypatch.setattr(run_module, "probe", lambda *_, **__: Probe(1e-3, 1 << 20))


def measure(
    work: Sequence[Workload],
    names: Sequence[str],
    *,
    cell: float = 0.05,
    budget: float = 60.0,
    settings: Settings = SETTINGS,
) -> list[Cell]:
    named = [parse_contender(name, contender_names()) for name in names]
    found = Benchmark(work, named, settings, Limits(cell, budget), MACHINE).cells()
    return [one for group in found for one in group]


def level(name: str, lengths: Sequence[int] = (64,), sweeps: Sequence[Sweep] = ("batch-1",)) -> list[Workload]:
    return workloads([name], lengths, 256, sweeps)  # type: ignore[list-item]


def test_both_sweeps_and_directions() -> None:
    work = workloads(LEVELS, [512, 128], 256, ("tokens", "batch-1"))
    assert [(w.backward, w.sweep, w.length, w.batch) for w in work[:4]] == [
        (False, "tokens", 128, 2), (False, "batch-1", 128, 1), (False, "batch-1", 512, 1), (True, "tokens", 128, 2),
    ]  # fmt: skip
    assert {w.level for w in work if w.backward} == set(LEVELS) - {"forward", "embed"}
    assert {w.level for w in work if not w.backward} == set(LEVELS) - {"forward-backward", "step"}


def test_contenders_by_name() -> None:
    assert set(implementations()) >= {"reference", "fft"}
    assert "auto" not in implementations()
    assert parse_contender("plain+recompute+fused", contender_names()) == Contender("plain", True, True)
    for text, message in (("plane", "no contender"), ("plain+quick", "no option")):
        with pytest.raises(InputError, match=message):
            parse_contender(text, contender_names())


@pytest.mark.usefixtures("_own_process")
@pytest.mark.parametrize("name", LEVELS)
def test_every_level_agrees_with_its_reference(name: str) -> None:
    cells = measure(level(name), ["high", "plain", "transformer"])
    assert {cell.status for cell in cells if cell.contender.base != "transformer"} == {"ok"}
    for cell in cells:
        if cell.status == "ok":
            assert cell.timing is not None
            assert cell.timing.p10 <= cell.timing.median <= cell.timing.p90
        if cell.contender.base == "transformer":
            assert cell.error is None
            assert cell.floor_share is None
        else:
            assert cell.error is not None
            assert cell.error < 1e-5
            assert (cell.gradient_error is not None) == cell.workload.backward


@pytest.mark.usefixtures("_own_process")
@pytest.mark.parametrize("name", ["operator", "forward"])
@pytest.mark.parametrize("mistake", [1.001, math.nan])
def test_a_wrong_convolution_gets_no_speed(name: str, mistake: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders_module, "long_conv", lambda *a, **k: long_conv(*a, **k) * mistake)
    cells = measure(level(name), ["high", "plain"])
    wrong = {cell.contender.base: cell for cell in cells if not cell.workload.backward}
    assert wrong["high"].status == "wrong"
    assert wrong["high"].timing is None
    assert "refused" in wrong["high"].note
    assert wrong["high"].tokens_per_second is None
    assert wrong["plain"].status == "ok"
    assert "refused" in markdown(FACTS, cells)


@pytest.mark.usefixtures("_own_process")
def test_wrong_gradients_get_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, y: torch.Tensor) -> torch.Tensor:
            return y.clone()

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
            return 2 * grads[0]

    double: Any = Doubled.apply

    monkeypatch.setattr(contenders_module, "long_conv", lambda *a, **k: double(long_conv(*a, **k)))
    cells = measure(level("operator"), ["high"])
    assert [cell.status for cell in cells] == ["ok", "wrong"]


@pytest.fixture
def references(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Workload, Contender, Settings]]:
    """What references are made of."""
    made = []

    def counted(work: Workload, contender: Contender, settings: Settings) -> Task:
        made.append((work, contender, settings))
        return build_task(work, contender, settings)

    monkeypatch.setattr(exactness, "build_task", counted)
    return made


@pytest.mark.usefixtures("_own_process")
def test_contenders_share_the_reference_of_a_workload(
    references: list[tuple[Workload, Contender, Settings]],
) -> None:
    work = level("forward", [64, 128])
    cells = measure(work, ["fast", "fast+recompute", "plain", "high", "high+recompute"])
    assert all(cell.error is not None and cell.error < 1e-5 for cell in cells)
    wanted = (Contender("high", recompute=True), Contender("plain", recompute=True))
    assert [made[:2] for made in references] == [(one, contender) for one in work for contender in wanted]


@pytest.mark.usefixtures("_own_process")
def test_references_are_float32_whatever_the_precision(
    references: list[tuple[Workload, Contender, Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, precision="bf16")
    cells = measure(level("mixer"), ["high", "plain"], settings=settings)
    assert {cell.status for cell in cells} == {"ok"}
    for cell in cells:
        assert cell.error is not None
        assert (cell.error < 1e-5) == (cell.contender.base == "high")
    assert {settings.precision for _, _, settings in references} == {"fp32"}
    # In the precision of the run it would accuse what is more precise than itself.
    monkeypatch.setattr(exactness, "replace", lambda found, **_: found)
    assert {cell.status for cell in measure(level("mixer"), ["high"], settings=settings)} == {"wrong"}


@pytest.mark.usefixtures("_own_process")
def test_a_reference_that_does_not_fit_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def full(*arguments: object) -> Task:
        tried.append(arguments)
        raise torch.OutOfMemoryError

    monkeypatch.setattr(exactness, "build_task", full)
    cells = measure(level("forward"), ["fast", "plain"])
    assert len(tried) == 1
    for cell in cells:
        assert (cell.status, cell.error) == ("ok", None)
        assert "not compared" in cell.note


def test_errors_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exactness, "_CHUNK", 7)
    torch.manual_seed(0)
    expected = torch.randn(3, 5, 2).transpose(0, 2)
    value = expected + 1e-3 * torch.randn(2, 5, 3)
    whole = (value.double() - expected.double()).norm() / expected.double().norm()
    assert relative_error(value, expected) == pytest.approx(float(whole), rel=1e-12)
    assert relative_error(expected, expected) == 0
    assert relative_error(value, torch.zeros_like(value)) > 1e100
    for bad in (math.nan, math.inf):
        value[0, 0, 0] = bad
        assert not math.isfinite(relative_error(value, expected))
    with pytest.raises(AssertionError):
        relative_error(value, expected[:1])


def test_float64_is_that_of_the_definition() -> None:
    work = Workload("operator", True, "batch-1", 50, 1)
    u, kernel, skip, _ = operator_inputs(work, SETTINGS, torch.float32)
    exact = exact_convolution(work, SETTINGS, torch.float32)["y"]
    defined = long_conv(u.double(), kernel.double(), skip.double(), impl="reference")
    assert relative_error(exact, defined[:, [0, 5, 10, 15]]) < 1e-12
    assert relative_error(plain_long_conv(u, kernel, skip), defined) < 1e-5


def test_memory_and_time_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(work: Workload, contender: Contender, *_: object, **__: object) -> Probe:
        if contender.base == "plain" and work.length >= 128:
            raise OutOfMemory
        return Probe(1e-3, 1)

    monkeypatch.setattr(run_module, "probe", probe)
    cells = measure(level("embed", [64, 128, 256]), ["plain"])
    assert [cell.status for cell in cells] == ["ok", "OOM", "OOM"]
    cells = measure(level("embed", [64, 1 << 22]), ["high"], cell=0.5)
    assert [cell.status for cell in cells] == ["ok", "extrapolated"]
    assert cells[1].median is not None
    assert cells[1].median > 500
    assert "64" in cells[1].note
    assert measure(level("embed"), ["high"], budget=0.0)[0].status == "budget"


@pytest.mark.usefixtures("_own_process")
def test_at_constant_tokens_time_grows_as_the_last_two_lengths_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(tasks: Sequence[Task], *_: object, **__: object) -> list[Timing]:
        return [Timing(ms, ms, ms, ms, 1) for ms in (task.workload.length / 4.0 for task in tasks)]

    monkeypatch.setattr(run_module, "time_together", timed)
    work = [Workload("embed", False, "tokens", length, 1024 // length) for length in (64, 256, 512)]
    cells = measure(work, ["high", "transformer"], cell=0.1)
    assert [cell.status for cell in cells] == [*["ok"] * 4, *["extrapolated"] * 2]
    assert cells[-1].median == pytest.approx(128.0)


def test_what_was_too_slow_is_not_tried_at_greater_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def slow(workload: Workload, *_: object, **__: object) -> Probe:
        tried.append(workload.length)
        raise TooSlow(0.1)

    monkeypatch.setattr(run_module, "probe", slow)
    cells = measure([Workload("embed", False, "batch-1", length, 1) for length in (64, 128)], ["high"])
    assert [cell.status for cell in cells] == ["slow", "slow"]
    assert tried == [64]


@pytest.mark.usefixtures("_own_process")
def test_memory_that_runs_out_later_ends_a_cell_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(run_module, "time_together", full)
    cells = measure(level("forward"), ["high", "reference"])
    assert [(cell.status, cell.timing) for cell in cells] == [("OOM", None), ("unsupported", None)]
    assert "timed" in cells[0].note


def test_what_ran_is_named() -> None:
    work = level("forward")[0]
    assert used(Contender("high"), work, SETTINGS) == "torch, rfft"
    assert used(Contender("fft"), work, SETTINGS) == "torch, fft"
    assert used(Contender("reference"), work, SETTINGS) == "torch, reference"
    assert used(Contender("plain"), work, SETTINGS) == "torch, rfft of 2L"


def made_up() -> list[Cell]:
    cells = []
    for length in (1024, 32_768, 65_536, 131_072):
        work = Workload("forward", False, "batch-1", length, 1)
        for name, ms in (("high", length / 1e3), ("transformer", length**2 / 1e7)):
            cells.append(
                Cell(work, Contender(name), "ok", "torch, fft", Timing(ms, ms, ms, ms, 5), 1 << 30, 1e-3, 1e-7)
            )
    cells[-1] = replace(cells[-1], status="extrapolated")
    return [*cells, Cell(replace(cells[0].workload, length=1 << 20), Contender("high"), "wrong", error=math.nan)]


def test_json_and_markdown(tmp_path: Path) -> None:
    cells = made_up()
    write_json(tmp_path / "bench.json", FACTS, cells)
    document = json.loads((tmp_path / "bench.json").read_text())
    assert document["format"] == FORMAT
    first, last = document["cells"][0], document["cells"][-1]
    assert first["tokens_per_second"] == pytest.approx(1e6)
    assert first["floor_share"] == pytest.approx(1 / 1.024)
    assert last["ms"] is None
    assert last["error"] == "nan"
    assert last["status"] == "wrong"
    (high, rival) = document["scaling"]
    assert high["exponent"]["value"] == pytest.approx(1.0)
    assert high["exponent"]["points"] == 3
    assert high["faster_than_transformer_from"] == pytest.approx(10_000, rel=0.01)
    assert (rival["contender"] == "transformer" and rival["exponent"] is None) or rival["exponent"]["points"] == 3
    text = markdown(FACTS, cells)
    assert "| 131,072 x 1 | 131 | ~1,718 |" in text
    assert "refused: error nan" in text
    assert "10,000" in text


def test_picture(tmp_path: Path) -> None:
    assert write_picture(tmp_path / "bench.png", "title", made_up())
    assert (tmp_path / "bench.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert not write_picture(tmp_path / "none.png", "title", made_up()[:1])
    assert not (tmp_path / "none.png").exists()
