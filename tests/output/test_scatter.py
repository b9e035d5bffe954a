"""Scatter plots: classes that can be told apart, a page that needs nothing from elsewhere and runs no one's text."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyena_dna.output.scatter import Scatter, write_scatter_page, write_scatter_picture


def scatter(values: list[str | None] | None, names: list[str] | None = None) -> Scatter:
    count = 60 if values is None else len(values)
    points = np.random.default_rng(0).normal(size=(count, 2))
    names = names or [f"n{number}" for number in range(count)]
    return Scatter(points, ("UMAP 1", "UMAP 2"), names, [""] * count, values, "label", "A title", "how")


def page(subject: Scatter, folder: Path) -> str:
    write_scatter_page(subject, folder / "page.html")
    return (folder / "page.html").read_text("utf-8")


def legend(html: str) -> list[tuple[str, str, str]]:
    return re.findall(r'<i style="background:(#\w+)"></i>(.*?)<em>([\d,]+)</em>', html)


def codes(html: str) -> list[int]:
    packed = re.findall(r'bytes\("([A-Za-z0-9+/=]*)"\)', html)
    return list(base64.b64decode(packed[-1]))


def data(html: str) -> Any:
    found = re.search(r"const data = (\{.*?\}), colours = ", html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_a_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    html = page(scatter(["a", "b"] * 30), tmp_path)
    assert not re.search(r"https?:|//[a-z]+\.|<link|@import|src=|url\(", html)


def test_classes_are_ordered_by_size_and_none_is_lost(tmp_path: Path) -> None:
    html = page(scatter(["b"] * 5 + ["a"] * 9 + [None] * 2), tmp_path)
    entries = legend(html)
    assert [(name, count) for _, name, count in entries] == [("a", "9"), ("b", "5"), ("no label", "2")]
    assert codes(html) == [1] * 5 + [0] * 9 + [2] * 2
    assert len({colour for colour, _, _ in entries}) == 3


def test_many_classes_share_a_last_colour(tmp_path: Path) -> None:
    values: list[str | None] = [f"c{number}" for number in range(20) for _ in range(25 - number)]
    html = page(scatter(values), tmp_path)
    entries = legend(html)
    assert len(entries) == 12
    assert entries[-1][1] == "other"
    assert sum(int(count) for _, _, count in entries) == len(values)


def test_numbers_are_a_scale(tmp_path: Path) -> None:
    values: list[str | None] = [str(number / 3) for number in range(50)]
    entries = legend(page(scatter([*values, None]), tmp_path))
    assert entries[0][1].startswith("0 to")
    assert entries[-1][1:] == ("no label", "1")
    assert sum(int(count) for _, _, count in entries) == 51


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>\u2028"
    html = page(scatter([evil, "b", "b"], [evil, "x", "y"]), tmp_path)
    assert "<script>alert" not in html
    assert data(html)["names"][0] == evil
    assert data(html)["labels"][0] == evil


def test_points_lie_in_the_unit_square(tmp_path: Path) -> None:
    subject = scatter(None)
    html = page(subject, tmp_path)
    packed = re.findall(r'bytes\("([A-Za-z0-9+/=]*)"\)', html)
    found = np.frombuffer(base64.b64decode(packed[0]), "<f4").reshape(-1, 2)
    assert found.min() == 0
    assert found.max() == 1
    low, high = subject.points.min(0), subject.points.max(0)
    np.testing.assert_allclose(found, (subject.points - low) / (high - low), atol=1e-6)
    assert legend(html) == []


@pytest.mark.parametrize("values", [None, ["a", "b", None] * 20, [str(number) for number in range(60)]])
def test_a_picture_is_a_png_and_the_same_every_time(tmp_path: Path, values: list[str | None] | None) -> None:
    first, again = tmp_path / "a.png", tmp_path / "b.png"
    for path in (first, again):
        write_scatter_picture(scatter(values), path)
    assert first.read_bytes().startswith(b"\x89PNG")
    assert first.read_bytes() == again.read_bytes()
