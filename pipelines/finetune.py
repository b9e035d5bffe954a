"""`hyena-dna finetune`: labelled sequences go in, a classifier that can be believed comes out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from hyena_dna.errors import InputError
from pipelines.options import DEFAULT_MODEL, LENGTH, genome_option, model_option, output_option, run_options

if TYPE_CHECKING:
    from hyena_dna.training.finetune_config import FinetuneConfig

_DEFAULT_CONFIG = "default"

# Options that are settings, by the key that they set.
_KEYS = {
    "mode": "mode",
    "window": "data.window",
    "label_column": "data.label_column",
    "split_column": "data.split_column",
    "task": "data.task",
    "positive": "data.positive",
    "negatives": "data.negatives",
    "k_folds": "data.k_folds",
    "overlap": "data.overlap",
    "pooling": "head.pooling",
    "epochs": "optim.epochs",
    "lr": "optim.lr",
    "batch_size": "optim.batch_size",
    "seed": "trainer.seed",
    "seeds": "trainer.seeds",
}
_PATHS = ("genome", "regions", "train", "dev", "test", "folds")
_LISTS = {"classes": "data.classes", "val_contigs": "data.val_contigs", "test_contigs": "data.test_contigs"}
_FLAGS = ("stranded", "clip", "rna")


@click.command()
@model_option()
@genome_option(required=False)
@click.option("--regions", type=click.Path(), help="Labelled regions of --genome: BED or narrowPeak.")
@click.option(
    "--train",
    type=click.Path(),
    help="Table (CSV, TSV, Parquet) with sequence,label[,split], or chrom,start,end of --genome.",
)
@click.option("--dev", type=click.Path(), help="Table to validate on: early stopping, thresholds, every choice.")
@click.option("--test", type=click.Path(), help="Table to report on; it chooses nothing.")
@click.option("--fasta", multiple=True, metavar="NAME=FILE", help="FASTA file of a class; repeat for each class.")
@output_option(required=False, text="Run folder.  [default: runs/finetune-CONFIG-TIME]")
@click.option(
    "-c",
    "--config",
    "config",
    default=None,
    help=f"Name of a shipped configuration, or a YAML file.  [default: {_DEFAULT_CONFIG}]",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one setting; can be repeated.")
@click.option(
    "--mode",
    type=click.Choice(["full", "probe", "lora", "scratch"]),
    default=None,
    help="Train everything, a linear model on frozen embeddings, adapters, or random weights.  [default: full]",
)
@click.option(
    "--window",
    type=LENGTH,
    default=None,
    help="bp around the centre of each region or sequence.  [default: the whole of it]",
)
@click.option("--stranded", is_flag=True, help="Read regions on - from that strand.  [default: all on +]")
@click.option(
    "--label-column",
    default=None,
    help="Column of the label, by number or name; A,B,C: several 0/1 "
    "columns.  [default: BED column 4, or the table's label]",
)
@click.option("--split-column", default=None, help="Column of the split, by number or name.")
@click.option(
    "--task",
    type=click.Choice(["auto", "binary", "multiclass", "multilabel", "regression"]),
    default=None,
    help="Kind of task.  [default: auto, by the labels]",
)
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME=LABEL,...",
    help="A class made of labels (globs), in the order of outputs; other labels are left out.",
)
@click.option("--positive", default=None, help="Binary: the class that the probability is of.  [default: the last]")
@click.option(
    "--negatives",
    type=click.Choice(["none", "gc", "dinucleotide"]),
    default=None,
    help="Add background: random regions of like GC content, or dinucleotide shuffles.",
)
@click.option("--val-contigs", multiple=True, metavar="GLOB", help="Contigs to validate on.")
@click.option("--test-contigs", multiple=True, metavar="GLOB", help="Contigs to test on.")
@click.option("--folds", type=click.Path(), help="JSON of train, valid and test contigs.")
@click.option("--k-folds", type=click.IntRange(min=3), default=None, help="Random folds, each tested on once.")
@click.option(
    "--overlap",
    type=click.Choice(["refuse", "drop", "allow"]),
    default=None,
    help="Sequence shared between splits: refuse, take out of training, or keep.  [default: refuse]",
)
@click.option(
    "--pooling",
    type=click.Choice(["auto", "mean", "last", "max", "attention", "mean+max", "mean+std", "mean+max+std"]),
    default=None,
    help="How positions are pooled.  [default: mean+max; with --mode probe mean, mean+max or mean+std, by validation]",
)
@click.option("--epochs", type=click.IntRange(min=1), default=None, help="Passes over the training examples.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=None, help="Peak learning rate.")
@click.option("--seeds", type=click.IntRange(1, 100), default=None, help="Runs with consecutive seeds.")
@click.option("--clip", is_flag=True, help="Cut regions at the end of their contig instead of refusing them.")
@click.option("--rna", is_flag=True, help="Read U as T.")
@run_options
def command(
    model: str | None,
    output: str | None,
    config: str | None,
    device: str,
    threads: int | None,
    force: bool,
    resume: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> int:
    """Fine-tune a model to classify sequences or to predict a number of them.

    Validation chooses the epoch, the temperature and the thresholds; the test examples are predicted once, at the end,
    beside GC content, k-mer regression and a small CNN that learnt from the same examples. The run folder gets
    config.yaml, metrics.csv, metrics.json, predictions.tsv, report.html, and the model, which predict, embed,
    score-variants and info accept. BED coordinates are 0-based half-open.

    \b
    Examples:
      hyena-dna finetune --model M --genome ce10.fa.gz --regions elements.bed --window 512 --val-contigs chrIII
        --test-contigs chrII --class enhancer=putative_enhancer --class promoter=*_promoter
      hyena-dna finetune --model M --genome hg38.fa --regions peaks.narrowPeak --window 1k --negatives gc --mode lora
      hyena-dna finetune --model M --train train.csv --dev dev.csv --test test.csv --mode probe -o runs/probe
    """

    from hyena_dna.inference.runtime import set_threads
    from hyena_dna.training.finetune import finetune
    from hyena_dna.training.finetune_prepare import FinetuneOptions, prepare

    set_threads(threads)
    earlier = Path(output) if resume and output else None
    name, loaded = _load(config, earlier, settings)
    if (
        earlier is not None
        and not earlier.exists()
        and not any((loaded.data.regions, loaded.data.train, loaded.data.fasta))
    ):
        raise InputError("there is no run to resume", file=earlier)
    if model is None and loaded.model is None:
        model = (_model_of(earlier) if earlier is not None else None) or DEFAULT_MODEL
    options = FinetuneOptions(name, model, device, resume=resume, force=force, quiet=quiet)
    if dry_run:
        facts = prepare(loaded, options).describe()
        click.echo(json.dumps(facts) if as_json else _table(facts))
        return 0
    folder = output or f"runs/finetune-{name}-{datetime.now():%Y%m%d-%H%M%S}"
    outcome = finetune(loaded, Path(folder), options)
    if outcome.exit_code == 0:
        if as_json:
            keys = ("status", "task", "counts", "overlaps", "seconds", "result")
            click.echo(json.dumps({"run": str(outcome.folder), **{key: outcome.record[key] for key in keys}}))
        elif not quiet:
            click.echo("\n".join(_summary(outcome.record)), err=True)
    return outcome.exit_code


def _load(name: str | None, earlier: Path | None, settings: dict[str, Any]) -> tuple[str, FinetuneConfig]:
    """The configuration that the options ask for, and what to call the run."""
    from hyena_dna.config import find_config, load_yaml
    from hyena_dna.training.finetune_config import FinetuneConfig

    if name is None and earlier is not None and (earlier / "config.yaml").is_file():
        path = earlier / "config.yaml"
    else:
        path = find_config(name or _DEFAULT_CONFIG, "finetune")
    loaded = load_yaml(path, FinetuneConfig, [*settings["overrides"], *_overrides(settings)])
    return path.stem if earlier is None else earlier.name, loaded


def _overrides(settings: dict[str, Any]) -> Iterator[str]:
    """Options that are settings, in the form of --set; only those that were given."""
    for option, key in _KEYS.items():
        if settings[option] is not None:
            yield f"{key}={json.dumps(settings[option])}"
    if settings["pooling"] not in (None, "attention"):
        yield f"probe.pooling={json.dumps(settings['pooling'])}"
    for option in _PATHS:
        if settings[option]:
            yield f"data.{option}={json.dumps(_absolute(settings[option]))}"
    for option, key in _LISTS.items():
        if settings[option]:
            yield f"{key}={json.dumps(settings[option])}"
    for option in _FLAGS:
        if settings[option]:
            yield f"data.{option}=true"
    if settings["fasta"]:
        yield f"data.fasta={json.dumps(_classes(settings['fasta']))}"
    if settings["precision"] != "auto":
        yield f"optim.precision={settings['precision']}"


def _absolute(path: str) -> str:
    return path if path == "-" else os.path.abspath(path)


def _classes(texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise InputError(f"--fasta {text!r} is not of the form NAME=FILE")
        if name in found:
            raise InputError(f"--fasta names the class {name!r} twice")
        found[name] = _absolute(path)
    return found


def _model_of(run: Path) -> str | None:
    from hyena_dna.training.run_folder import RunFolder
    from hyena_dna.training.run_record import read_record

    record = RunFolder(run).record
    model = read_record(record).get("model") if record.is_file() else None
    return model if isinstance(model, str) else None


def _table(facts: dict[str, Any]) -> str:
    from hyena_dna.training.finetune_data import describe_counts

    lines = [f"{name}: {value}" for name, value in facts.items() if name != "counts"]
    return "\n".join([*lines, *describe_counts(facts["counts"])])


def _summary(record: dict[str, Any]) -> Iterator[str]:
    """The result in a few lines for people."""
    from hyena_dna.evaluation.metrics import MAIN_METRIC

    result = record["result"]
    names = [MAIN_METRIC[record["kind"]], *(name for name in ("auprc", "mcc", "pearson") if name in result["metrics"])]
    yield f"on {result['evaluated_on']}:"
    for who, metrics in (("network", result["metrics"]), *result["baselines"].items()):
        shown = "  ".join(f"{name} {_estimate(metrics[name])}" for name in names)
        yield f"  {who:<27} {shown}"
    main = result["summary"][names[0]]
    if main["runs"] > 1:
        yield f"  mean of {main['runs']} runs: {names[0]} {main['mean']:.4f} ({main['low']:.4f}-{main['high']:.4f})"


def _estimate(estimate: dict[str, float | None]) -> str:
    if estimate["value"] is None:
        return "undefined"
    interval = "" if estimate["low"] is None else f" ({estimate['low']:.3f}-{estimate['high']:.3f})"
    return f"{estimate['value']:.4f}{interval}"
