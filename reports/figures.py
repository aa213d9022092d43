"""Charts as inline SVG: the same bytes for the same numbers.

The palette is Okabe and Ito's (2008), and every series also differs by shape, so that it holds in greyscale and for
colour-blind readers.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from audit.records import Colour, Estimate
from reports.svg import INK, PAPER, QUIET, RULE, as_svg, drawing_style, new_figure

BLUE = "#0072b2"
VERMILION = "#d55e00"
GREY = "#8a8f94"
_BAR_FILL = {Colour.GREEN: "#009e73", Colour.AMBER: "#e69f00", Colour.RED: "#d55e00"}
_BAR_HATCH = {Colour.GREEN: "", Colour.AMBER: "///", Colour.RED: "xxx"}
_LABEL_CHARACTERS = 34
_BARS_HEIGHT_IN = 7.4


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
    """One concept and contrast; `readers` has an entry a panel, None where the contrast was not analysed."""

    label: str
    readers: tuple[Readers | None, ...]


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
    longest = max(1, *(len(panel.rows) for panel in panels))
    with drawing_style():
        figure = new_figure(height_in=1.25 + 0.2 * (longest + 1))
        axes = figure.subplots(1, len(panels), sharex=True, squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            _effect_panel(axis, panel, height=longest + 1)
        if span is not None:
            margin = 0.04 * (span[1] - span[0])
            axes[0].set_xlim(span[0] - margin, span[1] + margin)
        _legend(
            figure,
            [
                _key("confirmed feature", BLUE, "o", filled=True),
                _key("feature, not confirmed", BLUE, "o", filled=False),
                _key("linear probe", VERMILION, "D", filled=True),
                Line2D([], [], color=GREY, linestyle=(0, (4, 2)), label="best latent of a control (either sign)"),
            ],
        )
        figure.tight_layout(rect=(0, 0.3 / figure.get_figheight(), 1, 1), w_pad=2.0)
        return as_svg(figure, chart_id=chart_id, title=title, description=description)


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
    with drawing_style():
        figure = new_figure(height_in=1.2 + 0.34 * len(rows))
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for number, (axis, name) in enumerate(zip(axes, panels, strict=True)):
            _overview_panel(axis, tuple(row.readers[number] for row in rows))
            axis.set_title(name, loc="left", fontsize=8.5, fontweight=600)
        axes[0].set_yticks(range(len(rows)), [_wrapped(row.label) for row in rows])
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        _legend(
            figure,
            [
                _key("linear probe", VERMILION, "D", filled=True),
                _key("first SAE feature", BLUE, "o", filled=True),
                _key("best latent of a control", GREY, "x", filled=True),
            ],
        )
        figure.tight_layout(rect=(0, 0.3 / figure.get_figheight(), 1, 1), w_pad=1.5)
        return as_svg(figure, chart_id=chart_id, title=title, description=description)


def curve_chart(points: tuple[CurvePoint, ...], *, chart_id: str, title: str, description: str) -> Markup:
    """Return the fraction of variance unexplained over a training, on held-out plain and chat text.

    The scale ends at 1, no better than the average: a first point above it would flatten the rest.
    """
    series = (
        ("plain text", [(p.updates, p.plain) for p in points if p.plain is not None], BLUE, "o", "-"),
        ("chat", [(p.updates, p.chat) for p in points if p.chat is not None], VERMILION, "D", (0, (4, 2))),
    )
    values = [value for _, line, *_ in series for _, value in line]
    with drawing_style():
        figure = new_figure(height_in=1.65)
        axis = figure.subplots()
        for name, line, colour, marker, dashes in series:
            axis.plot(
                [updates / 1e6 for updates, _ in line],
                [value for _, value in line],
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
        axis.set_xlabel("updates: tokens seen in training, repeats included (millions)")
        axis.set_ylabel("FVU on held-out text")
        axis.legend(loc="upper right", ncols=len(series), frameon=False, fontsize=7.5)
        figure.tight_layout(pad=0.3)
        return as_svg(figure, chart_id=chart_id, title=title, description=description)


def fidelity_chart(
    bars: tuple[FidelityBar, ...], *, green: float, amber: float, chart_id: str, title: str, description: str
) -> Markup:
    """Return one bar a set of tokens: the fraction of variance unexplained, against the two limits."""
    with drawing_style():
        figure = new_figure(height_in=0.9 + min(0.27 * len(bars), _BARS_HEIGHT_IN))
        axis = figure.subplots()
        for place, bar in enumerate(bars):
            axis.barh(
                place,
                bar.fvu,
                height=0.55,
                color=_BAR_FILL[bar.colour],
                hatch=_BAR_HATCH[bar.colour],
                edgecolor=INK,
                linewidth=0.5,
            )
        top = max([1.25 * amber, *[1.05 * bar.fvu for bar in bars]])
        for place, bar in enumerate(bars):
            axis.text(1.03 * top, place, f"{bar.fvu:.3f} {bar.colour.value}", va="center", ha="left", fontsize=7.5)
        for limit, name in ((green, "green"), (amber, "amber")):
            axis.axvline(limit, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
            axis.text(limit, -0.72, f"limit of {name}: {limit:g}", fontsize=7, color=QUIET, ha="center", va="bottom")
        axis.set_yticks(range(len(bars)), [_wrapped(bar.label) for bar in bars])
        axis.set_ylim(len(bars) - 0.5, -0.65)
        axis.set_xlim(0, top)
        axis.set_xlabel("fraction of variance unexplained (0: nothing missed; 1: no better than the average)")
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.12 / figure.get_figheight()))
        return as_svg(figure, chart_id=chart_id, title=title, description=description)


def _effect_panel(axis: Axes, panel: EffectPanel, *, height: int) -> None:
    axis.axvline(0, color=QUIET, linewidth=0.8)
    if panel.bar is not None:
        for limit in (-panel.bar, panel.bar):
            axis.axvline(limit, color=GREY, linewidth=1.0, linestyle=(0, (4, 2)))
    _mark(axis, panel.probe, 0, colour=VERMILION, marker="D")
    for place, row in enumerate(panel.rows, start=1):
        _mark(axis, row.effect, place, colour=BLUE, marker="o", filled=row.confirmed)
    if not panel.rows:
        across = axis.get_yaxis_transform()
        axis.text(
            0.5,
            1,
            "no feature was selected",
            transform=across,
            ha="center",
            va="center",
            color=QUIET,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5},
        )
    axis.set_yticks(range(len(panel.rows) + 1), ["linear probe", *[row.label for row in panel.rows]])
    axis.set_ylim(height - 0.4, -0.6)
    axis.set_title(panel.title, loc="left", fontsize=9, fontweight=600)
    axis.set_xlabel("effect d_z, with 95% interval")


def _overview_panel(axis: Axes, readers: tuple[Readers | None, ...]) -> None:
    axis.axvline(0.5, color=QUIET, linewidth=0.8)
    for place, row in enumerate(readers):
        axis.axhline(place, color=RULE, linewidth=0.5, zorder=0)
        if row is None:
            axis.text(
                0.5, place, "not analysed", ha="center", va="center", color=QUIET, fontsize=7, backgroundcolor=PAPER
            )
            continue
        _mark(axis, row.probe, place - 0.17, colour=VERMILION, marker="D")
        if row.feature is not None:
            _mark(axis, row.feature, place + 0.17, colour=BLUE, marker="o")
        if row.bar is not None:
            axis.plot([row.bar], [place], color=GREY, marker="x", markersize=5, linestyle="none")
    axis.set_xlim(-0.02, 1.02)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axis.set_xlabel("AUROC (0.5: coin toss; 1: always right)")


def _wrapped(label: str) -> str:
    return textwrap.fill(label, _LABEL_CHARACTERS, max_lines=2, placeholder="…")


def _mark(axis: Axes, estimate: Estimate, place: float, *, colour: str, marker: str, filled: bool = True) -> None:
    if estimate.low is not None and estimate.high is not None:
        axis.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=1.3, solid_capstyle="butt")
    axis.plot(
        [estimate.value],
        [place],
        marker=marker,
        markersize=4.6,
        linestyle="none",
        markerfacecolor=colour if filled else PAPER,
        markeredgecolor=colour,
        markeredgewidth=1.1,
    )


def _key(label: str, colour: str, marker: str, *, filled: bool) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=marker,
        markersize=4.6,
        color=colour,
        markerfacecolor=colour if filled else PAPER,
        markeredgecolor=colour,
        label=label,
    )


def _legend(figure: Figure, handles: list[Line2D]) -> None:
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), frameon=False, fontsize=7.5, handletextpad=0.4)
