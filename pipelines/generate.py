"""`hyena-dna generate`: samples DNA from a model, after prompts or from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from hyena_dna.errors import InputError
from pipelines.options import LENGTH, compute_options, model_option, output_option, report_options

if TYPE_CHECKING:
    from pathlib import Path


_LINE = 80


@click.command()
@model_option(required=True)
@click.option("--prompts", type=click.Path(), help="Sequences to continue: FASTA, FASTQ or GenBank; `-` for standard "
              "input.  [default: none, the first base is drawn evenly]")  # fmt: skip
@click.option("--length", type=LENGTH, required=True, help="New bases of each sample; 32k, 1M.")
@click.option("--samples", type=click.IntRange(min=1), default=1, help="Samples of each prompt.")
@click.option("--temperature", type=float, default=1.0, help="Above 0; below 1 prefers likely bases.")
@click.option("--top-k", type=int, default=None, help="Draw from the K most likely bases only; 1 is greedy.")
@click.option("--top-p", type=float, default=None, help="Draw from the fewest bases that have this probability.")
@click.option("--allow-n", is_flag=True, help="N may be drawn too, not only A, C, G, T.")
@click.option("--with-prompt", is_flag=True, help="Write each prompt before its new bases.")
@click.option("--rna", is_flag=True, help="Read U as T.")
@click.option(
    "--method", type=click.Choice(["auto", "recurrent", "full"]), default="auto",
    help="Evaluate long convolutions base by base, or run the whole model for every base (slow; a check). auto: "
    "recurrent, full for models with attention.",
)  # fmt: skip
@output_option(text="Output: .fa, .fasta, .fna, or one of them with .gz (BGZF); `-` for standard output.")
@compute_options
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of every random choice.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, what it needs, and do nothing.")
@report_options
def command(
    model: str,
    prompts: str | None,
    length: int,
    samples: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    allow_n: bool,
    with_prompt: bool,
    rna: bool,
    method: Any,
    output: str,
    device: str,
    threads: int | None,
    precision: str,
    batch_size: int | None,
    seed: int,
    force: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,  # handled by the option itself: no notes on stderr
) -> None:
    """Sample DNA: each base is drawn from what the model expects after all bases before it.

    Names are PROMPT_SAMPLE, counted from 1; the header gives settings and the log-likelihood in nats of the new bases.
    The same seed gives the same bases, whatever the batch size, and a longer sample begins with the shorter one.
    Sampled sequences are a model's idea of DNA, not DNA of any organism; they have no coordinates.

    \b
    Examples:
      hyena-dna generate --model M --length 1000 --samples 5 --seed 1 -o samples.fa
      hyena-dna generate --model M --prompts promoters.fa --length 500 --temperature 0.8 --top-k 3 -o continued.fa.gz
      hyena-dna generate --model M --length 16k -o - | head -c 1000
    """
    import json
    import logging
    import time

    from hyena_dna.genome.records import read_records
    from hyena_dna.inference.generate import Sampling, generate_batches, rows_per_batch
    from hyena_dna.inference.runtime import set_threads
    from hyena_dna.model.checkpoint import load_model
    from hyena_dna.model.device import select_device

    log = logging.getLogger("hyena_dna")
    if precision not in ("auto", "fp32"):
        raise InputError(f"--precision {precision} is too coarse to sample with", remedy="use fp32")
    if output == "-" and as_json:
        raise InputError("--json and sequences cannot share standard output", remedy="name a file with --output")
    if length < 1:
        raise InputError("--length is at least 1")
    path = None if output == "-" else _check(output, force)
    sampling = Sampling(temperature, top_k, top_p, allow_n)
    records = None if prompts is None else list(read_records(prompts, rna=rna))
    set_threads(threads)
    network = load_model(model, device=select_device(device))
    longest = max((len(record.sequence) for record in records), default=0) if records else 0
    if longest + length > network.config.max_length:
        where = f" after a prompt of {longest:,} bp" if longest else ""
        raise InputError(
            f"{length:,} new bases{where} are longer than the model's {network.config.max_length:,}",
            remedy="ask for fewer bases or take a model with a longer context",
        )
    total = samples * (len(records) if records else 1)
    rows = min(total, rows_per_batch(network, length, batch_size))
    if network.config.mixer != "hyena" and method != "full":
        log.info("a model with attention is run again for every base, which takes long")
    facts: dict[str, Any] = {
        "output": output,
        "model": model,
        "samples": total,
        "bases": total * length,
        "batch_size": rows,
        "seed": seed,
    }
    if dry_run:
        click.echo(json.dumps(facts) if as_json else "\n".join(f"{name}: {value}" for name, value in facts.items()))
        return
    began = shown = time.monotonic()
    found = {}
    texts = None if records is None else [record.sequence for record in records]
    for one in generate_batches(
        network, texts, length, sampling=sampling, samples=samples, seed=seed, method=method, batch_size=batch_size
    ):
        found[one.prompt, one.sample] = one
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            rate = len(found) / (shown - began)
            log.info("%d of %d samples, %.0f s left", len(found), total, (total - len(found)) / rate)
    seconds = time.monotonic() - began
    settings = f"seed={seed} temperature={temperature:g}"
    settings += f" top_k={top_k}" if top_k is not None else ""
    settings += f" top_p={top_p:g}" if top_p is not None else ""
    lines = []
    for key in sorted(found):
        one = found[key]
        record = None if records is None else records[one.prompt]
        name = f"{record.name if record else 'sample'}_{one.sample + 1}"
        sequence = (record.sequence.decode("ascii") if record and with_prompt else "") + one.sequence
        lines.append(f">{name} {settings} log_likelihood={one.log_likelihood:.4f}")
        lines += [sequence[i : i + _LINE] for i in range(0, len(sequence), _LINE)]
    _write("\n".join(lines) + "\n", path)
    log.info("%s samples, %s bp, %.1f s, %s bp/s", f"{total:,}", f"{total * length:,}", seconds,
             f"{total * length / seconds:,.0f}")  # fmt: skip
    if as_json:
        mean = sum(one.log_likelihood for one in found.values()) / len(found)
        click.echo(json.dumps(facts | {"seconds": round(seconds, 3), "mean_log_likelihood": mean}))


def _check(output: str, force: bool) -> Path:
    from hyena_dna.files import check_output

    path = check_output(output, force=force)
    if not path.name.removesuffix(".gz").endswith((".fa", ".fasta", ".fna")):
        raise InputError("samples are FASTA", file=path, remedy="name it .fa, .fasta or .fna, or .fa.gz")
    return path


def _write(text: str, path: Path | None) -> None:
    from hyena_dna.files import atomic_path

    if path is None:
        click.echo(text, nl=False)
        return
    with atomic_path(path) as temporary:
        if path.suffix == ".gz":
            import pysam

            with pysam.BGZFile(str(temporary), "wb", None) as compressed:
                compressed.write(text.encode("ascii"))
        else:
            temporary.write_text(text, "ascii")
