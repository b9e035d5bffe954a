from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hyena_dna.output.report import build_report, write_report

RECORD: dict[str, Any] = {
    "name": "tiny <1k>", "status": "finished", "command": ["hyena-dna", "pretrain", "<script>alert(1)</script>"],
    "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:10:00+00:00", "versions": {"torch": "2.13.0"},
    "step": 40, "total_steps": 40, "tokens": 4000, "parameters": 436096, "seed": 1, "device": "CPU", "devices": 1,
    "precision": "fp32", "threads": 2, "seconds": {"training": 90.0, "validation": 3.0, "markov": 1.0},
    "pieces": [{"from_step": 0, "to_step": 25}, {"from_step": 25, "to_step": 40}],
    "inputs": [{"path": "/data/worm.fa.gz", "size": 31_000_000}], "config": {"optim": {"lr": 6e-4}},
    "data": {
        "train": {"contigs": ["chrI", "chr<II>"], "bases": 86_000_000},
        "validation": {"contigs": ["chrIII"], "bases": 13_000_000}, "test": {"contigs": [], "bases": 0},
        "rule": "chrIII, as asked", "dropped": [], "window": 1024, "validation_windows": 512, "token_store": "the CPU",
    },
}  # fmt: skip


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag in ("script", "img", "link", "iframe"):
            self.found.append(tag)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run.json").write_text(json.dumps(RECORD))
    rows = ["step,tokens,window,loss,lr,grad_norm,val_loss,val_perplexity,val_bits_per_base"]
    for step in range(1, 41):
        rows.append(f"{step},{step * 100},1024,{2 - step / 50},0.001,0.5,,,")
        if step % 20 == 0:
            rows.append(f"{step},{step * 100},,,,,1.3,3.669,{2.0 - step / 200}")
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "speed.csv").write_text("step,tokens,seconds,tokens_per_s\n10,1000,1.0,1000\n20,2000,2.0,1000\n")
    return tmp_path


def _markov(run: Path, bits: list[float]) -> None:
    (run / "markov.json").write_text(json.dumps({"bits_per_base": bits, "seconds": 1.0, "data": {}}))


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(run: Path) -> None:
    _markov(run, [1.99, 1.95])
    page = write_report(run).read_text("utf-8")
    parser = _Links()
    parser.feed(page)
    assert parser.found == []
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "chr&lt;II&gt;" in page


@pytest.mark.parametrize(
    ("bits", "verdict"),
    [
        ([1.99, 1.95, 1.9], "Yes: the network is 0.1000 bits per base better"),
        ([1.99, 1.85, 1.7], "beats the Markov models below order 2 and is 0.1000 bits per base behind the best one"),
        ([1.99, 1.75, 1.7], "below order 1 and"),
        ([1.99, 1.7, 1.9], "of order 0, 2"),
        ([1.75, 1.70], "No: base composition alone predicts better"),
    ],
)
def test_the_verdict_is_what_the_numbers_say(run: Path, bits: list[float], verdict: str) -> None:
    _markov(run, bits)
    assert verdict in build_report(run)


def test_every_order_and_setting_is_in_the_tables(run: Path) -> None:
    _markov(run, [2.0 - order / 100 for order in range(13)])
    page = build_report(run)
    for order in range(13):
        assert f"Markov, order {order}<" in page
    assert "network</td><td>1.8000" in page
    assert "optim.lr" in page
    assert "steps 0 to 25; steps 25 to 40" in page
    assert page.count("<svg") == 6


def test_a_run_that_stopped_early_has_a_report_too(run: Path) -> None:
    header = (run / "metrics.csv").read_text().splitlines()[0]
    (run / "metrics.csv").write_text(header + "\n")
    (run / "speed.csv").unlink()
    record = RECORD | {"status": "stopped", "step": 0, "tokens": 0, "ended": None,
                       "seconds": {"training": 0.0, "validation": 0.0, "markov": 0.0}}  # fmt: skip
    (run / "run.json").write_text(json.dumps(record))
    page = build_report(run)
    assert "can be resumed" in page
    assert "No Markov models yet" in page
    assert "Nothing was logged yet" in page
