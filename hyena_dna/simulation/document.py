"""The README of an example set: every file, its coordinates, and what is true of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["readme"]

_TEXT = """\
# A simulated genome with known truth

Made by `hyena-dna simulate -o DIR --seed {seed} --length {length} --contigs {contigs}` (generator version
{version}). Every sequence is random: none is from an organism, and none is anybody's data. The same command gives the
same bytes with the same versions of numpy and htslib.

BED, TSV and JSON are 0-based half-open; VCF and SAM text are 1-based.

| file | content |
|---|---|
| `genome.fa.gz`, `.fai`, `.gzi` | {length} bp on {contigs} contigs, bgzipped; repeats in lower case, gaps as N |
| `promoters.bed` | BED6, the promoter task: label `promoter` or `background` in column 4 |
| `elements.bed` | BED6, the same and enhancers with theirs: `promoter`, `enhancer`, `background` |
| `elements.tsv` | the same with header: chrom, start, end, label, split, strand, id, grammar, tss, gene |
| `motifs.bed.gz`, `.tbi` | every planted motif; name is ELEMENT:MOTIF |
| `genes.bed` | BED12, {genes} genes; the thick part is the coding sequence with start and stop codon |
| `repeats.bed` | dispersed repeats by family and tandem repeats by unit: the lower-case bases |
| `variants.vcf.gz`, `.tbi` | {records} records, phased genotypes of samples {samples}; INFO/EFFECT per allele |
| `reads.bam`, `.bai` | {reads} records of sample {sample} that start in {region} (0-based), depth about {depth:g} |
| `splits.json` | contigs for train, valid and test |
| `truth.json` | seed, parameters, counts, motifs, grammars, repeat consensus sequences |

## Genome
Isochores of five GC levels, CpG depleted by deamination outside islands. Islands lie at elements and decoys alike.
Genes have human codon usage, 1 to 4 exons, GT-AG introns, an AATAAA signal, and lie on both strands downstream of a
promoter; their transcripts start at its initiator. Element density is far above that of a real genome, so that a small
genome has enough examples.

## Grammar
An element is {element_length} bp. It satisfies all motif pairs of its class: the second motif follows the first, on
the element's strand, at the given distance from start to start.

| class | first | second | distance (bp) |
|---|---|---|---|
{pairs}

Decoys (`background`) carry the same motifs on one strand at other distances or in the other order, and satisfy no
pair on either strand, flanks included. So composition does not tell promoters from decoys, and the rule does. Windows
up to {window} bp, centred on an element, touch no other element. `elements.tsv` says of each decoy whose motifs it has
(column `grammar`). Motifs, 5' to 3': {motifs}. {accessory}

| label | count |
|---|---|
{elements}

## Variants
Parsimonious, left-aligned, at least 10 bp apart, at most one in an element. The effect of every alternative allele was
checked by reading the grammar on the changed sequence:

| EFFECT | alleles | meaning |
|---|---|---|
{effects}

Substitutions that make or break a motif have a neutral control (INFO/MATCH, both ways): the same change in the same
trinucleotide, in another element or decoy, outside its motifs. Neutral variants without INFO/ELEMENT lie between
features.

## Reads
Single-end, {read_length} bp, both strands, drawn evenly from the two haplotypes of {sample} with all its variants
applied; alignments are the true ones. Errors are substitutions at the rate that the base quality (37, 25 or 11) says,
about 0.3 % in all. Some fragments are duplicates, fail quality control, have a secondary or a supplementary record, end
in adapter (soft-clipped) or are unmapped; mapping quality is low in repeats. Tags: HP haplotype (1 or 2), NM, SA, and
the truth: ZO, 0-based offset of the first aligned base on that haplotype of the contig; ZE, sequencing errors.
"""


def readme(truth: Mapping[str, Any]) -> str:
    """The text, without a final newline.

    Args:
        truth: content of `truth.json`.
    """
    parameters, region = truth["parameters"], truth["read_region"]
    pairs = [
        f"| {label} | {pair['first']} | {pair['second']} | {pair['distance'][0]}-{pair['distance'][1]} |"
        for label, grammar in truth["grammars"].items()
        for pair in grammar
    ]
    accessory = [
        f"Elements and decoys of class {label} also have {', '.join(names)}, anywhere."
        for label, names in truth["accessory_motifs"].items()
        if names
    ]
    return _TEXT.format(
        seed=truth["seed"],
        length=truth["length"],
        contigs=len(truth["contigs"]),
        version=truth["generator"]["version"],
        genes=truth["genes"],
        records=truth["records"],
        reads=truth["reads"],
        samples=" and ".join(parameters["samples"]),
        sample=parameters["samples"][0],
        region=f"{region['chrom']}:{region['start']}-{region['end']}",
        depth=parameters["read_depth"],
        read_length=parameters["read_length"],
        element_length=parameters["element_length"],
        window=parameters["window"],
        pairs="\n".join(pairs),
        motifs=", ".join(f"{name} {consensus}" for name, consensus in truth["motifs"].items()),
        accessory=" ".join(accessory),
        elements="\n".join(f"| {label} | {count} |" for label, count in truth["elements"].items()),
        effects="\n".join(
            f"| {effect} | {truth['variants'].get(effect, 0)} | {meaning} |"
            for effect, meaning in truth["effects"].items()
        ),
    ).rstrip("\n")
