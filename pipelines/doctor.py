"""`hyena-dna doctor`: what is installed, what it can do here, and whether it computes what it promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import rich_click as click

from pipelines.options import device_options, model_option, report_options

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from hyena_dna.inference.selfcheck import Check

_MARKS = {True: "ok  ", False: "FAIL", None: "    "}


@click.command()
@model_option()
@device_options
@report_options
def command(
    model: str | None,
    device: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,  # the report is the output; there are no notes to leave out
) -> int:
    """Check this installation: versions, devices, operators, arithmetic, caches and memory.

    Runs a small model with random weights, or the model given, on every device and compares it with its definition:
    causality, equal windows, both strands, CPU against GPU. Exit code 1 if something is wrong. It reads and writes no
    coordinates: there are no coordinates to convert.

    \b
    Examples:
      hyena-dna doctor
      hyena-dna doctor --device cpu --json
      hyena-dna doctor --model runs/my-run/model
    """
    import torch

    from hyena_dna.inference.selfcheck import check_files, check_memory, check_model
    from hyena_dna.model.checkpoint import load_model
    from hyena_dna.model.config import HyenaConfig
    from hyena_dna.model.model import HyenaDNA

    if threads:
        torch.set_num_threads(threads)
    devices = _devices(device)
    sections: dict[str, list[Check]] = {"versions": list(_versions()), "files": list(check_files())}
    torch.manual_seed(0)
    subject = load_model(model) if model else HyenaDNA(HyenaConfig(d_model=64, n_layer=2, max_length=1026)).eval()
    for place in devices:
        sections[f"{model or 'a small random model'} on {place}"] = list(check_model(subject, place))
        sections[f"whole context of each preset on {place}"] = list(check_memory(place))

    failed = [check.name for checks in sections.values() for check in checks if check.ok is False]
    if as_json:
        rows = {title: [check._asdict() for check in checks] for title, checks in sections.items()}
        click.echo(json.dumps({"ok": not failed, "failed": failed, "checks": rows}))
    else:
        for title, checks in sections.items():
            _print(title, checks)
        click.echo(f"{len(failed)} failed: {', '.join(failed)}" if failed else "Everything is as it should be.")
    return 1 if failed else 0


def _print(title: str, checks: Iterable[Check]) -> None:
    click.echo(click.style(title, bold=True))
    for check in checks:
        colour = {True: "green", False: "red", None: None}[check.ok]
        click.echo(f"  {click.style(_MARKS[check.ok], fg=colour)} {check.name}: {check.detail}")
    click.echo()


def _devices(wanted: str) -> list[torch.device]:
    import torch

    from hyena_dna.model.device import select_device

    if wanted == "auto":
        return [torch.device("cpu"), *(torch.device("cuda", index) for index in range(torch.cuda.device_count()))]
    return [select_device(wanted)]


def _versions() -> Iterable[Check]:
    import platform

    import torch
    from pysam.version import __htslib_version__ as htslib

    from hyena_dna.inference.selfcheck import Check
    from hyena_dna.ops.cpu_linear import has_faster_onednn
    from hyena_dna.ops.tier import tier_name
    from pipelines.cli import versions

    for name, version in versions():
        yield Check(name, None, version)
    recent = tuple(int(part) for part in htslib.split("-")[0].split(".")) >= (1, 23, 1)
    yield Check(
        "htslib", recent, f"{htslib}{'' if recent else ', older than 1.23.1: unsafe with CRAM files of others'}"
    )
    through = "oneDNN" if has_faster_onednn() else "PyTorch's BLAS"
    yield Check("cpu", None, f"{platform.machine()}, {torch.get_num_threads()} threads, products through {through}")
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        detail = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
        yield Check(f"cuda:{index}", None, f"{detail}, {tier_name(torch.device('cuda', index))} operators")
    yield Check("long convolution", None, "real FFT in float32; fast precision on a GPU: Triton, where it runs")
