"""The two charts of a difference: every row's shift between the models, and its size against its sureness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audit.records import Verdict
from reports.drawing import DASHES, WIDTH, Drawing, Scale, Shape, nice_ticks, text_width
from reports.figures import BLUE, GREY, VERMILION
from reports.language import _
from reports.svg import INK, QUIET, RULE

_TOP, _BOTTOM = 24.0, 196.0
_GAP = 26.0
_LABEL = 7.0
_LABEL_STEP = 8.0
_MARKED = 40
# Paler than the marks: hundreds of rows that did not change are the ground for those that did, in grey too.
_LINES = {Verdict.EQUIVALENT: "#9cc3dc", Verdict.INCONCLUSIVE: "#b9bec3", Verdict.CHANGED: VERMILION}
_LOOKS: dict[Verdict, tuple[Shape, str, bool]] = {
    Verdict.EQUIVALENT: (Shape.CIRCLE, BLUE, False),
    Verdict.INCONCLUSIVE: (Shape.CROSS, GREY, True),
    Verdict.CHANGED: (Shape.DIAMOND, VERMILION, True),
}


@dataclass(frozen=True, slots=True)
class Slope:
    """One row: what it measured on either model; a changed row carries the number that the table names it by."""

    base: float
    new: float
    verdict: Verdict
    label: str = ""


@dataclass(frozen=True, slots=True)
class SlopePanel:
    """The rows that share a unit."""

    title: str
    slopes: tuple[Slope, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the volcano: its effect in standard deviations, and how sure it is, as -log10 of q."""

    effect: float
    sureness: float
    verdict: Verdict
    label: str = ""


def slope_chart(panels: tuple[SlopePanel, ...], *, chart_id: str, title: str, description: str) -> Markup:
    """Return one line a row from the base's mean to the new model's, a panel a unit; changed rows stand out.

    Args:
        panels: at least one, each with at least one row.
        chart_id: the id of the element, and the beginning of every id in it.
        title: what a reader without eyes is told.
        description: where else the numbers are.
    """
    drawing = Drawing(chart_id, height=_BOTTOM + 34)
    room = (WIDTH - _GAP * (len(panels) - 1)) / len(panels)
    for number, panel in enumerate(panels):
        _slopes(drawing, panel, left=number * (room + _GAP), room=room)
    _key(drawing, lines=True)
    return drawing.markup(title=title, description=description)


def _slopes(drawing: Drawing, panel: SlopePanel, *, left: float, room: float) -> None:
    values = [value for slope in panel.slopes for value in (slope.base, slope.new)]
    low, high = _ends(min(values), max(values))
    ticks = nice_ticks(low, high, most=6)
    start = left + 10 + max(text_width(_tick(tick, ticks), _LABEL) for tick in ticks)
    end = left + room - 18
    height = Scale(low, high, _BOTTOM, _TOP + 14 - _BOTTOM)
    drawing.text(left, 9, panel.title, size=8.5, bold=True)
    for x, anchor, words in ((start, "start", _("base")), (end, "end", _("new"))):
        drawing.text(x, _TOP, words, size=_LABEL, colour=QUIET, anchor=anchor)
        drawing.lines([(x, height(low), x, height(high))], colour=QUIET, width=0.8)
    for tick in ticks:
        drawing.lines([(start, height(tick), end, height(tick))], colour=RULE, width=0.4)
        drawing.text(start - 6, height(tick) + 2.5, _tick(tick, ticks), size=_LABEL, colour=QUIET, anchor="end")
    for verdict, (shape, colour, filled) in _LOOKS.items():
        own = [slope for slope in panel.slopes if slope.verdict is verdict]
        width = 1.4 if verdict is Verdict.CHANGED else 0.5
        # Lines that fall onto one place at a tenth of a point are one line.
        drawn = dict.fromkeys((round(height(slope.base), 1), round(height(slope.new), 1)) for slope in own)
        drawing.lines([(start, base, end, new) for base, new in drawn], colour=_LINES[verdict], width=width)
        ends = dict.fromkeys(
            place for base, new in drawn for place in ((start, float(round(base))), (end, float(round(new))))
        )
        # More marks than these are a bar; the lines say the same.
        if verdict is Verdict.CHANGED or len(own) <= _MARKED:
            drawing.marks(ends, shape=shape, colour=colour, filled=filled)
    _labels(drawing, [(height(slope.new), slope.label) for slope in panel.slopes if slope.label], x=end + 5)


def volcano_chart(
    points: tuple[Point, ...], *, limit: float, margin: float, chart_id: str, title: str, description: str
) -> Markup:
    """Return every row's effect against its sureness, with the limit of q and the margin of equivalence.

    Args:
        points: at least one.
        limit: -log10 of the q up to which a row may be called changed.
        margin: of equivalence, in standard deviations.
        chart_id: the id of the element, and the beginning of every id in it.
        title: what a reader without eyes is told.
        description: where else the numbers are.
    """
    drawing = Drawing(chart_id, height=_BOTTOM + 52)
    reach = 1.08 * max(2.2 * margin, *(abs(point.effect) for point in points))
    most = 1.12 * max(1.6 * limit, *(point.sureness for point in points))
    ticks = nice_ticks(0, most, most=6)
    start = 10 + max(text_width(_tick(tick, ticks), 7.5) for tick in ticks)
    across = Scale(-reach, reach, start, WIDTH - start - 10)
    up = Scale(0, most, _BOTTOM, _TOP - _BOTTOM)
    drawing.text(0, 11, _("how sure: q of 0.1, 0.01, 0.001, … is 1, 2, 3, …"), size=7.5, colour=QUIET)
    drawing.axis(
        across,
        _BOTTOM,
        ticks=nice_ticks(-reach, reach, most=9),
        label=_("mean difference, new minus base, in standard deviations over scenarios"),
    )
    for tick in ticks:
        drawing.lines([(start, up(tick), across.end, up(tick))], colour=RULE, width=0.4)
        drawing.text(start - 4, up(tick) + 2.6, _tick(tick, ticks), size=7.5, colour=QUIET, anchor="end")
    drawing.lines([(across(0), _TOP, across(0), _BOTTOM)], colour=QUIET, width=0.8)
    drawing.lines([(start, up(limit), across.end, up(limit))], colour=INK, width=0.8, dashes=DASHES)
    beyond = [across(-margin), across(margin)]
    drawing.lines([(x, _TOP, x, _BOTTOM) for x in beyond], colour=INK, width=0.8, dashes=DASHES)
    drawing.text(across.end, up(limit) - 3, _("limit of q"), size=_LABEL, colour=QUIET, anchor="end")
    drawing.text(across(margin) + 3, _TOP + 4, _("margin of equivalence"), size=_LABEL, colour=QUIET)
    for verdict, (shape, colour, filled) in _LOOKS.items():
        own = (point for point in points if point.verdict is verdict)
        # Rows within a point of each other share a mark: a large audit has thousands near the middle.
        step = 1 if verdict is not Verdict.CHANGED else 10
        places = dict.fromkeys(
            (round(across(p.effect) * step) / step, round(up(p.sureness) * step) / step) for p in own
        )
        drawing.marks(places, shape=shape, colour=colour, filled=filled)
    for point in points:
        if point.label:
            right = point.effect >= 0
            x = across(point.effect) + (5 if right else -5)
            drawing.text(x, up(point.sureness) + 2.4, point.label, size=_LABEL, anchor="start" if right else "end")
    _key(drawing, lines=False)
    return drawing.markup(title=title, description=description)


def _key(drawing: Drawing, *, lines: bool) -> None:
    words = {
        Verdict.CHANGED: _("changed (numbered as in the table below)"),
        Verdict.INCONCLUSIVE: _("cannot be told"),
        Verdict.EQUIVALENT: _("equivalent"),
    }
    drawing.key(
        [(words[verdict], colour, shape, filled) for verdict, (shape, colour, filled) in reversed(_LOOKS.items())],
        _BOTTOM + (28 if lines else 46),
    )


def _labels(drawing: Drawing, labels: Sequence[tuple[float, str]], *, x: float) -> None:
    """Write labels beside their heights, moved apart where they would cover each other."""
    below = _BOTTOM + 3
    placed: list[tuple[float, str]] = []
    for y, label in sorted(labels, key=lambda one: (-one[0], -int(one[1]))):
        below = min(y, below - _LABEL_STEP)
        placed.append((below, label))
    # What was pushed above the panel moves down together.
    lowest = min((y for y, _label in placed), default=_TOP)
    shift = max(0.0, _TOP + 8 - lowest)
    for y, label in placed:
        drawing.text(x, min(y + shift, _BOTTOM + 3) + 2.4, label, size=_LABEL)


def _ends(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or 0.5 * max(abs(high), 1.0)
    return low - room, high + room


def _tick(tick: float, ticks: Sequence[float]) -> str:
    places = max(len(f"{one:.6f}".rstrip("0").partition(".")[2]) for one in ticks)
    return f"{tick:.{places}f}".replace("-", "\N{MINUS SIGN}")
