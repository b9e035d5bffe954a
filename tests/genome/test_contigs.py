"""Choosing contigs: the wrong default trains on haplotype copies, a typo trains on everything."""

from __future__ import annotations

import pytest

from hyena_dna.errors import InputError
from hyena_dna.genome.contigs import contig_hint, select_contigs

HG38 = [
    "chr1",
    "chr6",
    "chrM",
    "chr1_KI270706v1_random",
    "chrUn_KI270302v1",
    "chr6_GL000250v2_alt",
    "chr1_KN196472v1_fix",
    "chrUn_KN707606v1_decoy",
    "HLA-A*01:01:01:01",
    "chrEBV",
]


@pytest.mark.parametrize(
    "name",
    [
        "chr6_GL000250v2_alt",
        "chr1_KN196472v1_fix",
        "chrUn_KN707606v1_decoy",
        "HLA-A*01:01:01:01",
        "HLA-DRB1*15:03:01:02",
        "chrEBV",
        "chr6_cox_hap2",
        "hg19_chr17_ctg5_hap1",
        "NC_007605",
        "NC_007605.1",
        "hs37d5",
        "hs38d1",
        "HSCHR6_MHC_APD_CTG1",
        "HG183_PATCH",
        "CHR_HSCHR1_1_CTG3",
    ],
)
def test_copies_and_foreign_contigs_are_left_out_by_default(name: str) -> None:
    selection = select_contigs(["chr1", name])
    assert selection.kept == ["chr1"]
    assert selection.dropped == [name]


@pytest.mark.parametrize(
    "name",
    [
        "1",
        "X",
        "MT",
        "chrM",
        "chrUn_gl000211",
        "chr1_gl000191_random",
        "GL000191.1",
        "KI270706.1",
        "chrI",
        "scaffold_9",
    ],
)
def test_primary_and_unplaced_contigs_stay(name: str) -> None:
    assert select_contigs([name]).kept == [name]


def test_broad_pattern_does_not_bring_haplotype_copies_back() -> None:
    assert select_contigs(HG38, ["chr6*"]).kept == ["chr6"]
    assert select_contigs(HG38, ["*"]).kept == HG38[:5]


def test_what_is_named_is_kept() -> None:
    assert select_contigs(HG38, ["chr6_*_alt"]).kept == ["chr6_GL000250v2_alt"]
    assert select_contigs(HG38, ["chr1", "chrEBV"]).kept == ["chr1", "chrEBV"]


def test_star_in_a_name_is_a_letter() -> None:
    names = ["HLA-A*01:01:01:01", "HLA-A*01:01:01:01-HLA-A*01:01:01:01"]
    assert select_contigs(names, ["HLA-A*01:01:01:01"]).kept == names[:1]


def test_exclude_wins_and_order_is_the_assemblys() -> None:
    selection = select_contigs(["chr2", "chr1", "chr3"], ["chr3", "chr2", "chr1"], ["chr1"])
    assert selection.kept == ["chr2", "chr3"]
    assert selection.dropped == ["chr1"]


@pytest.mark.parametrize(
    ("include", "exclude", "message"),
    [
        (["1"], [], "no contig fits '1' (the genome calls it 'chr1'"),
        (["chr66"], [], "the nearest names are 'chr6'"),
        ([], ["chrMT"], "no contig fits 'chrMT' (the genome calls it 'chrM'"),
        (["CHR1"], [], "no contig fits 'CHR1'"),
        (["chr1"], ["chr*"], "no contig of 10 is left"),
    ],
)
def test_pattern_without_contig_is_an_error(include: list[str], exclude: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        select_contigs(HG38, include, exclude)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [("chr1", ["1"], "'1'"), ("MT", ["chrM"], "'chrM'"), ("chrM", ["MT"], "'MT'"), ("x", [], "no contigs")],
)
def test_hint_names_the_other_custom(name: str, known: list[str], hint: str) -> None:
    assert hint in contig_hint(name, known)


def test_haplotypes_of_the_real_human_file_are_left_out(shared_data: object) -> None:
    with open(f"{shared_data}/human/human_contigs.fa.gz.fai", encoding="utf-8") as handle:
        names = [line.split("\t")[0] for line in handle]
    selection = select_contigs(names)
    assert len(selection.dropped) == 9
    assert all("_hap" in name for name in selection.dropped)
    assert len(select_contigs(names, ["hg19_chr6_*"]).kept) == 7
