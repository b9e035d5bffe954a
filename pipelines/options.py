"""Options that several commands share, so that one name means one thing everywhere."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import rich_click as click

from hyena_dna.errors import InputError
from hyena_dna.lengths import parse_length

__all__ = [
    "DEFAULT_MODEL",
    "LENGTH",
    "LENGTH_OR_MAX",
    "compute_options",
    "device_options",
    "genome_option",
    "model_option",
    "output_option",
    "report_options",
    "resume_option",
    "run_options",
    "say_window",
]

DEFAULT_MODEL = "small"
"""The bundled model that commands use where none is named."""

Command = TypeVar("Command", bound=Callable[..., Any])


class _Length(click.ParamType[int]):
    """A length in base pairs: `1024`, `32k`, `1M`."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_length(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


class _LengthOrMax(click.ParamType[int | Literal["max"]]):
    """A length in base pairs, or `max` for the most that a model takes."""

    name = "length|max"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["max"]:
        return "max" if value == "max" else LENGTH.convert(value, param, ctx)


class _Device(click.ParamType[str]):
    """`auto`, `cpu`, `cuda` or `cuda:INDEX`; whether it exists is seen when it is used."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", str(value)):
            self.fail(f"{value!r} is not auto, cpu, cuda or cuda:INDEX", param, ctx)
        return str(value)


class _BatchSize(click.ParamType[int | None]):
    """`auto` or a positive number of sequences."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value in (None, "auto"):
            return None
        if not re.fullmatch(r"[0-9]+", str(value)) or int(value) == 0:
            self.fail(f"{value!r} is neither auto nor a positive number", param, ctx)
        return int(value)


LENGTH = _Length()
LENGTH_OR_MAX = _LengthOrMax()


def _quieten(ctx: click.Context, _: click.Parameter, quiet: bool) -> bool:
    if quiet:
        logger = logging.getLogger("hyena_dna")
        # A program that calls a command keeps its own level.
        ctx.call_on_close(functools.partial(logger.setLevel, logger.level))
        logger.setLevel(logging.ERROR)
    return quiet


def _chain(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


def genome_option(*, required: bool = True, multiple: bool = False) -> Callable[[Command], Command]:
    """`-g/--genome`, also `-R/--reference`: one FASTA file, or several; parameter `genome`."""
    several = " Repeat for several genomes." if multiple else ""
    return click.option(
        "-g", "--genome", "-R", "--reference", "genome", type=click.Path(), required=required, multiple=multiple,
        envvar="HYENA_DNA_GENOME", help=f"Genome FASTA, plain or bgzipped.{several}",
    )  # fmt: skip


def output_option(*, required: bool = True, text: str = "Output file.") -> Callable[[Command], Command]:
    """`-o/--output`, also `-O`; parameter `output`."""
    return click.option("-o", "-O", "--output", "output", type=click.Path(), required=required, help=text)


def model_option(*, required: bool = False) -> Callable[[Command], Command]:
    """`-m/--model`: a model directory, an official checkpoint, or a name; parameter `model`.

    A command that cannot do without a model takes the bundled `small`; others get None.
    """
    return click.option(
        "-m", "--model", "model", type=str, default=DEFAULT_MODEL if required else None,
        help="Model directory, run directory, official checkpoint, or name of a bundled model.",
    )  # fmt: skip


device_options = _chain(
    click.option("--device", type=_Device(), default="auto", help="auto, cpu, cuda or cuda:INDEX."),
    click.option("--threads", type=click.IntRange(min=1), default=None, help="CPU threads.  [default: all cores]"),
)
"""`--device --threads`."""

compute_options = _chain(
    device_options,
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto",
                 help="Arithmetic of the linear layers; auto: bf16 on a GPU that has it, fp32 on a CPU."),
    click.option("--batch-size", type=_BatchSize(), default="auto", help="Sequences per batch."),
)  # fmt: skip
"""`device_options`, `--precision --batch-size`; a batch size of None means auto."""

report_options = _chain(
    click.option("--json", "as_json", is_flag=True, help="Print one machine-readable summary line on stdout."),
    click.option("-q", "--quiet", is_flag=True, callback=_quieten, help="No progress and no notes on stderr."),
    click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error."),
)
"""`--json --quiet --debug`; parameters `as_json` and `quiet`."""

resume_option = click.option("--resume", is_flag=True, help="Go on where an earlier, interrupted run stopped.")

run_options = _chain(
    compute_options,
    click.option("--seed", type=click.IntRange(min=0), default=None, help="Seed of every random choice."),
    click.option("--force", is_flag=True, help="Replace an existing output."),
    resume_option,
    click.option("--dry-run", is_flag=True, help="Say what would be done, what it needs, and do nothing."),
    report_options,
)
"""All options of a command that runs a model: `compute_options`, `report_options`, seed, force, resume, dry_run."""


def say_window(window: int, longest: int) -> None:
    """Note on stderr that a default window is less than the model reads, both in bp."""
    if window < longest:
        logging.getLogger("hyena_dna").info("windows of %s bp; --window max reads %s", f"{window:,}", f"{longest:,}")
