"""Drawings of interventions have the same bytes for the same numbers, and survive what was not measured."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from audit.records import EdgeKind, Estimate, NodeKind
from reports.causal_figures import (
    DosePanel,
    DosePoint,
    MatrixCell,
    NetworkEdge,
    NetworkNode,
    dose_chart,
    matrix_chart,
    network_chart,
)

HOSTILE = "<script>alert(1)</script> $x^2$"
BARE = Estimate(0.1, None, None)


def labels(svg: str) -> list[str]:
    """Return the texts of a drawing."""
    return [str(e.text) for e in ET.fromstring(svg).iter() if e.tag.endswith("}text")]  # noqa: S314 - made by us


def matrix() -> str:
    """Return a matrix of three features with one claim."""
    cells = (MatrixCell(0, 1, 0.34, claimed=True), MatrixCell(2, 1, -0.21, claimed=False))
    return str(matrix_chart((HOSTILE, "211", "7"), cells, chart_id="m", title="t", description="d"))


def network() -> str:
    """Return a network with every kind of node and of edge that is drawn."""
    nodes = (
        NetworkNode("c", NodeKind.CONCEPT, 0, HOSTILE),
        NetworkNode("f", NodeKind.FEATURE, 1, "feature 1"),
        NetworkNode("g", NodeKind.FEATURE, 1, "feature 2"),
        NetworkNode("e", NodeKind.ERROR, 1, "error of the instrument"),
        NetworkNode("o", NodeKind.OUTCOME, 2, "answer " * 30),
    )
    edges = (
        NetworkEdge("c", "f", EdgeKind.CONFIRMED, ""),
        NetworkEdge("f", "o", EdgeKind.CAUSAL, "+0.31"),
        NetworkEdge("f", "g", EdgeKind.REDUNDANCY, ""),
        NetworkEdge("e", "o", EdgeKind.ERROR, "52.1%"),
    )
    return str(network_chart(nodes, edges, ("concept", "layer 3", "answer"), chart_id="n", title="t", description="d"))


def doses(shams: tuple[float, ...] = (-0.1, 0.2)) -> str:
    """Return two doses of one suppression, one of them without intervals."""
    points = (
        DosePoint(0.5, Estimate(-0.2, -0.3, -0.1), shams, BARE, BARE, 0.01, 0.02),
        DosePoint(1.0, BARE, shams, Estimate(0.02, 0.01, 0.03), BARE, 0.01, 0.02),
    )
    return str(dose_chart((DosePanel(HOSTILE, points),), chart_id="s", title="t", description="d"))


@pytest.mark.parametrize("draw", [matrix, network, doses])
def test_equal_numbers_give_equal_bytes(draw: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a drawing."""
    assert callable(draw)
    first = draw()
    monkeypatch.setitem(mpl.rcParams, "font.size", 30.0)
    assert draw() == first


@pytest.mark.parametrize("draw", [matrix, network, doses])
def test_labels_are_text_and_ids_are_own(draw: object) -> None:
    """A hostile label starts no element, no formula and no style; ids begin with the chart's."""
    assert callable(draw)
    svg = draw()
    root = ET.fromstring(svg)  # noqa: S314 - made one line above
    assert not [e for e in root.iter() if e.tag.endswith("script") or "style" in e.attrib]
    assert "alert(1)" in "".join(labels(svg))
    prefix = root.attrib["id"]
    assert all(e.attrib["id"].startswith(prefix) for e in root.iter() if "id" in e.attrib)


def test_a_cell_carries_its_sign_as_text() -> None:
    """Colour alone says nothing: each measured cell has its number, and the others have none."""
    numbers = [text for text in labels(matrix()) if text.startswith(("+", "\N{MINUS SIGN}"))]
    assert sorted(numbers) == ["+0.34", "\N{MINUS SIGN}0.21"]


def test_the_key_names_what_is_drawn_and_nothing_else() -> None:
    """An edge that is not there has no entry."""
    drawn = labels(network())
    assert "the instrument's error, with its share" in drawn
    assert "redundancy of a pair (intervention)" in drawn
    assert "changes a later feature (intervention)" not in drawn
    assert {"+0.31", "52.1%"} <= set(drawn)


def test_no_band_where_no_random_features_were_held_down() -> None:
    """The band has an entry in the key only where it was measured."""
    band = "random features, from smallest to largest"
    assert band in labels(doses())
    assert band not in labels(doses(shams=()))
