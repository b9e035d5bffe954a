"""`hyena-dna merge`: shards of one run to the file that an undivided run gives."""

from __future__ import annotations

import rich_click as click

from pipelines.options import output_option, report_options


@click.command()
@click.argument("shards", nargs=-1, required=True, type=click.Path())
@output_option(text="Output, of the same format as the shards.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@report_options
def command(shards: tuple[str, ...], output: str, force: bool, as_json: bool, quiet: bool) -> None:
    """Join the outputs of `score-variants --shard 1/n` to `n/n`.

    All shards of one run must be given, in any order; the result is what one run over everything writes, byte for
    byte, with its index. Coordinates are copied as they are: POS is 1-based.

    \b
    Examples:
      hyena-dna merge part1.vcf.gz part2.vcf.gz -o all.vcf.gz
      hyena-dna merge part*.parquet -o all.parquet
    """
    import json
    import logging
    from pathlib import Path

    from hyena_dna.files import check_output
    from hyena_dna.output.merge_scores import merge_shards

    count = merge_shards([Path(shard) for shard in shards], check_output(output, force=force))
    logging.getLogger("hyena_dna").info("%s: %d shards", output, count)
    if as_json:
        click.echo(json.dumps({"output": output, "shards": count}))
