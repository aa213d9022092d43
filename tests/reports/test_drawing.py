"""Drawings made mark by mark: values stand where the scale says, and nothing in a label is more than text."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.records import Colour, Estimate
from reports.drawing import Drawing, Scale, Shape, nice_ticks, text_width
from reports.figures import EffectPanel, EffectRow, FidelityBar, effect_chart, fidelity_chart

SVG = "{http://www.w3.org/2000/svg}"


def parsed(markup: str) -> ET.Element:
    """Return a drawing as elements."""
    return ET.fromstring(markup)  # noqa: S314 - made by this package


def starts(path: str) -> list[float]:
    """Return the horizontal place at which each mark or line of a path begins."""
    return [float(x) for x in re.findall(r"M(-?[\d.]+) ", path)]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 9))
def test_ticks_are_few_and_between_the_ends(low: float, length: float, most: int) -> None:
    """Rising, evenly spaced, at most as many as there is room for, and never outside."""
    ticks = nice_ticks(low, low + length, most=most)
    slack = 1e-6 * length
    assert len(ticks) <= most
    assert all(low - slack <= tick <= low + length + slack for tick in ticks)
    gaps = [after - before for before, after in pairwise(ticks)]
    assert all(gap == pytest.approx(gaps[0], abs=slack) and gap > 0 for gap in gaps)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)), (-3.1, 4.2, (-2, 0, 2, 4)), (0, 0.05, (0, 0.01, 0.02, 0.03, 0.04, 0.05))],
)
def test_ticks_are_round(low: float, high: float, expected: tuple[float, ...]) -> None:
    """Steps are 1, 2 or 5 times a power of ten."""
    assert nice_ticks(low, high) == expected


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (0, float("nan")), (0, float("inf"))])
def test_no_scale_is_an_error(low: float, high: float) -> None:
    """Ends that make no scale would put every mark in one place, or nowhere."""
    with pytest.raises(ValueError, match="no scale"):
        nice_ticks(low, high)


def test_widths_are_those_of_the_font() -> None:
    """Wide letters take more room than narrow ones, and size counts."""
    assert text_width("WWW", 8) > text_width("iii", 8)
    assert text_width("ab", 16) == 2 * text_width("ab", 8)
    assert text_width("\N{CJK UNIFIED IDEOGRAPH-4E00}", 8) == text_width("W", 8)


def test_every_effect_is_drawn_where_its_value_is() -> None:
    """Two features and the probe on one scale: distances on paper are as the values'."""
    rows = (
        EffectRow("a", Estimate(1.0, 0.5, 1.5), confirmed=True),
        EffectRow("b", Estimate(3.0, 2.5, 3.5), confirmed=True),
        EffectRow("c", Estimate(2.0, None, None), confirmed=False),
    )
    panel = EffectPanel("Topic", rows, Estimate(0.0, None, None), None)
    root = parsed(str(effect_chart((panel,), span=(0.0, 4.0), chart_id="c", title="t", description="d")))
    paths = [element for element in root.iter(f"{SVG}path") if element.get("fill") != "none"]
    filled = next(p for p in paths if p.get("fill") == "#0072b2" and len(starts(str(p.get("d")))) == 2)
    opened = next(p for p in paths if p.get("fill") == "#ffffff" and p.get("stroke") == "#0072b2")
    (one, three), (two, *_) = starts(str(filled.get("d"))), starts(str(opened.get("d")))
    assert two == pytest.approx((one + three) / 2, abs=0.11)
    whiskers = next(
        p for p in root.iter(f"{SVG}path") if p.get("stroke") == "#0072b2" and p.get("stroke-width") == "1.3"
    )
    ends = re.findall(r"M([\d.]+) [\d.]+L([\d.]+) ", str(whiskers.get("d")))
    assert len(ends) == 2
    assert float(ends[0][1]) - float(ends[0][0]) == pytest.approx((three - one) / 2, abs=0.11)


def test_bars_are_as_long_as_their_values_and_hatched_by_colour() -> None:
    """Twice the value is twice the length, and the colours differ in greyscale."""
    bars = (FidelityBar("a", 0.1, Colour.GREEN), FidelityBar("b", 0.2, Colour.AMBER), FidelityBar("c", 0.4, Colour.RED))
    root = parsed(str(fidelity_chart(bars, green=0.2, amber=0.4, chart_id="f", title="t", description="d")))
    drawn = [r for r in root.iter(f"{SVG}rect") if r.get("stroke") is not None]
    lengths = [float(str(rect.get("width"))) for rect in drawn]
    assert lengths == pytest.approx([lengths[0], 2 * lengths[0], 4 * lengths[0]], abs=0.2)
    assert len({str(rect.get("fill")) for rect in root.iter(f"{SVG}rect") if "url(" in str(rect.get("fill"))}) == 2
    assert all(str(e.get("id")).startswith("f") for e in root.iter() if e.get("id") is not None)


def test_nothing_to_draw_draws_nothing() -> None:
    """No empty path is written, and a scale runs from end to end."""
    drawing = Drawing("n", height=10)
    drawing.lines([], colour="#000000", width=1)
    drawing.marks([], shape=Shape.CROSS, colour="#000000")
    assert not list(parsed(drawing.markup(title="t", description="d")).iter(f"{SVG}path"))
    scale = Scale(-1, 1, 10, 100)
    assert (scale(-1), scale(0), scale(1), scale.end) == (10, 60, 110, 110)
