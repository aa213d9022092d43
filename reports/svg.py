"""Drawings as inline SVG elements: real text in the report's own fonts, no inline style, the same bytes every time.

Inline `style` attributes become presentation attributes because the HTML report's content security policy refuses the
former.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from xml.etree import ElementTree as ET

import matplotlib as mpl
from markupsafe import Markup
from matplotlib import font_manager
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#1b1f24"
QUIET = "#5b6570"
RULE = "#c9d0d7"
PAPER = "#ffffff"

_WIDTH_IN = 6.7
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_FAMILY = "Affidavit Sans"
FONT_STACK = "Affidavit Sans, sans-serif"
_SALT = "affidavit"
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_FONTS = (("NotoSans-Regular.ttf", 400), ("NotoSans-SemiBold.ttf", 600))


def new_figure(*, height_in: float) -> Figure:
    """Return an empty figure as wide as the page, with no background of its own."""
    figure = Figure(figsize=(_WIDTH_IN, height_in))
    figure.patch.set_visible(False)
    return figure


@contextmanager
def drawing_style() -> Iterator[None]:
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
    with mpl.rc_context(settings), warnings.catch_warnings():
        # A label in a writing that the fonts lack is text all the same: a browser finds a font for it.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ ", category=UserWarning)
        yield


def _register_fonts() -> None:
    """Make the vendored fonts known under a name of their own: a system's Noto Sans must not change the layout."""
    fonts = font_manager.fontManager.ttflist
    if any(entry.name == _FAMILY for entry in fonts):
        return
    for name, weight in _FONTS:
        with as_file(files("templates") / "fonts" / name) as path:
            fonts.append(font_manager.FontEntry(fname=str(path), name=_FAMILY, weight=weight))


def as_svg(figure: Figure, *, chart_id: str, title: str, description: str) -> Markup:
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
    _write_plain_names(root)
    for name in ("id", "width", "height", "version"):
        root.attrib.pop(name, None)
    return as_markup(root, chart_id=chart_id, title=title, description=description)


def as_markup(root: ET.Element, *, chart_id: str, title: str, description: str) -> Markup:
    """Return a drawing of plainly named elements as an image with a text alternative.

    Every id in it has to begin with the chart's already.
    """
    _describe(root, chart_id=chart_id, title=title, description=description)
    text = ET.tostring(root, encoding="unicode")
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
        element.set("font-family", FONT_STACK)
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
    root.attrib |= {
        "xmlns": _SVG,
        "id": chart_id,
        "class": "chart",
        "role": "img",
        "aria-labelledby": f"{chart_id}-title {chart_id}-desc",
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    heading = ET.Element("title", {"id": f"{chart_id}-title"})
    # The PDF takes its alternative text from the title alone, so the title says what the chart shows.
    heading.text = title
    body = ET.Element("desc", {"id": f"{chart_id}-desc"})
    body.text = description
    root.insert(0, heading)
    root.insert(1, body)
