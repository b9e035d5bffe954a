"""Risks: order and duplicates judged differently when the records are cut into chunks."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hyena_dna.genome.vcf_header import FIXED_COLUMNS, parse_header
from hyena_dna.inference.run_counts import InfoColumns, RunCounts
from hyena_dna.output.score_fields import AlleleScore, ScoredRecord

HEADER = parse_header([b"##fileformat=VCFv4.2", b"\t".join(FIXED_COLUMNS)], "in.vcf")
SITES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4), st.sampled_from("CG")), max_size=12)


def record(chrom: str, pos: int, alt: str, info: bytes = b".") -> ScoredRecord:
    fields = [chrom.encode(), b"%d" % pos, b".", b"A", alt.encode(), b".", b".", info]
    return ScoredRecord(0, fields, [alt], [AlleleScore("ok|edge_padded", -float(pos), 0.0, 0.0, 0.0, 0.0, 0.0)])


def count(sites: list[tuple[str, int, str]]) -> RunCounts:
    counts = RunCounts(records=len(sites))
    counts.add([record(*site) for site in sites], HEADER, 3, None)
    return counts


# A chunk that ends at the position where it began, after others.
@example([("b", 1, "C"), ("b", 1, "C"), ("a", 1, "C"), ("b", 1, "G"), ("b", 1, "C")], [1, 4])
@given(SITES, st.lists(st.integers(0, 12), max_size=4))
@settings(max_examples=400, deadline=None)
def test_chunks_add_up_to_the_whole(sites: list[tuple[str, int, str]], cuts: list[int]) -> None:
    places = [site[:2] for site in sites]
    blocks = [chrom for i, (chrom, _) in enumerate(places) if i == 0 or places[i - 1][0] != chrom]
    in_order = len(set(blocks)) == len(blocks) and all(a[0] != b[0] or a[1] <= b[1] for a, b in pairwise(places))
    duplicates = 0
    run: list[tuple[str, int, str]] = []
    for i, site in enumerate(sites):
        run = [*run, sites[i - 1]] if i and places[i - 1] == places[i] else []
        duplicates += site in run
    total = RunCounts()
    borders = [0, *sorted(min(cut, len(sites)) for cut in cuts), len(sites)]
    for start, end in pairwise(borders):
        total.extend(RunCounts.from_json(json.loads(json.dumps(count(sites[start:end]).to_json()))), 3)
    for counts in (count(sites), total):
        assert counts.in_order == in_order
        assert counts.duplicates == duplicates
        assert counts.statuses["ok"] == counts.flags["edge_padded"] == len(sites)
    assert [entry[0] for entry in total.top] == sorted(-float(site[1]) for site in sites)[:3]
    assert list(total.undeclared.contigs) == list(dict.fromkeys(blocks))


def test_values_of_each_allele_are_kept_for_the_report() -> None:
    counts = RunCounts()
    one = record("a", 1, "C", b"EFFECT=x,y;KIND=p")
    scores = [one.scores[0], AlleleScore("ok", 7.0, 0.0, 0.0, 0.0, 0.0, 0.0)]
    counts.add([one._replace(alts=["C", "G"], scores=scores)], HEADER, 0, InfoColumns("EFFECT", "KIND"))
    counts.add([record("a", 2, "C")], HEADER, 0, InfoColumns("EFFECT", "KIND"))
    assert counts.columns["label"] == ["x", "y", None]
    assert counts.columns["group"] == ["p", "p", None]
    assert counts.columns["llr"] == [-1.0, 7.0, -2.0]
