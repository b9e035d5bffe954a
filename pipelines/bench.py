"""`hyena-dna bench`: speed, memory and exactness of operators and models, beside other implementations."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from pipelines.options import LENGTH, device_options, output_option, report_options

if TYPE_CHECKING:
    from hyena_dna.benchmark.run import Cell
    from hyena_dna.benchmark.workload import Contender, Settings, Workload

_LENGTHS = (*(1 << power for power in range(10, 21)), 160_000, 450_000, 1_000_000)
_TOKENS = {"cuda": 262_144, "cpu": 32_768}
_CONTENDERS = {"cuda": "fast,high,plain,transformer", "cpu": "high,plain,transformer"}

_log = logging.getLogger("hyena_dna")


@click.command()
@click.option("--preset", default="large-1m", help="Width and layers of a published model.")
@click.option("--d-model", type=click.IntRange(min=8), default=None, help="Width.  [default: the preset's]")
@click.option("--n-layer", type=click.IntRange(min=1), default=None, help="Layers.  [default: the preset's]")
@click.option(
    "--levels",
    default="operator,mixer,block,forward,forward-backward,step,embed",
    help="What to measure, separated by commas.",
)
@click.option(
    "--lengths",
    default=None,
    help="Lengths in bp, separated by commas.  [default: 2^10 to 2^20, 160,000, 450,000 and 1,000,000]",
)
@click.option(
    "--tokens",
    type=LENGTH,
    default=None,
    help="Batch times length in the sweep of constant tokens.  [default: 262144 on a GPU, 32768 on a CPU]",
)
@click.option(
    "--sweep",
    type=click.Choice(["both", "tokens", "batch-1"]),
    default="both",
    help="Constant tokens, batch 1, or both.",
)
@click.option(
    "--contenders",
    default=None,
    help="Who takes part, separated by commas: fast, high, plain, transformer, official, flashfftconv, or an "
    "implementation of the long convolution by name; each may end in +recompute, a peer in +fused.  [default: "
    "fast (on a GPU), high, plain, transformer, those whose path is given, and flashfftconv on a GPU if installed]",
)
@click.option(
    "--official",
    type=click.Path(path_type=Path),
    default=None,
    help="The official standalone_hyenadna.py, as a contender. It is run.",
)
@click.option(
    "--flashfftconv",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder to import flashfftconv from, as a contender.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    help="Arithmetic of linear layers, of all but `high`; auto: bf16 on a GPU that has it, fp32 on a CPU.",
)
@click.option(
    "--bandwidth",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="GB/s for the floor.  [default: measured]",
)
@click.option(
    "--flops",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="TFLOP/s for the floor.  [default: measured]",
)
@click.option(
    "--cell-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    help="Most seconds of one cell; longer ones are extrapolated.",
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    help="Most seconds of the whole run; what is left then is not run.",
)
@output_option(required=False, text="Folder for bench.json, bench.md and bench.png.  [default: runs/bench-TIME]")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of weights and inputs.")
@click.option("--force", is_flag=True, help="Replace the files of an existing folder.")
@click.option("--dry-run", is_flag=True, help="List the cells and do nothing.")
@device_options
@report_options
def command(
    preset: str,
    d_model: int | None,
    n_layer: int | None,
    levels: str,
    lengths: str | None,
    tokens: int | None,
    sweep: str,
    contenders: str | None,
    official: Path | None,
    flashfftconv: Path | None,
    precision: str,
    bandwidth: float | None,
    flops: float | None,
    cell_seconds: float,
    budget: float,
    output: str | None,
    seed: int,
    force: bool,
    dry_run: bool,
    device: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,  # acts through its callback
) -> int:
    """Measure speed, memory and exactness of the operators and models, beside other implementations in one run.

    Every result is checked at the length that is timed; where a check fails, no speed is shown and the exit code is 1.
    Running out of memory is a result. Sequences are random: there are no coordinates to convert.

    \b
    Examples:
      hyena-dna bench --levels operator --budget 600
      hyena-dna bench --preset tiny-1k --levels forward,step --lengths 1024 --tokens 32768 --device cpu
      hyena-dna bench --official standalone_hyenadna.py --contenders fast,official,official+recompute --lengths 1048576
    """
    import torch

    from hyena_dna.benchmark.contenders import check_contender, contender_names
    from hyena_dna.benchmark.workload import Settings, parse_contender, workloads
    from hyena_dna.inference.runtime import select_precision
    from hyena_dna.model.device import select_device

    place = select_device(device)
    config = _config(preset, d_model, n_layer)
    wanted = _contenders(contenders, place.type, official, flashfftconv)
    named = [parse_contender(one, contender_names()) for one in wanted]
    work = workloads(
        _levels(levels),
        _lengths(lengths),
        tokens or _TOKENS[place.type],
        ("tokens", "batch-1") if sweep == "both" else (sweep,),  # type: ignore[arg-type]
    )
    for one in named:
        check_contender(one, official, flashfftconv)
    dtype = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[select_precision(precision, place)]
    count = threads or torch.get_num_threads()
    settings = Settings(config, str(place), dtype, seed, count, official)
    if dry_run:
        _show_plan(work, named)
        return 0
    folder = _folder(output, force)
    facts, cells = _run(work, named, settings, folder, limits=(cell_seconds, budget), assumed=(bandwidth, flops))
    wrong = [cell for cell in cells if cell.status == "wrong"]
    if as_json:
        summary = {"output": str(folder), "cells": len(cells), "refused": len(wrong), "status": facts["status"]}
        click.echo(json.dumps(summary))
    else:
        click.echo((folder / "bench.md").read_text("utf-8"))
    for cell in wrong:
        click.echo(f"{cell.workload.title}, {cell.workload.length:,}, {cell.contender.name}: {cell.note}", err=True)
    return 1 if wrong else 0


def _config(preset_name: str, d_model: int | None, n_layer: int | None) -> Any:
    from hyena_dna.model.config import HyenaConfig
    from hyena_dna.model.presets import preset

    shape = preset(preset_name)
    return HyenaConfig(d_model=d_model or shape.d_model, n_layer=n_layer or shape.n_layer, max_length=shape.max_length)


def _levels(text: str) -> list[Any]:
    from hyena_dna.benchmark.workload import LEVELS
    from hyena_dna.errors import InputError

    found = [one.strip() for one in text.split(",")]
    for one in found:
        if one not in LEVELS:
            raise InputError(f"--levels: there is no level {one!r}", remedy=f"one of {', '.join(LEVELS)}")
    return list(dict.fromkeys(found))


def _lengths(text: str | None) -> list[int]:
    from hyena_dna.errors import InputError
    from hyena_dna.lengths import parse_length

    found = list(_LENGTHS) if text is None else [parse_length(one) for one in text.split(",")]
    if min(found) < 2:
        raise InputError("--lengths: a length is at least 2 bp")
    return found


def _contenders(text: str | None, device: str, official: Path | None, flashfftconv: Path | None) -> list[str]:
    if text is not None:
        return list(dict.fromkeys(text.split(",")))
    import importlib.util

    found = _CONTENDERS[device].split(",")
    if official is not None:
        found.append("official")
    if flashfftconv is not None or (device == "cuda" and importlib.util.find_spec("flashfftconv") is not None):
        found.append("flashfftconv")
    return found


def _show_plan(work: list[Workload], contenders: list[Contender]) -> None:
    for one in work:
        names = ", ".join(contender.name for contender in contenders)
        click.echo(f"{one.title}: {one.length:,} x {one.batch:,} ({names})")
    click.echo(f"{len(work) * len(contenders)} cells", err=True)


def _folder(output: str | None, force: bool) -> Path:
    from hyena_dna.files import check_output

    if output is None:
        folder = Path("runs") / f"bench-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
        folder.parent.mkdir(exist_ok=True)
    else:
        folder = Path(output)
    check_output(folder, force=force, folder=True)
    folder.mkdir(exist_ok=True)
    return folder


def _run(
    work: list[Workload],
    contenders: list[Contender],
    settings: Settings,
    folder: Path,
    *,
    limits: tuple[float, float],
    assumed: tuple[float | None, float | None],
) -> tuple[dict[str, Any], list[Cell]]:
    """Measure; what is there is written after every workload, so that a run that is stopped leaves its results."""
    import torch

    from hyena_dna.benchmark.floor import Machine, measure_machine
    from hyena_dna.benchmark.machine import commit, describe_machine, package_versions
    from hyena_dna.benchmark.picture import write_picture
    from hyena_dna.benchmark.report import markdown, write_json
    from hyena_dna.benchmark.run import Benchmark, Limits
    from hyena_dna.files import atomic_open
    from hyena_dna.inference.runtime import select_precision

    torch.set_num_threads(settings.threads)
    place = torch.device(settings.device)
    machine = measure_machine(place, select_precision(settings.precision, place))
    bandwidth, flops = assumed
    if bandwidth or flops:
        machine = Machine(
            bandwidth * 1e9 if bandwidth else machine.bandwidth,
            flops * 1e12 if flops else machine.flops,
            "given" if bandwidth and flops else f"one given, the other {machine.source}",
        )
    facts: dict[str, Any] = {
        "command": ["hyena-dna", *sys.argv[1:]],
        "status": "running",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": settings.config.model_dump(),
        "precision": settings.precision,
        "seed": settings.seed,
        "machine": describe_machine(place, settings.threads),
        "versions": package_versions(),
        "commit": commit(),
        "floor": {"bandwidth": machine.bandwidth, "flops": machine.flops, "source": machine.source},
    }
    cells: list[Cell] = []
    try:
        for found in Benchmark(work, contenders, settings, Limits(*limits), machine).cells():
            cells += found
            write_json(folder / "bench.json", facts, cells)
            _log.info("%s", _line(found))
        facts["status"] = "done"
    finally:
        facts["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(folder / "bench.json", facts, cells)
        with atomic_open(folder / "bench.md", "w") as handle:
            handle.write(markdown(facts, cells))
        shape = f"{settings.config.n_layer} layers x {settings.config.d_model}, {settings.precision}"
        write_picture(folder / "bench.png", f"{facts['machine'].get('gpu', facts['machine']['cpu'])}: {shape}", cells)
    return facts, cells


def _line(cells: list[Cell]) -> str:
    work = cells[0].workload
    parts = [f"{c.contender.name} {f'{c.median:.4g} ms' if c.status == 'ok' and c.median else c.status}" for c in cells]
    return f"{work.title}, {work.length:,} x {work.batch:,}: {', '.join(parts)}"
