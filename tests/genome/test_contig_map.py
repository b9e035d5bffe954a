"""Risks: a contig silently taken for another, or a name that has a translation not found."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyena_dna.errors import InputError
from hyena_dna.genome.contig_map import ContigMap, load_contig_map

UCSC = ["chr1", "chr20", "chrM", "chr1_KI270706v1_random", "chrUn_KI270302v1", "chrUn_gl000220"]
ENSEMBL = ["1", "20", "MT", "KI270706.1", "KI270302.1"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("20", "chr20"),
        ("chr20", "chr20"),
        ("MT", "chrM"),
        ("M", "chrM"),
        ("KI270706.1", "chr1_KI270706v1_random"),
        ("KI270706.2", None),
        ("GL000220.1", "chrUn_gl000220"),
        ("21", None),
        ("random", None),
    ],
)
def test_names_become_those_of_ucsc(name: str, found: str | None) -> None:
    assert load_contig_map("ucsc", UCSC)(name) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [("chr20", "20"), ("chrM", "MT"), ("chrUn_KI270302v1", "KI270302.1"), ("1", "1"), ("chrX", None)],
)
def test_names_become_those_of_ensembl(name: str, found: str | None) -> None:
    assert load_contig_map("ensembl", ENSEMBL)(name) == found


def test_without_a_map_nothing_is_translated() -> None:
    names = ContigMap({}, UCSC)
    assert (names("20"), names("chr20"), names.changed) == (None, "chr20", {})


def test_translations_are_reported() -> None:
    names = load_contig_map("ucsc", UCSC)
    assert names("1") == "chr1"
    assert names("chr20") == "chr20"
    assert names("77") is None
    assert names.changed == {"1": "chr1"}


def test_a_file_maps_names(tmp_path: Path) -> None:
    path = tmp_path / "map.tsv"
    path.write_text("# comment\nNC_000020.10\tchr20\n")
    names = load_contig_map(path, UCSC)
    assert (names("NC_000020.10"), names("chr1"), names("20")) == ("chr20", "chr1", None)


@pytest.mark.parametrize(
    ("text", "line"),
    [("20 chr20\n", 1), ("20\tchr99\n", 1), ("20\tchr20\n20\tchr1\n", 2), ("20\tchr20\textra\n", 1), ("\n", None)],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, line: int | None) -> None:
    path = tmp_path / "map.tsv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_contig_map(path, UCSC)
    assert caught.value.line == line
