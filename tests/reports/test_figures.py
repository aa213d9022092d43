"""Charts have the same bytes for the same numbers, and survive having nothing to show."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from audit.records import Colour, Estimate
from reports.figures import (
    CurvePoint,
    EffectPanel,
    EffectRow,
    FidelityBar,
    OverviewRow,
    Readers,
    curve_chart,
    effect_chart,
    fidelity_chart,
    overview_chart,
)

HOSTILE = "<script>alert(1)</script> $x^2$"
PANEL = EffectPanel(
    "Topic", (EffectRow(HOSTILE, Estimate(1.0, 0.5, 1.5), confirmed=True),), Estimate(0.4, None, None), 0.3
)
BARE = EffectPanel("Distinction", (), Estimate(0.4, 0.1, 0.7), None)


def draw(panels: tuple[EffectPanel, ...] = (PANEL, BARE)) -> str:
    """Return an effect chart."""
    return str(effect_chart(panels, chart_id="c", title="Effects & more", description="words"))


def test_equal_numbers_give_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a clock nor the user's matplotlib settings reach the drawing."""
    first = draw()
    monkeypatch.setitem(mpl.rcParams, "font.size", 30.0)
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 9.0)
    assert draw() == first


def test_labels_are_text_and_nothing_else() -> None:
    """A hostile label is escaped, and a dollar sign starts no formula."""
    root = ET.fromstring(draw())  # noqa: S314 - made one line above
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert HOSTILE in [element.text for element in root.iter() if element.tag.endswith("}text")]


def test_no_style_and_no_foreign_id() -> None:
    """No `style` is left for the policy to refuse, and every id begins with the chart's own."""
    root = ET.fromstring(draw())  # noqa: S314 - made one line above
    assert not [element for element in root.iter() if "style" in element.attrib or element.tag.endswith("}style")]
    assert all(element.attrib["id"].startswith("c") for element in root.iter() if "id" in element.attrib)


def test_a_chart_without_features_says_so() -> None:
    """An empty panel is drawn with the reason, not dropped."""
    assert "no feature was selected" in draw((BARE,))


def test_other_charts_survive_missing_values() -> None:
    """None is left out of the drawing; a value above every limit stays inside."""
    rows = (OverviewRow("a", (Readers(Estimate(0.7, None, None), None, None), None)),)
    assert "not analysed" in overview_chart(rows, ("one", "two"), chart_id="o", title="t", description="d")
    bars = (FidelityBar("all", 3.2, Colour.RED), FidelityBar("c", 0.0, Colour.GREEN))
    assert "red" in fidelity_chart(bars, green=0.2, amber=0.4, chart_id="f", title="t", description="d")


def test_other_libraries_namespaces_do_not_rename_elements() -> None:
    """A prefix that something else registered for SVG in this process must not turn `<svg>` into text."""
    known = dict(ET._namespace_map)
    ET.register_namespace("rival", "http://www.w3.org/2000/svg")
    try:
        assert draw().startswith("<svg ")
        assert "rival:" not in draw()
    finally:
        ET._namespace_map.clear()
        ET._namespace_map.update(known)


def test_a_curve_ends_its_scale_at_one() -> None:
    """A wild first point does not flatten the rest: the scale stops where the SAE is no better than the average."""
    points = (CurvePoint(1_000_000, 9.0, None), CurvePoint(2_000_000, 0.5, 0.4), CurvePoint(4_000_000, 0.3, None))
    svg = str(curve_chart(points, chart_id="v", title="t", description="d"))
    labels = [str(e.text) for e in ET.fromstring(svg).iter() if e.tag.endswith("}text")]  # noqa: S314 - made above
    heights = [float(label) for label in labels if len(label.partition(".")[2]) == 2]
    assert max(heights) == 1.0
    assert {"plain text", "chat"} <= set(labels)


def test_charts_on_one_span_share_their_scale() -> None:
    """Two instruments' charts can be compared by eye: the same value stands at the same place."""
    wide = str(effect_chart((BARE,), span=(-4.0, 4.0), chart_id="a", title="t", description="d"))
    narrow = str(effect_chart((BARE,), chart_id="a", title="t", description="d"))
    assert "\N{MINUS SIGN}4" in wide
    assert "\N{MINUS SIGN}4" not in narrow
