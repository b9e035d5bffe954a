"""The text files of an example set: BED, TSV and VCF, as lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hyena_dna.simulation.assembly import BACKGROUND, Contig, Element, Genome
from hyena_dna.simulation.cohort import SAMPLES
from hyena_dna.simulation.genes import Gene
from hyena_dna.simulation.grammar import PROMOTER
from hyena_dna.simulation.variants import EFFECTS, Variant

__all__ = ["element_lines", "element_table", "gene_lines", "motif_lines", "promoter_lines", "repeat_lines", "vcf_lines"]

_TYPES = "snv, mnv, insertion, deletion or delins"


def _bed6(element: Element) -> str:
    place = element.interval
    return f"{place.chrom}\t{place.start}\t{place.end}\t{element.label}\t0\t{place.strand}"


def element_lines(genome: Genome) -> Iterator[str]:
    """BED6 of every element and decoy; the fourth column is the label."""
    return (_bed6(element) for element in genome.elements)


def promoter_lines(genome: Genome) -> Iterator[str]:
    """BED6 of the promoter task: promoters, and decoys that carry the motifs of promoters."""
    return (_bed6(element) for element in genome.elements if element.grammar is PROMOTER)


def element_table(genome: Genome) -> Iterator[str]:
    """TSV with a header: everything that is known of every element and decoy."""
    fold = {name: split for split, names in genome.splits.items() for name in names}
    yield "\t".join(("chrom", "start", "end", "label", "split", "strand", "id", "grammar", "tss", "gene"))
    for element in genome.elements:
        place = element.interval
        tss = "." if element.tss is None else element.tss
        columns = (place.chrom, place.start, place.end, element.label, fold[place.chrom], place.strand, element.name,
                   element.grammar.label, tss, element.gene or ".")  # fmt: skip
        yield "\t".join(map(str, columns))


def motif_lines(contig: Contig) -> Iterator[str]:
    """BED6 of a contig's planted motifs in order; the name is the element's id and the motif's name."""
    motifs = [
        (element.motif_interval(placement), f"{element.name}:{placement.motif.name}")
        for element in contig.elements
        for placement in element.placements
    ]
    for place, name in sorted(motifs):
        yield f"{place.chrom}\t{place.start}\t{place.end}\t{name}\t0\t{place.strand}"


def repeat_lines(genome: Genome) -> Iterator[str]:
    """BED6 of every repeat; the name is its family, or a tandem repeat's unit."""
    for contig in genome.contigs:
        for place, name in contig.repeats:
            yield f"{place.chrom}\t{place.start}\t{place.end}\t{name}\t0\t{place.strand}"


def gene_lines(genes: Iterable[Gene]) -> Iterator[str]:
    """BED12 of genes; the thick part is the coding sequence, start and stop codon included."""
    for gene in genes:
        place = gene.interval
        sizes = ",".join(str(exon.length) for exon in gene.exons)
        starts = ",".join(str(exon.start - place.start) for exon in gene.exons)
        columns = (place.chrom, place.start, place.end, gene.name, 0, place.strand, gene.coding_start, gene.coding_end,
                   0, len(gene.exons), sizes, starts)  # fmt: skip
        yield "\t".join(map(str, columns))


def vcf_lines(genome: Genome, variants: Iterable[Variant]) -> Iterator[str]:
    """VCF 4.3: phased genotypes of two samples, and what each alternative allele does."""
    effects = "; ".join(f"{effect}: {meaning}" for effect, meaning in EFFECTS.items())
    yield "##fileformat=VCFv4.3"
    yield "##source=hyena-dna simulate"
    yield '##FILTER=<ID=PASS,Description="All filters passed">'
    for contig in genome.contigs:
        yield f"##contig=<ID={contig.name},length={contig.length}>"
    yield f'##INFO=<ID=EFFECT,Number=A,Type=String,Description="Planted effect. {effects}">'
    yield f'##INFO=<ID=TYPE,Number=A,Type=String,Description="Allele type: {_TYPES}">'
    yield '##INFO=<ID=ELEMENT,Number=1,Type=String,Description="Element or decoy that the variant lies in">'
    yield f'##INFO=<ID=LABEL,Number=1,Type=String,Description="Label of that element; {BACKGROUND} for a decoy">'
    yield (
        '##INFO=<ID=MATCH,Number=1,Type=String,Description="Of a substitution with an effect: its neutral control, '
        'the same change in the same trinucleotide outside every motif; of a control: the substitution it belongs to">'
    )
    yield '##FORMAT=<ID=GT,Number=1,Type=String,Description="Phased genotype">'
    yield "\t".join(("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *SAMPLES))
    labels = {element.name: element.label for element in genome.elements}
    for variant in variants:
        info = [f"EFFECT={','.join(variant.effects)}", f"TYPE={','.join(variant.types)}"]
        if variant.element:
            info += [f"ELEMENT={variant.element}", f"LABEL={labels[variant.element]}"]
        if variant.match:
            info.append(f"MATCH={variant.match}")
        genotypes = [f"{first}|{second}" for first, second in variant.genotypes]
        yield "\t".join((variant.chrom, str(variant.start + 1), variant.name, variant.ref, ",".join(variant.alts),
                         ".", "PASS", ";".join(info), "GT", *genotypes))  # fmt: skip
