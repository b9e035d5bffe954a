"""`hyena-dna inspect`: what a model's operators do with one sequence, as pictures and arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from hyena_dna.errors import InputError
from pipelines.options import device_options, genome_option, model_option, output_option, report_options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hyena_dna.inference.operator_matrix import MixerView
    from hyena_dna.model.model import HyenaDNA
    from hyena_dna.output.operator_pictures import Track

_PICTURES = ("filters", "matrix", "influence", "receptive-field", "comparison")
_ARRAYS = "inspect.npz"

# Matrices of higher orders are products of dense ones: of long sequences only the strongest channels are averaged.
_MEAN_LENGTH, _MEAN_CHANNELS = 1024, 16
_MOST_PANELS = 6


@click.command()
@model_option(required=True)
@genome_option(required=False)
@click.option("--region", help="Place of --genome: CONTIG:START-END, 1-based inclusive; (-) after it for that strand.")
@click.option("--fasta", type=click.Path(), help="Sequence: FASTA, FASTQ or GenBank; `-` for standard input.")
@click.option("--record", help="Name of the record of --fasta.  [default: its only one]")
@output_option(text="Output folder: a picture of each kind, and inspect.npz with all numbers.")
@click.option("--layer", type=int, default=None, help="Block, from 1.  [default: the last]")
@click.option(
    "--channel", "channels", type=int, multiple=True,
    help="Channel of the operator (attention: head), from 0; repeat for several.  [default: the two that add most]",
)  # fmt: skip
@click.option("--show", type=click.Choice(_PICTURES), multiple=True, help="Make only this; repeat for several.")
@click.option(
    "--attention-model",
    help="Trained model of the same backbone with attention, to stand beside the matrices of a Hyena model.",
)
@click.option(
    "--rows", type=click.IntRange(min=1), default=512,
    help="Output positions of the influence map, evenly spread; its time grows with them.",
)  # fmt: skip
@click.option("--format", "suffix", type=click.Choice(["png", "svg"]), default="png", help="Format of pictures.")
@click.option("--rna", is_flag=True, help="Read U as T.")
@device_options
@click.option("--force", is_flag=True, help="Replace an earlier output of this command.")
@click.option("--dry-run", is_flag=True, help="Say what would be made, and do nothing.")
@report_options
def command(
    model: str,
    genome: str | None,
    region: str | None,
    fasta: str | None,
    record: str | None,
    output: str,
    layer: int | None,
    channels: tuple[int, ...],
    show: tuple[str, ...],
    attention_model: str | None,
    rows: int,
    suffix: str,
    rna: bool,
    device: str,
    threads: int | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,  # handled by the option itself: no notes on stderr
) -> None:
    """Look inside a model on one sequence of at most 4,096 bp.

    \b
    filters          long filters h(t) of a block with their windows
    matrix           H(u), the matrix that the operator applies to its values, for this very sequence; it is checked
                     against the model's own output to 1e-5 and refused if it differs
    influence        |d logit_i / d x_j|: how much base j moves the prediction after base i
    receptive-field  influence by distance
    comparison       the matrices of all channels beside the heads of an attention model

    Everything is computed in float32 or better. Regions are 1-based inclusive.

    \b
    Examples:
      hyena-dna inspect --model M -g ce10.fa.gz --region chrIII:1000001-1001024 -o look/
      hyena-dna inspect --model M -g ce10.fa.gz --region "chrIII:1000001-1001024(-)" --layer 1 --channel 3
        --show matrix --format svg -o matrix/
      hyena-dna inspect --model M --fasta promoter.fa --attention-model A --show comparison -o compare/
    """
    import json
    import logging

    import numpy as np

    from hyena_dna.files import atomic_directory, atomic_open, check_output
    from hyena_dna.inference.operator_matrix import LONGEST_MATRIX
    from hyena_dna.inference.runtime import set_threads
    from hyena_dna.model.checkpoint import load_model, parameters_digest
    from hyena_dna.model.device import select_device
    from pipelines.cli import versions

    log = logging.getLogger("hyena_dna")
    path = check_output(output, force=force, folder=True)
    if path.exists() and not (path.is_dir() and ((path / _ARRAYS).is_file() or not any(path.iterdir()))):
        raise InputError("exists and was not made by inspect", file=path, remedy="choose another name")
    set_threads(threads)
    track = _read_track(genome, region, fasta, record, rna)
    if len(track.bases) > LONGEST_MATRIX:
        raise InputError(f"{len(track.bases):,} bp are too many to look at", remedy=f"at most {LONGEST_MATRIX:,} bp")
    place = select_device(device)
    network = load_model(model, device=place)
    block = network.config.n_layer if layer is None else layer
    if "comparison" in show and attention_model is None:
        raise InputError("a comparison needs a model with attention", remedy="give it with --attention-model")
    other = _load_attention(attention_model, network, place) if attention_model is not None else None
    hyena = network.config.mixer == "hyena"
    if not hyena and "filters" in show:
        raise InputError("a model with attention has no long filters", remedy="leave --show filters out")
    wanted = [name for name in (show or _PICTURES) if (name != "filters" or hyena) and (name != "comparison" or other)]
    if len(channels) > _MOST_PANELS:
        raise InputError(f"a picture has room for {_MOST_PANELS} channels, not {len(channels)}")
    ids = network.tokenizer.encode(track.bases)
    view = _view(network, ids, block, channels)
    chosen = list(channels) or view.strongest(2)
    facts: dict[str, Any] = {
        "output": output,
        "sequence": track.title,
        "bases": len(track.bases),
        "model": model,
        "layer": block,
        "channels": chosen,
        "pictures": [f"{name}.{suffix}" for name in wanted],
    }
    if dry_run:
        click.echo(json.dumps(facts) if as_json else "\n".join(f"{name}: {value}" for name, value in facts.items()))
        return
    arrays: dict[str, Any] = {
        "sequence": np.array(track.bases),
        "place": np.array(track.title),
        "model_sha256": np.array(parameters_digest(network)),
        "version": np.array(dict(versions())["hyena-dna"]),
        "layer": np.array(block),
        "channels": np.array(chosen),
    }
    names = {"model": Path(model).name, "other": Path(attention_model or "").name}
    figures = _Figures(network, other, view, ids, block, chosen, track, rows, names, arrays, facts)
    with atomic_directory(path, force=force) as folder:
        from hyena_dna.output.operator_pictures import save_picture

        for name in wanted:
            save_picture(getattr(figures, name.replace("-", "_"))(), folder / f"{name}.{suffix}")
            log.info("%s.%s", name, suffix)
        with atomic_open(folder / _ARRAYS) as handle:
            np.savez_compressed(handle, **arrays)
    if as_json:
        click.echo(json.dumps(facts))


def _read_track(genome: str | None, region: str | None, fasta: str | None, record: str | None, rna: bool) -> Track:
    from hyena_dna.genome.interval import Interval
    from hyena_dna.genome.reference import Reference
    from hyena_dna.output.operator_pictures import Track

    if (region is None) == (fasta is None):
        raise InputError("one sequence is needed", remedy="give --genome with --region, or --fasta")
    if region is not None:
        if record is not None:
            raise InputError("--record names a record of --fasta")
        if genome is None:
            raise InputError("a region needs a genome", remedy="give it with --genome")
        with Reference(genome, rna=rna) as reference:
            interval = Interval.parse(region, reference.contigs)
            length = reference.contigs[interval.chrom]
            if interval.end > length:
                raise InputError(f"{region} ends after the contig's {length:,} bp", file=genome, contig=interval.chrom)
            return Track(
                interval.chrom, interval.start, reference.fetch(interval).decode("ascii"), interval.strand == "-"
            )
    assert fasta is not None
    return _read_record(fasta, record, rna)


def _read_record(fasta: str, name: str | None, rna: bool) -> Track:
    from hyena_dna.genome.records import read_records
    from hyena_dna.output.operator_pictures import Track

    found = None
    for record in read_records(fasta, rna=rna):
        if name is None and found is not None:
            raise InputError("there are several records", file=fasta, remedy="name one with --record")
        if name in (None, record.name):
            found = record
            if name is not None:
                break
    if found is None:
        raise InputError(f"there is no record {name!r}", file=fasta)
    return Track(found.name, 0, found.sequence.decode("ascii"))


def _load_attention(path: str, network: HyenaDNA, place: Any) -> HyenaDNA:
    from hyena_dna.model.checkpoint import load_model

    other = load_model(path, device=place)
    if other.config.mixer != "attention":
        raise InputError("this model has no attention", file=path, remedy="train one with --set model.mixer=attention")
    ours, theirs = network.config, other.config
    for name in ("d_model", "n_layer", "d_inner"):
        if getattr(ours, name) != getattr(theirs, name):
            raise InputError(
                f"another backbone: {name} is {getattr(theirs, name)}, not {getattr(ours, name)}", file=path
            )
    return other


def _view(network: HyenaDNA, ids: NDArray[np.uint8], block: int, channels: tuple[int, ...]) -> MixerView:
    from hyena_dna.inference.operator_matrix import view_mixer

    view = view_mixer(network, ids, block)
    for channel in channels:
        view.check(channel)
    return view


class _Figures:
    """Each method makes one picture, and adds its numbers to the arrays and facts of the run."""

    def __init__(
        self,
        network: HyenaDNA,
        other: HyenaDNA | None,
        view: MixerView,
        ids: NDArray[np.uint8],
        block: int,
        channels: list[int],
        track: Track,
        rows: int,
        names: dict[str, str],
        arrays: dict[str, Any],
        facts: dict[str, Any],
    ) -> None:
        self.network, self.other, self.view, self.ids, self.block = network, other, view, ids, block
        self.channels, self.track, self.rows, self.names = channels, track, rows, names
        self.arrays, self.facts = arrays, facts
        self._influence: Any = None

    def filters(self) -> Any:
        from hyena_dna.inference.operator_matrix import filters_and_windows
        from hyena_dna.model.operator import HyenaOperator
        from hyena_dna.output.operator_pictures import draw_filters

        mixer = self.view.mixer
        assert isinstance(mixer, HyenaOperator)
        longest = self.network.config.max_length
        filters, windows = filters_and_windows(mixer, min(longest, max(len(self.ids), 1024)))
        self.arrays |= {"filters": filters, "windows": windows}
        return draw_filters(
            filters, windows, self.channels[:2], layer=self.block, max_length=longest, subtitle=self._model()
        )

    def matrix(self) -> Any:
        import logging

        import numpy as np

        from hyena_dna.output.operator_pictures import draw_matrices

        found = [self.view.matrix(channel) for channel in self.channels]
        errors = [one.error for one in found]
        self.facts["matrix_error"] = max(errors)
        logging.getLogger("hyena_dna").info(
            "matrix times values equals the operator's output to %.1e of its largest value", max(errors)
        )
        self.arrays |= {
            "matrix": np.stack([one.matrix for one in found]).astype(np.float32),
            "matrix_values": np.stack([one.values for one in found]),
            "matrix_outputs": np.stack([one.outputs for one in found]),
            "matrix_error": np.array(errors),
        }
        attention = self.network.config.mixer == "attention"
        what, entry = ("head", "A[i, j]") if attention else ("channel", "H(u)[i, j]")
        name = "Attention softmax(QK')" if attention else f"Hyena operator {self._formula()}"
        return draw_matrices(
            [one.matrix for one in found],
            [f"{what} {channel}" for channel in self.channels],
            self.track,
            title=f"{name}, block {self.block}, {self._model()}",
            label=entry,
        )

    def _formula(self) -> str:
        config = self.network.config
        first = 1 if config.leading_conv else 2
        pairs = [f"D{n} S{n if config.leading_conv else n - 1}" for n in range(config.order, first - 1, -1)]
        return f"H(u) = {' '.join(pairs)}" + ("" if config.leading_conv else " D1")

    def _model(self) -> str:
        return f"model {self.names['model']}"

    def _map(self) -> Any:
        import logging
        import time

        from hyena_dna.inference.influence import even_rows, influence_map

        if self._influence is None:
            log, shown = logging.getLogger("hyena_dna"), [time.monotonic()]

            def progress(done: int) -> None:
                if time.monotonic() - shown[0] > 10:
                    shown[0] = time.monotonic()
                    log.info("influence: %d of %d rows", done, len(rows))

            rows = even_rows(len(self.ids), self.rows)
            self._influence = influence_map(self.network, self.ids, rows, progress=progress)
            self.arrays |= {"influence": self._influence.map, "influence_rows": self._influence.rows}
        return self._influence

    def influence(self) -> Any:
        from hyena_dna.output.operator_pictures import Panel, draw_maps

        found = self._map()
        panel = Panel(found.map, found.rows, self._model(), "|d logit_i / d x_j| (logits per base)")
        return draw_maps([panel], self.track, title="How much base j moves the prediction after base i")

    def receptive_field(self) -> Any:
        from hyena_dna.inference.receptive_field import receptive_field
        from hyena_dna.output.operator_pictures import Curve, draw_distances

        field = receptive_field(self._map())
        self.arrays |= {
            "distance_mean": field.mean,
            "distance_low": field.low,
            "distance_high": field.high,
            "distance_share": field.share,
        }
        self.facts |= {"half_within_bp": field.distance(0.5) + 1, "ninety_percent_within_bp": field.distance(0.9) + 1}
        return draw_distances(
            [Curve("mean", field.mean, field.low, field.high)],
            [Curve("mean", field.share)],
            title="Receptive field: influence of a base on predictions after it, by distance",
            subtitle=f"{self._model()}, {self.track.title}, mean of {len(self._map().rows):,} predictions",
            label="|d logit_i / d x_(i-d)| (logits per base)",
        )

    def comparison(self) -> Any:
        import numpy as np

        from hyena_dna.inference.operator_matrix import view_mixer
        from hyena_dna.output.operator_pictures import Panel, draw_maps

        assert self.other is not None
        attention = view_mixer(self.other, self.ids, self.block)
        shares, titles = [], []
        for name, view, model in (
            ("matrix_share", self.view, self.names["model"]),
            ("attention_share", attention, self.names["other"]),
        ):
            hyena = view.config.mixer == "hyena"
            count = view.matrices
            if hyena and len(self.ids) > _MEAN_LENGTH and view.config.n_filters > 1:
                count = min(count, _MEAN_CHANNELS)
            shares.append(view.mean_share(view.strongest(count)))
            self.arrays[name] = shares[-1].astype(np.float32)
            kind = "Hyena: |H(u)|" if hyena else "Attention: softmax(QK')"
            titles.append(f"{kind}, mean of {count} {'channels' if hyena else 'heads'}, model {model}")
        # One scale for both, or they could not be compared.
        top = max(float(np.percentile(share[share > 0], 99.5)) for share in shares)
        panels = [
            Panel(share, np.arange(len(self.ids)), title, "share of the row's weight", (top / 1e3, top))
            for share, title in zip(shares, titles, strict=True)
        ]
        return draw_maps(
            panels, self.track, title=f"Where each output takes its values from, block {self.block} (rows sum to 1)"
        )
