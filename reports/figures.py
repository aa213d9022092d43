"""Charts as inline SVG: the same bytes for the same numbers.

The palette is Okabe and Ito's (2008), and every series also differs by shape, so that it holds in greyscale and for
colour-blind readers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audit.records import Colour, Estimate
from reports.drawing import DASHES, WIDTH, Drawing, Scale, Shape, nice_ticks, text_width
from reports.language import _
from reports.svg import INK, QUIET, RULE, as_svg, drawing_style, new_figure
from reports.words import word

BLUE = "#0072b2"
VERMILION = "#d55e00"
GREY = "#8a8f94"
_BAR_FILL = {Colour.GREEN: "#009e73", Colour.AMBER: "#e69f00", Colour.RED: "#d55e00"}
_BAR_HATCH = {Colour.GREEN: "", Colour.AMBER: "M0 6L6 0", Colour.RED: "M0 0L6 6M0 6L6 0"}
_CONCEPT_CHARACTERS = 24
_BAR_CHARACTERS = 48
_SMALL, _USUAL = 7.5, 8
_GAP = 14.0
_TOP = 20.0


@dataclass(frozen=True, slots=True)
class EffectRow:
    """One feature's confirmation effect."""

    label: str
    effect: Estimate
    confirmed: bool


@dataclass(frozen=True, slots=True)
class EffectPanel:
    """One contrast: its features, and the effects of the linear probe and of the controls."""

    title: str
    rows: tuple[EffectRow, ...]
    probe: Estimate
    bar: float | None


@dataclass(frozen=True, slots=True)
class Readers:
    """How well each reader tells the arms apart at one site."""

    probe: Estimate
    feature: Estimate | None
    bar: float | None


@dataclass(frozen=True, slots=True)
class OverviewRow:
    """One concept and contrast; `readers` has an entry a panel, None where the contrast was not analysed.

    The concept is written once, beside all of its rows.
    """

    label: str
    readers: tuple[Readers | None, ...]
    concept: str = ""


@dataclass(frozen=True, slots=True)
class FidelityBar:
    """How much of the residual stream the SAE misses on one set of tokens."""

    label: str
    fvu: float
    colour: Colour


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What a half-trained SAE missed of text that it was not trained on."""

    updates: int
    plain: float | None
    chat: float | None


def effect_chart(
    panels: tuple[EffectPanel, ...],
    *,
    span: tuple[float, float] | None = None,
    chart_id: str,
    title: str,
    description: str,
) -> Markup:
    """Return confirmation effects (d_z) with 95% intervals, one panel a contrast, all on one scale.

    Args:
        panels: the contrasts.
        span: the scale's ends, so that charts side by side can be compared; None fits the panels.
        chart_id: the id of the element, and the beginning of every id in it.
        title: what a reader without eyes is told.
        description: where else the numbers are.
    """
    row, top = 14.4, _TOP
    longest = 1 + max(1, *(len(panel.rows) for panel in panels))
    bottom = top + row * longest
    drawing = Drawing(chart_id, height=bottom + 44)
    low, high = span if span is not None else _ends(panels)
    margin = 0.04 * (high - low)
    ticks = nice_ticks(low - margin, high + margin, most=7)
    room = (WIDTH - _GAP * (len(panels) - 1)) / len(panels)
    for number, panel in enumerate(panels):
        left = number * (room + _GAP)
        labels = [_("linear probe"), *[row.label for row in panel.rows]]
        start = left + 6 + max(text_width(label, _USUAL) for label in labels)
        scale = Scale(low - margin, high + margin, start, left + room - start - 4)
        drawing.text(start, 11, panel.title, size=9, bold=True)
        drawing.axis(scale, bottom, ticks=ticks, label=_("effect d_z, with 95% interval"))
        drawing.lines([(start, top, start, bottom)], colour=RULE, width=0.7)
        drawing.lines([(scale(0), top, scale(0), bottom)], colour=QUIET, width=0.8)
        if panel.bar is not None:
            beyond = [scale(limit) for limit in (-panel.bar, panel.bar)]
            drawing.lines([(x, top, x, bottom) for x in beyond], colour=GREY, width=1, dashes=DASHES)
        heights = [top + row * (place + 0.5) for place in range(len(labels))]
        for label, y in zip(labels, heights, strict=True):
            drawing.text(start - 4, y + 2.8, label, size=_USUAL, anchor="end")
        _series(drawing, scale, [(panel.probe, heights[0])], Shape.DIAMOND, VERMILION)
        found = list(zip(panel.rows, heights[1:], strict=True))
        _series(drawing, scale, [(f.effect, y) for f, y in found if f.confirmed], Shape.CIRCLE, BLUE)
        _series(drawing, scale, [(f.effect, y) for f, y in found if not f.confirmed], Shape.CIRCLE, BLUE, filled=False)
        if not panel.rows:
            _said(drawing, (start + scale.end) / 2, heights[0] + row, _("no feature was selected"))
    drawing.key(
        [
            (_("confirmed feature"), BLUE, Shape.CIRCLE, True),
            (_("feature, not confirmed"), BLUE, Shape.CIRCLE, False),
            (_("linear probe"), VERMILION, Shape.DIAMOND, True),
            (_("best latent of a control (either sign)"), GREY, None, True),
        ],
        bottom + 40,
    )
    return drawing.markup(title=title, description=description)


def overview_chart(
    rows: tuple[OverviewRow, ...], panels: tuple[str, ...], *, chart_id: str, title: str, description: str
) -> Markup:
    """Return paired AUROC of the linear probe, the first feature and the best latent of a control, a row a contrast.

    Args:
        rows: concepts and contrasts, top down.
        panels: the title of each instrument's panel, in the order of `OverviewRow.readers`; empty titles are not drawn.
        chart_id: the id of the element, and the beginning of every id in it.
        title: what a reader without eyes is told.
        description: where else the numbers are.
    """
    row, top = 15.5, _TOP
    bottom = top + row * len(rows)
    drawing = Drawing(chart_id, height=bottom + 44)
    heights = [top + row * (place + 0.5) for place in range(len(rows))]
    names = _concept_names(rows, row)
    beside = 6 + max(text_width(item.label, _SMALL) for item in rows)
    left = beside + max((6 + text_width(line, _SMALL) for lines, _y in names for line in lines), default=0.0)
    for lines, y in names:
        for place, line in enumerate(lines):
            drawing.text(
                left - beside - 4, y + 2.7 + 9 * (place - (len(lines) - 1) / 2), line, size=_SMALL, anchor="end"
            )
    for item, y in zip(rows, heights, strict=True):
        drawing.text(left - 4, y + 2.7, item.label, size=_SMALL, anchor="end")
    room = (WIDTH - left - _GAP * (len(panels) - 1)) / len(panels)
    for number, name in enumerate(panels):
        start = left + number * (room + _GAP)
        scale = Scale(-0.02, 1.02, start, room - 6)
        drawing.text(start, 11, name, size=8.5, bold=True)
        drawing.axis(scale, bottom, ticks=(0, 0.25, 0.5, 0.75, 1), label=_("AUROC (0.5: coin toss; 1: always right)"))
        drawing.lines([(start, y, scale.end, y) for y in heights], colour=RULE, width=0.5)
        drawing.lines([(scale(0.5), top, scale(0.5), bottom)], colour=QUIET, width=0.8)
        drawn = [(item.readers[number], y) for item, y in zip(rows, heights, strict=True)]
        read = [(readers, y) for readers, y in drawn if readers is not None]
        _series(drawing, scale, [(r.probe, y - 2.7) for r, y in read], Shape.DIAMOND, VERMILION)
        _series(drawing, scale, [(r.feature, y + 2.7) for r, y in read if r.feature is not None], Shape.CIRCLE, BLUE)
        bars = [(scale(r.bar), y) for r, y in read if r.bar is not None]
        drawing.marks(bars, shape=Shape.CROSS, colour=GREY)
        for readers, y in drawn:
            if readers is None:
                _said(drawing, (start + scale.end) / 2, y, _("not analysed"))
    drawing.key(
        [
            (_("linear probe"), VERMILION, Shape.DIAMOND, True),
            (_("first SAE feature"), BLUE, Shape.CIRCLE, True),
            (_("best latent of a control"), GREY, Shape.CROSS, True),
        ],
        bottom + 40,
    )
    return drawing.markup(title=title, description=description)


def curve_chart(points: tuple[CurvePoint, ...], *, chart_id: str, title: str, description: str) -> Markup:
    """Return the fraction of variance unexplained over a training, on held-out plain and chat text.

    The scale ends at 1, no better than the average: a first point above it would flatten the rest.
    """
    series = (
        (_("plain text"), [(p.updates, p.plain) for p in points if p.plain is not None], BLUE, "o", "-"),
        (_("chat"), [(p.updates, p.chat) for p in points if p.chat is not None], VERMILION, "D", (0, (4, 2))),
    )
    values = [value for _name, line, *_look in series for _updates, value in line]
    with drawing_style():
        figure = new_figure(height_in=1.65)
        axis = figure.subplots()
        for name, line, colour, marker, dashes in series:
            axis.plot(
                [updates / 1e6 for updates, _value in line],
                [value for _updates, value in line],
                color=colour,
                linewidth=1.2,
                linestyle=dashes,
                marker=marker,
                markersize=2.6,
                markevery=max(1, len(line) // 12),
                label=name,
            )
        axis.set_ylim(0, min(1.0, 1.15 * max([*values, 1e-6])))
        axis.set_xlim(left=0)
        axis.grid(axis="y", color=RULE, linewidth=0.5)
        axis.set_xlabel(_("updates: tokens seen in training, repeats included (millions)"))
        axis.set_ylabel(_("FVU on held-out text"))
        axis.legend(loc="upper right", ncols=len(series), frameon=False, fontsize=7.5)
        figure.tight_layout(pad=0.3)
        return as_svg(figure, chart_id=chart_id, title=title, description=description)


def fidelity_chart(
    bars: tuple[FidelityBar, ...], *, green: float, amber: float, chart_id: str, title: str, description: str
) -> Markup:
    """Return one bar a set of tokens: the fraction of variance unexplained, against the two limits."""
    row, top = 12.0, _TOP
    bottom = top + row * len(bars)
    drawing = Drawing(chart_id, height=bottom + 26)
    labels = [textwrap.shorten(bar.label, _BAR_CHARACTERS, placeholder="…") for bar in bars]
    words = [f"{bar.fvu:.3f} {word(bar.colour)}" for bar in bars]
    start = 6 + max(text_width(label, _SMALL) for label in labels)
    most = max([1.25 * amber, *[1.05 * bar.fvu for bar in bars]])
    scale = Scale(0, most, start, WIDTH - start - 8 - max(text_width(line, _SMALL) for line in words))
    drawing.axis(
        scale,
        bottom,
        ticks=nice_ticks(0, most),
        label=_("fraction of variance unexplained (0: nothing missed; 1: no better than the average)"),
    )
    for place, (bar, label, line) in enumerate(zip(bars, labels, words, strict=True)):
        y = top + row * (place + 0.5)
        drawing.text(start - 4, y + 2.7, label, size=_SMALL, anchor="end")
        drawing.bar(
            start,
            y - 4,
            length=scale(bar.fvu) - start,
            thickness=8,
            fill=_BAR_FILL[bar.colour],
            hatch=_BAR_HATCH[bar.colour],
        )
        drawing.text(scale.end + 8, y + 2.7, line, size=_SMALL)
    limits = (
        (green, _("limit of green: {limit}", limit=f"{green:g}"), "end", -3),
        (amber, _("limit of amber: {limit}", limit=f"{amber:g}"), "start", 3),
    )
    drawing.lines(
        [(scale(limit), top - 2, scale(limit), bottom) for limit, *_words in limits],
        colour=INK,
        width=0.8,
        dashes=DASHES,
    )
    for limit, name, anchor, beside in limits:
        drawing.text(
            scale(limit) + beside,
            top - 7,
            name,
            size=7,
            colour=QUIET,
            anchor=anchor,
        )
    return drawing.markup(title=title, description=description)


def _ends(panels: Sequence[EffectPanel]) -> tuple[float, float]:
    """Return the ends of the scale on which everything that is drawn fits."""
    ends = [0.0]
    for panel in panels:
        ends += [] if panel.bar is None else [-panel.bar, panel.bar]
        for effect in (panel.probe, *(row.effect for row in panel.rows)):
            ends += [end for end in (effect.low, effect.value, effect.high) if end is not None]
    low, high = min(ends), max(ends)
    return (low, high) if low < high else (low - 1, high + 1)


def _concept_names(rows: Sequence[OverviewRow], row: float) -> list[tuple[list[str], float]]:
    """Return each concept in at most two lines, with the height of the middle of its rows."""
    names = []
    for concept in dict.fromkeys(item.concept for item in rows if item.concept):
        own = [place for place, item in enumerate(rows) if item.concept == concept]
        lines = textwrap.wrap(concept, _CONCEPT_CHARACTERS, max_lines=2, placeholder="…")
        names.append((lines, _TOP + row * (own[0] + own[-1] + 1) / 2))
    return names


def _series(
    drawing: Drawing,
    scale: Scale,
    estimates: Sequence[tuple[Estimate, float]],
    shape: Shape,
    colour: str,
    *,
    filled: bool = True,
) -> None:
    """Draw estimates of one look at their heights, each with its interval where it has one."""
    whiskers = [
        (scale(estimate.low), y, scale(estimate.high), y)
        for estimate, y in estimates
        if estimate.low is not None and estimate.high is not None
    ]
    drawing.lines(whiskers, colour=colour, width=1.3)
    drawing.marks([(scale(estimate.value), y) for estimate, y in estimates], shape=shape, colour=colour, filled=filled)


def _said(drawing: Drawing, x: float, y: float, words: str) -> None:
    """Write in the place of marks that are not there."""
    width = text_width(words, 7) + 3
    drawing.ground(x - width / 2, y - 5, width=width, height=10)
    drawing.text(x, y + 2.5, words, size=7, colour=QUIET, anchor="middle")
