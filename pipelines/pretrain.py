"""`hyena-dna pretrain`: a genome goes in, a trained model comes out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from pipelines.options import genome_option, output_option, run_options

if TYPE_CHECKING:
    from hyena_dna.training.config import PretrainConfig

_DEFAULT_CONFIG = "tiny-1k"

# Lightning starts the other processes of a run with the same command line, which may leave the folder to the clock.
_FOLDER_VARIABLE = "HYENA_DNA_RUN_FOLDER"


@click.command()
@genome_option(required=False, multiple=True)
@click.option("--bam", type=click.Path(), help="Aligned reads (BAM, CRAM) to train on; --genome is their reference.")
@click.option(
    "--bam-mode",
    type=click.Choice(["reads", "consensus"]),
    default=None,
    help="Train on the reads or on their per-base consensus.  [default: reads]",
)
@output_option(required=False, text="Run folder.  [default: runs/pretrain-CONFIG-TIME]")
@click.option(
    "-c",
    "--config",
    "config",
    default=None,
    help=f"Name of a shipped configuration, or a YAML file.  [default: {_DEFAULT_CONFIG}]",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one setting; can be repeated.")
@click.option("--contigs", multiple=True, metavar="GLOB", help="Contigs to use.  [default: the primary assembly]")
@click.option("--exclude-contigs", multiple=True, metavar="GLOB", help="Contigs to leave out.")
@click.option(
    "--val-contigs",
    multiple=True,
    metavar="GLOB",
    help="Contigs to validate on.  [default: the contig nearest to 7.5 % of the genome]",
)
@click.option("--test-contigs", multiple=True, metavar="GLOB", help="Contigs that the run never touches.")
@click.option("--folds", type=click.Path(), help="JSON of train, valid and test contigs, or BED with a split column.")
@click.option("--exclude", type=click.Path(), help="BED of regions that no window touches.")
@click.option("--devices", type=click.IntRange(min=1), default=1, help="Devices of this machine to train on.")
@click.option("--num-nodes", type=click.IntRange(min=1), default=1, help="Machines, each started by torchrun or SLURM.")
@run_options
def command(
    config: str | None,
    output: str | None,
    device: str,
    devices: int,
    num_nodes: int,
    threads: int | None,
    force: bool,
    resume: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> int:
    """Pretrain a DNA language model on a genome.

    The run folder gets config.yaml, metrics.csv, run.json, checkpoints, the model and report.html, where validation
    stands beside Markov models of order 0 to 12. Ctrl-C and SIGTERM write a checkpoint; --resume goes on from the
    newest one and ends as an uninterrupted run does. BED coordinates are 0-based half-open; reported places, such as
    chr1:1001-2024, are 1-based inclusive.

    \b
    Examples:
      hyena-dna pretrain --genome hg38.fa
      hyena-dna pretrain -g ce10.fa.gz --val-contigs chrIII --set optim.duration="60 epochs" -o runs/worm
      hyena-dna pretrain -g hg38.fa --bam NA12878.bam --bam-mode consensus -c small-32k --dry-run
    """
    import torch

    from hyena_dna.errors import InputError

    if resume and output is None:
        raise InputError("--resume needs the folder of the run", remedy="name it with -o")
    if resume and force:
        raise InputError("--resume keeps a run and --force deletes it", remedy="give one of them")
    if threads:
        torch.set_num_threads(threads)
    name, loaded = _load(config, Path(output) if resume and output else None, settings)
    if resume and output and not Path(output).exists() and not (loaded.data.genomes or loaded.data.bam):
        raise InputError("there is no run to resume", file=output)
    if dry_run:
        return _dry_run(loaded, device, devices * num_nodes, as_json=as_json)

    from hyena_dna.training.pretrain import RunOptions, pretrain

    folder = output or os.environ.get(_FOLDER_VARIABLE) or f"runs/pretrain-{name}-{datetime.now():%Y%m%d-%H%M%S}"
    os.environ[_FOLDER_VARIABLE] = folder
    options = RunOptions(name, device, devices, num_nodes, resume=resume, force=force, quiet=quiet)
    outcome = pretrain(loaded, Path(folder), options)
    if as_json and outcome.record:
        keys = ("status", "step", "tokens", "total_steps", "parameters", "seconds", "result")
        click.echo(json.dumps({"run": str(outcome.folder), **{key: outcome.record[key] for key in keys}}))
    return outcome.exit_code


def _load(name: str | None, earlier: Path | None, settings: dict[str, Any]) -> tuple[str, PretrainConfig]:
    """The configuration that the options ask for, and what to call it."""
    from hyena_dna.config import find_config, load_yaml
    from hyena_dna.training.config import PretrainConfig

    overrides = [*settings["overrides"], *_overrides(settings)]
    if name is None and earlier is not None and (earlier / "config.yaml").is_file():
        path = earlier / "config.yaml"
    else:
        path = find_config(name or _DEFAULT_CONFIG, "pretrain")
    config = load_yaml(path, PretrainConfig, overrides)
    folds = config.data.folds
    if folds and not Path(folds).exists() and (path.parent / folds).is_file():
        # A configuration may come with its splits, wherever it is used.
        overrides.append(f"data.folds={json.dumps(str(path.parent / folds))}")
        config = load_yaml(path, PretrainConfig, overrides)
    if settings["batch_size"]:
        tokens = settings["batch_size"] * config.data.window
        config = load_yaml(path, PretrainConfig, [*overrides, f"optim.batch_tokens={tokens}"])
    return path.stem if earlier is None else earlier.name, config


def _overrides(settings: dict[str, Any]) -> Iterator[str]:
    """Options that are settings, in the form of --set; only those that were given."""
    paths = {"data.genomes": settings["genome"], "data.bam": settings["bam"], "data.folds": settings["folds"],
             "data.exclude": settings["exclude"]}  # fmt: skip
    for key, value in paths.items():
        if value:
            yield f"{key}={json.dumps(_absolute(value))}"
    for key in ("contigs", "exclude_contigs", "val_contigs", "test_contigs", "bam_mode"):
        if settings[key]:
            yield f"data.{key}={json.dumps(settings[key])}"
    if settings["precision"] != "auto":
        yield f"optim.precision={settings['precision']}"
    if settings["seed"] is not None:
        yield f"trainer.seed={settings['seed']}"


def _absolute(value: str | Sequence[str]) -> str | list[str]:
    return os.path.abspath(value) if isinstance(value, str) else [os.path.abspath(path) for path in value]


def _dry_run(config: PretrainConfig, device: str, devices: int, *, as_json: bool) -> int:
    from hyena_dna.training.estimate import estimate

    result = estimate(config, device, devices)
    click.echo(json.dumps(result.summary()) if as_json else result.text())
    return 0
