"""`hyena-dna convert`: models from one layout to another."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import TYPE_CHECKING, Literal

import rich_click as click

from pipelines.options import report_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyena_dna.model.convert import Conversion
    from hyena_dna.model.shift_probe import ShiftScore

_SHIFTS = ("0.05", "0.0")
_log = logging.getLogger("hyena_dna")


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST", type=click.Path())
@click.option(
    "--to",
    type=click.Choice(["native", "hf", "standalone"]),
    default="native",
    help="Layout to write: this project's, the Hugging Face port's, or the official standalone code's.",
)
@click.option(
    "--shift",
    type=click.Choice(_SHIFTS),
    default=None,
    help="Modulation shift of a model whose configuration does not say.  [default: 0.05]",
)
@click.option(
    "--probe-shift",
    "genome",
    metavar="GENOME",
    type=click.Path(),
    default=None,
    help="Also score up to 64 windows of this FASTA under both shifts and show which fits better.",
)
@click.option(
    "--half", is_flag=True, help="Store half precision, all but the filter networks, if predictions stay the same."
)
@click.option("--force", is_flag=True, help="Replace an existing model directory.")
@report_options
def command(
    source: str,
    destination: str,
    to: Literal["native", "hf", "standalone"],
    shift: str | None,
    genome: str | None,
    half: bool,
    force: bool,
    as_json: bool,
    quiet: bool,  # handled by the option itself: no notes on stderr
) -> None:
    """Convert a model SRC of any published layout into a model directory DST, or one of ours into theirs.

    SRC is a model or run directory, a directory or file of published HyenaDNA weights (safetensors, Lightning .ckpt,
    with config.json beside it), or hf:owner/name. Nothing in it is run. Every name, shape, value and positional table
    is checked; tables are then left out, since they can be recomputed. There are no coordinates to convert.

    \b
    Examples:
      hyena-dna convert hyenadna-tiny-1k-seqlen/ models/tiny-1k
      hyena-dna convert hyenadna-large-1m-seqlen/weights.ckpt models/large-1m --probe-shift hg38.fa.gz
      hyena-dna convert runs/my-run/model exported/ --to hf
      hyena-dna convert runs/my-run models/mine --half
    """
    from hyena_dna.files import check_output
    from hyena_dna.model.checkpoint import check_replaceable, read_model
    from hyena_dna.model.convert import convert

    check_output(destination, force=force, folder=True)
    check_replaceable(destination)
    loaded = read_model(source, shift=None if shift is None else float(shift))
    scores: Sequence[ShiftScore] = ()
    if genome is not None:
        from hyena_dna.genome.reference import Reference
        from hyena_dna.model.shift_probe import probe_shift

        with Reference(genome) as reference:
            scores = probe_shift(loaded.model, reference, shifts=[float(value) for value in _SHIFTS])
    result = convert(loaded, source, destination, to=to, half=half, force=force)
    _report(result, destination)
    best = min(scores, key=lambda score: score.bits_per_base, default=None)
    if as_json:
        summary = dataclasses.asdict(result) | {"destination": destination}
        if best is not None:
            summary |= {"shift_probe": [score._asdict() for score in scores], "recommended_shift": best.shift}
        click.echo(json.dumps(summary))
    elif best is not None:
        click.echo(_table(scores, best, result.modulation_shift))


def _report(result: Conversion, destination: str) -> None:
    _log.info(
        "%s: %s layout (%s), %s parameters -> %s layout",
        destination, result.source_layout, result.source_kind, f"{result.parameters:,}", result.layout,
    )  # fmt: skip
    _log.info("weights: %s -> %s bytes", f"{result.bytes_before:,}", f"{result.bytes_after:,}")
    if result.half is not None:
        _log.info("half precision changes log-likelihoods by up to %.2g nats at a base, %.2g per base of a sequence",
                  result.half.base, result.half.mean)  # fmt: skip
    if result.source_layout != "native":
        _log.info("positional tables: %d in the file, all equal to their formula", result.tables)
        if result.ignored:
            _log.info("not part of a model, left out: %s", ", ".join(result.ignored))
        _log.info("LM head: %s", "tied to the embeddings" if result.tied else "differs from the embeddings, kept apart")
        _log.info("modulation shift: %s", result.modulation_shift)
        _log.info("licence: the HyenaDNA weights that LongSafari published are BSD-3-Clause; whoever passes them on, "
                  "converted or not, keeps that notice")  # fmt: skip


def _table(scores: Sequence[ShiftScore], best: ShiftScore, recorded: float) -> str:
    lines = ["shift  bits per base", *(f"{score.shift:<5}  {score.bits_per_base:.4f}" for score in scores)]
    advice = (
        "as recorded" if best.shift == recorded else f"recorded: {recorded}; convert again with --shift {best.shift}"
    )
    return "\n".join([*lines, f"recommended: {best.shift} ({advice})"])
