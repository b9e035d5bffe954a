"""Risks: a sign turned round, classes mixed up, text from a file that becomes markup, a page that loads from afar."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hyena_dna.output.box_chart import box_chart
from hyena_dna.output.score_report import Labels, rank_scores, write_score_report

COLUMNS: dict[str, list[Any]] = {
    "llr": [-5.0, -4.0, -3.0, 1.0, 2.0, -9.0],
    "llr_norm": [-1.0, float("nan"), -0.5, 0.1, 0.2, 0.0],
    "dist": [1.0, 2.0, 1.0, 0.1, 0.2, 0.0],
    "label": ["LOF", "LOF", "FUNC", "FUNC", "FUNC", "INT"],
    "group": ["<b>Nonsense", "<b>Nonsense", "Missense", "Missense", None, "Missense"],
}
FACTS = {
    "output": "out/scores.vcf.gz", "n_records": 6, "n_alleles": 8, "statuses": {"ok": 6, "symbolic": 2}, "flags": {},
    "settings": {"window": 1024, "sample": None}, "seconds": 1.5,
}  # fmt: skip


def test_low_likelihood_ranks_as_an_effect() -> None:
    ranks = rank_scores(COLUMNS, Labels("CLASS", "LOF", "FUNC"))
    assert ranks["-LLR"].auroc == 1.0
    # The allele without a normalised score is left out of that ranking alone.
    assert ranks["-LLR per base"].auroc == 1.0
    assert rank_scores(COLUMNS, Labels("CLASS", "FUNC", "LOF"))["-LLR"].auroc == 0.0
    # Without a negative value every other label counts, so that INT, the lowest score, counts against.
    assert rank_scores(COLUMNS, Labels("CLASS", "LOF"))["-LLR"].auroc == pytest.approx(0.75)
    assert rank_scores(COLUMNS, Labels("CLASS", "absent")) == {}


def test_the_page_shows_it_and_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_score_report(path, COLUMNS, FACTS, Labels("CLASS", "LOF", "FUNC"), "CONSEQUENCE")
    page = path.read_text("utf-8")
    assert "LOF against FUNC" in page
    assert "1.0000" in page
    assert "2 variants are LOF, 3 are FUNC" in page
    assert page.count("<svg") == 4
    assert "<b>Nonsense" not in page
    assert "&lt;b&gt;Nonsense" in page
    assert not re.search(r"(?:src|href)=|https?://", page)


@pytest.mark.parametrize("labels", [None, Labels("CLASS", "absent", "FUNC")])
def test_a_report_without_classes_or_scores(tmp_path: Path, labels: Labels | None) -> None:
    empty: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for columns in (COLUMNS, empty):
        write_score_report(tmp_path / "report.html", columns, FACTS, labels, "X")
        assert "AUROC</th>" not in (tmp_path / "report.html").read_text("utf-8")


def test_boxes_are_in_the_order_given() -> None:
    svg = box_chart({"two": [1.0, 2.0, 3.0], "one": [5.0]}, label="LLR")
    assert svg.index(">two<") < svg.index(">one<")
    assert "median 2, quartiles 1.5 and 2.5" in svg
