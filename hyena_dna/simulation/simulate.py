"""`simulate`: a whole example set with known truth, the same bytes for the same seed."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hyena_dna.errors import InputError
from hyena_dna.files import atomic_directory
from hyena_dna.genome.interval import Interval
from hyena_dna.simulation import element_variants, layout, spacer_variants
from hyena_dna.simulation.assembly import Genome, assemble
from hyena_dna.simulation.cohort import SAMPLES, plan_variants
from hyena_dna.simulation.document import readme
from hyena_dna.simulation.grammar import GRAMMARS
from hyena_dna.simulation.haplotypes import build_haplotype
from hyena_dna.simulation.motifs import MOTIFS
from hyena_dna.simulation.reads import DEPTH, KINDS, READ_LENGTH, Donor, SimulatedRead, simulate_reads
from hyena_dna.simulation.streams import Part, stream
from hyena_dna.simulation.tables import (
    element_lines,
    element_table,
    gene_lines,
    motif_lines,
    promoter_lines,
    repeat_lines,
    vcf_lines,
)
from hyena_dna.simulation.variants import EFFECTS, Variant
from hyena_dna.simulation.writing import write_bam, write_bgzf_table, write_fasta, write_json, write_lines

__all__ = ["GENERATOR_VERSION", "Simulation", "simulate"]

GENERATOR_VERSION = 1
"""Changes whenever the same seed gives other content."""

_LONGEST_GENOME = 100_000_000
_READ_REGION = 60_000


@dataclass(frozen=True)
class Simulation:
    """What was simulated.

    Args:
        output: the folder.
        seed: the seed.
        contigs: length in bp of every contig.
        elements: number of elements by label; background are decoys.
        genes: number of genes.
        variants: number of alternative alleles by effect.
        records: number of variant records.
        reads: number of alignment records.
        read_region: where reads start.
    """

    output: Path
    seed: int
    contigs: dict[str, int]
    elements: dict[str, int]
    genes: int
    variants: dict[str, int]
    records: int
    reads: int
    read_region: Interval

    @property
    def length(self) -> int:
        """Length of the genome in bp."""
        return sum(self.contigs.values())


def simulate(
    output: str | os.PathLike[str], *, seed: int = 1, length: int = 2_000_000, contigs: int = 6, force: bool = False
) -> Simulation:
    """Write an example set: genome, elements, genes, variants and reads whose truth is known.

    Args:
        output: folder to make; its README.md describes every file.
        seed: seed of every random choice; the same seed and length give the same bytes.
        length: total length of the genome in bp, at most 100 Mb.
        contigs: number of contigs, 3 to 24: the last is for testing, the one before for validation.
        force: replace an existing folder.

    Raises:
        InputError: a negative seed, too few, too many or too short contigs, too long a genome, or an output that
            exists or cannot be written.
    """
    if seed < 0:
        raise InputError(f"the seed {seed} is negative", remedy="--seed 0 or more")
    if length > _LONGEST_GENOME:
        raise InputError(f"a simulated genome of {length} bp is too long", remedy="--length 100M or less")
    with atomic_directory(output, force=force) as folder:
        genome = assemble(seed, length, contigs)
        variants = plan_variants(seed, genome)
        region, reads = _read_first_contig(seed, genome, variants)
        summary = Simulation(
            output=Path(output),
            seed=seed,
            contigs={contig.name: contig.length for contig in genome.contigs},
            elements=dict(sorted(Counter(element.label for element in genome.elements).items())),
            genes=len(genome.genes),
            variants=dict(sorted(Counter(effect for variant in variants for effect in variant.effects).items())),
            records=len(variants),
            reads=len(reads),
            read_region=region,
        )
        _write(folder, genome, variants, reads, summary)
    return summary


def _read_first_contig(seed: int, genome: Genome, variants: list[Variant]) -> tuple[Interval, list[SimulatedRead]]:
    contig = genome.contigs[0]
    span = min(_READ_REGION, contig.length // 3)
    start = (contig.length - span) // 2
    region = Interval(contig.name, start, start + span)
    own = [variant for variant in variants if variant.chrom == contig.name]
    first, second = (build_haplotype(contig.bases, own, sample=0, haplotype=haplotype) for haplotype in (0, 1))
    donor = Donor(contig.bases, contig.soft, region, (first, second))
    return region, simulate_reads(stream(seed, Part.READS), donor)


def _write(
    folder: Path, genome: Genome, variants: list[Variant], reads: list[SimulatedRead], summary: Simulation
) -> None:
    write_fasta(folder / "genome.fa.gz", genome.contigs)
    write_lines(folder / "elements.bed", element_lines(genome))
    write_lines(folder / "promoters.bed", promoter_lines(genome))
    write_lines(folder / "elements.tsv", element_table(genome))
    motifs = (line for contig in genome.contigs for line in motif_lines(contig))
    write_bgzf_table(folder / "motifs.bed.gz", motifs, "bed")
    write_lines(folder / "repeats.bed", repeat_lines(genome))
    write_lines(folder / "genes.bed", gene_lines(genome.genes))
    write_bgzf_table(folder / "variants.vcf.gz", vcf_lines(genome, variants), "vcf")
    write_bam(folder / "reads.bam", genome.contigs, summary.read_region.chrom, SAMPLES[0], reads)
    write_json(folder / "splits.json", genome.splits)
    truth = _truth(genome, summary)
    write_json(folder / "truth.json", truth)
    write_lines(folder / "README.md", [readme(truth)])


def _truth(genome: Genome, summary: Simulation) -> dict[str, Any]:
    counts = asdict(summary)
    region = counts.pop("read_region")
    del counts["output"]
    return {
        "generator": {"name": "hyena-dna simulate", "version": GENERATOR_VERSION},
        **counts,
        "length": summary.length,
        "read_region": {key: region[key] for key in ("chrom", "start", "end")},
        "splits": genome.splits,
        "motifs": {motif.name: motif.consensus for motif in MOTIFS},
        "grammars": {
            grammar.label: [
                {"first": pair.first.name, "second": pair.second.name, "distance": [pair.nearest, pair.farthest]}
                for pair in grammar.pairs
            ]
            for grammar in GRAMMARS
        },
        "accessory_motifs": {grammar.label: [motif.name for motif in grammar.accessory] for grammar in GRAMMARS},
        "effects": EFFECTS,
        "parameters": {
            "element_length": layout.ELEMENT_LENGTH,
            "window": layout.WINDOW,
            "features_per_mb": layout.DENSITIES,
            "repeat_share": layout.REPEAT_SHARE,
            "variants_per_mb": element_variants.DENSITIES | spacer_variants.DENSITIES,
            "samples": list(SAMPLES),
            "read_length": READ_LENGTH,
            "read_depth": DEPTH,
            "fragment_kinds": KINDS,
        },
        "repeat_families": {family.name: family.consensus.decode() for family in genome.families},
    }
