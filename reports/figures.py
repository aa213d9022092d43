"""Charts as inline SVG: the same bytes for the same numbers, real text in the report's own fonts, no inline style.

The palette is Okabe and Ito's (2008), and every series also differs by shape, so that it holds in greyscale and for
colour-blind readers. Inline `style` attributes become presentation attributes because the HTML report's content
security policy refuses the former.
"""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import as_file, files
from xml.etree import ElementTree as ET

import matplotlib as mpl
from markupsafe import Markup
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from audit.records import Colour, Estimate

INK = "#1b1f24"
QUIET = "#5b6570"
RULE = "#c9d0d7"
BLUE = "#0072b2"
VERMILION = "#d55e00"
PAPER = "#ffffff"
GREY = "#8a8f94"
_BAR_FILL = {Colour.GREEN: "#009e73", Colour.AMBER: "#e69f00", Colour.RED: "#d55e00"}
_BAR_HATCH = {Colour.GREEN: "", Colour.AMBER: "///", Colour.RED: "xxx"}

_WIDTH_IN = 6.7
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_FAMILY = "Affidavit Sans"
_FONT_STACK = "Affidavit Sans, sans-serif"
_SALT = "affidavit"
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_FONTS = (("NotoSans-Regular.ttf", 400), ("NotoSans-SemiBold.ttf", 600))


@dataclass(frozen=True, slots=True)
class EffectRow:
    """One feature's confirmation effect."""

    label: str
    effect: Estimate
    confirmed: bool


@dataclass(frozen=True, slots=True)
class EffectPanel:
    """One contrast: its features, and the effects of the linear probe and of the random directions."""

    title: str
    rows: tuple[EffectRow, ...]
    probe: Estimate
    random: float | None


@dataclass(frozen=True, slots=True)
class OverviewRow:
    """One concept and contrast: how well each reader tells the arms apart."""

    label: str
    probe: Estimate
    feature: Estimate | None
    random: float | None


@dataclass(frozen=True, slots=True)
class FidelityBar:
    """How much of the residual stream the SAE misses on one set of tokens."""

    label: str
    fvu: float
    colour: Colour


def effect_chart(panels: tuple[EffectPanel, ...], *, chart_id: str, title: str, description: str) -> Markup:
    """Return confirmation effects (d_z) with 95% intervals, one panel a contrast, all on one scale."""
    longest = max(1, *(len(panel.rows) for panel in panels))
    with _style():
        figure = _figure(height_in=1.25 + 0.2 * (longest + 1))
        axes = figure.subplots(1, len(panels), sharex=True, squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            _effect_panel(axis, panel, height=longest + 1)
        _legend(
            figure,
            [
                _key("confirmed feature", BLUE, "o", filled=True),
                _key("feature, not confirmed", BLUE, "o", filled=False),
                _key("linear probe", VERMILION, "D", filled=True),
                Line2D([], [], color=GREY, linestyle=(0, (4, 2)), label="best random direction (either sign)"),
            ],
        )
        figure.tight_layout(rect=(0, 0.3 / figure.get_figheight(), 1, 1), w_pad=2.0)
        return _svg(figure, chart_id=chart_id, title=title, description=description)


def overview_chart(rows: tuple[OverviewRow, ...], *, chart_id: str, title: str, description: str) -> Markup:
    """Return paired AUROC of the linear probe, the best feature and the best random direction, a row a contrast."""
    with _style():
        figure = _figure(height_in=0.95 + 0.34 * len(rows))
        axis = figure.subplots()
        axis.axvline(0.5, color=QUIET, linewidth=0.8)
        for place, row in enumerate(rows):
            axis.axhline(place, color=RULE, linewidth=0.5, zorder=0)
            _mark(axis, row.probe, place - 0.17, colour=VERMILION, marker="D")
            if row.feature is not None:
                _mark(axis, row.feature, place + 0.17, colour=BLUE, marker="o")
            if row.random is not None:
                axis.plot([row.random], [place], color=GREY, marker="x", markersize=5, linestyle="none")
        axis.set_yticks(range(len(rows)), [row.label for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(-0.02, 1.02)
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5: coin toss", "0.75", "1: always right"])
        _legend(
            figure,
            [
                _key("linear probe", VERMILION, "D", filled=True),
                _key("first SAE feature", BLUE, "o", filled=True),
                _key("best random direction", GREY, "x", filled=True),
            ],
        )
        figure.tight_layout(rect=(0, 0.3 / figure.get_figheight(), 1, 1))
        return _svg(figure, chart_id=chart_id, title=title, description=description)


def fidelity_chart(
    bars: tuple[FidelityBar, ...], *, green: float, amber: float, chart_id: str, title: str, description: str
) -> Markup:
    """Return one bar a set of tokens: the fraction of variance unexplained, against the two limits."""
    with _style():
        figure = _figure(height_in=0.9 + 0.27 * len(bars))
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
        axis.set_yticks(range(len(bars)), [bar.label for bar in bars])
        axis.set_ylim(len(bars) - 0.5, -0.65)
        axis.set_xlim(0, top)
        axis.set_xlabel("fraction of variance unexplained (0: nothing missed; 1: no better than the average)")
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.12 / figure.get_figheight()))
        return _svg(figure, chart_id=chart_id, title=title, description=description)


def _effect_panel(axis: Axes, panel: EffectPanel, *, height: int) -> None:
    axis.axvline(0, color=QUIET, linewidth=0.8)
    if panel.random is not None:
        for limit in (-panel.random, panel.random):
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


def _figure(*, height_in: float) -> Figure:
    figure = Figure(figsize=(_WIDTH_IN, height_in))
    figure.patch.set_visible(False)
    return figure


def _style() -> AbstractContextManager[None]:
    """Return a context in which no setting of the user's machine changes the drawing."""
    _register_fonts()
    settings = {
        **{key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")},
        "svg.hashsalt": _SALT,
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": _FAMILY,
        "font.size": 8,
        "axes.labelsize": 7.5,
        "axes.labelcolor": QUIET,
        "axes.edgecolor": RULE,
        "axes.linewidth": 0.7,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": True,
        "xtick.color": RULE,
        "xtick.labelcolor": QUIET,
        "xtick.labelsize": 7.5,
        "ytick.color": RULE,
        "ytick.labelcolor": INK,
        "ytick.labelsize": 8,
        "ytick.major.size": 0,
        "text.color": INK,
        "hatch.linewidth": 0.5,
        "hatch.color": INK,
    }
    return mpl.rc_context(settings)


def _register_fonts() -> None:
    """Make the vendored fonts known under a name of their own: a system's Noto Sans must not change the layout."""
    fonts = font_manager.fontManager.ttflist
    if any(entry.name == _FAMILY for entry in fonts):
        return
    for name, weight in _FONTS:
        with as_file(files("templates") / "fonts" / name) as path:
            fonts.append(font_manager.FontEntry(fname=str(path), name=_FAMILY, weight=weight))


def _svg(figure: Figure, *, chart_id: str, title: str, description: str) -> Markup:
    """Return the figure as one `<svg>` element with a title, a description and ids that no other chart uses."""
    buffer = io.BytesIO()
    canvas = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata=_NO_METADATA)  # type: ignore[no-untyped-call] # matplotlib leaves it untyped
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - written by matplotlib one line above
    for parent in root.iter():
        for child in list(parent):
            if child.tag in {f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"}:
                parent.remove(child)
    ids = {
        element.attrib["id"]: f"{chart_id}-{element.attrib['id']}" for element in root.iter() if "id" in element.attrib
    }
    for element in root.iter():
        _inline_style(element)
        _rename(element, ids)
    _describe(root, chart_id=chart_id, title=title, description=description)
    _write_plain_names(root)
    text = ET.tostring(root, encoding="unicode", short_empty_elements=False)
    return Markup(text)  # noqa: S704 - every label went through ElementTree's escaping


def _write_plain_names(root: ET.Element) -> None:
    """Name every element without a prefix.

    ElementTree takes prefixes from a registry of the whole process, which other libraries write to; HTML knows
    `<svg>` by its plain name only.
    """
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        for name in [name for name in element.attrib if name.startswith(f"{{{_XLINK}}}")]:
            element.set(f"xlink:{name.removeprefix(f'{{{_XLINK}}}')}", element.attrib.pop(name))
    root.set("xmlns", _SVG)
    root.set("xmlns:xlink", _XLINK)


def _inline_style(element: ET.Element) -> None:
    """Turn a `style` attribute into presentation attributes."""
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = declaration.partition(":")
        name, value = name.strip(), value.strip()
        if name == "font":
            _font(element, value)
        elif name in {"font-size", "font-weight"} or (name and not name.startswith("font-")):
            element.set(name, value)
    if element.tag == f"{{{_SVG}}}text":
        element.set("font-family", _FONT_STACK)
        element.attrib.setdefault("fill", INK)


def _font(element: ET.Element, shorthand: str) -> None:
    size = re.search(r"([\d.]+)px", shorthand)
    weight = re.match(r"\s*(?:normal\s+)*(\d{3}|bold)\b", shorthand)
    if size:
        element.set("font-size", f"{size[1]}px")
    if weight:
        element.set("font-weight", weight[1])


def _rename(element: ET.Element, ids: dict[str, str]) -> None:
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, ids[value])
        elif name == f"{{{_XLINK}}}href":
            element.set(name, f"#{ids[value.removeprefix('#')]}")
        elif value.startswith("url(#"):
            element.set(name, f"url(#{ids[value[5:-1]]})")


def _describe(root: ET.Element, *, chart_id: str, title: str, description: str) -> None:
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.attrib.pop("version", None)
    root.set("id", chart_id)
    root.set("class", "chart")
    root.set("role", "img")
    root.set("aria-labelledby", f"{chart_id}-title {chart_id}-desc")
    root.set("stroke-linejoin", "round")
    root.set("stroke-linecap", "butt")
    heading = ET.Element(f"{{{_SVG}}}title", {"id": f"{chart_id}-title"})
    # The PDF takes its alternative text from the title alone, so the title says what the chart shows.
    heading.text = title
    body = ET.Element(f"{{{_SVG}}}desc", {"id": f"{chart_id}-desc"})
    body.text = description
    root.insert(0, heading)
    root.insert(1, body)
