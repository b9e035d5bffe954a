from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dna.output.charts import Rule, Series, line_chart

FINITE = st.floats(-1e12, 1e12, allow_nan=False)


def _svg(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text[text.index("<svg") :])


@settings(max_examples=60, deadline=None)
@given(points=st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=30), rules=st.lists(FINITE, max_size=2))
def test_any_numbers_give_a_drawing_inside_its_box(points: list[tuple[float, float]], rules: list[float]) -> None:
    # One point, equal values and huge ranges are what divides an axis by zero.
    points = sorted(points)
    series = Series("s", [x for x, _ in points], [y for _, y in points], points=True)
    svg = _svg(line_chart([series], x_label="x", y_label="y", rules=[Rule("r", y) for y in rules]))
    for circle in svg.iter("circle"):
        assert 0 <= float(circle.attrib["cx"]) <= 760
        assert 0 <= float(circle.attrib["cy"]) <= 300
    assert len(list(svg.iter("circle"))) == len(points)


def test_values_land_where_the_axis_says() -> None:
    svg = _svg(line_chart([Series("s", [0, 5, 10], [1.0, 2.0, 3.0])], x_label="x", y_label="y"))
    line = next(svg.iter("polyline"))
    (x0, y0), (x1, y1), (x2, y2) = (map(float, pair.split(",")) for pair in line.attrib["points"].split())
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2) != 0
    labels = {
        text.text: float(text.attrib["y"]) for text in svg.iter("text") if text.attrib.get("text-anchor") == "end"
    }
    assert labels["2"] == pytest.approx(y1 + 4, abs=0.2)


def test_long_series_are_thinned_without_losing_their_mean() -> None:
    n = 10_000
    text = line_chart([Series("s", list(range(n)), [i % 2 for i in range(n)])], x_label="x", y_label="y")
    assert 100 < len(next(_svg(text).iter("polyline")).attrib["points"].split()) <= 600


def test_outliers_are_cut_at_the_limit() -> None:
    text = line_chart([Series("s", [0, 1, 2], [1e9, 1.0, 2.0])], x_label="x", y_label="y", y_limit=3.0)
    ticks = re.findall(r'text-anchor="end">([^<]+)<', text)
    assert max(float(tick) for tick in ticks) <= 3.5


def test_nothing_to_draw_is_said_and_names_are_escaped() -> None:
    assert "<svg" not in line_chart([Series("s", [], [])], x_label="x", y_label="y")
    text = line_chart([Series("<b>", [0, 1], [0, 1]), Series("c", [0], [0])], x_label="<x>", y_label="&")
    assert "<b>" not in text
    assert "<x>" not in text
    _svg(text)
