"""Small drawings written mark by mark: a tenth of the size and of the time of a general plotting library's.

Lengths are points. Marks of one look share one path, and text is text in the report's own fonts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from io import BytesIO
from xml.etree import ElementTree as ET

from fontTools.ttLib import TTFont  # type: ignore[import-untyped] # it comes with WeasyPrint
from markupsafe import Markup

from reports.rendering import asset
from reports.svg import FONT_STACK, INK, PAPER, QUIET, RULE, as_markup

WIDTH = 482.4
DASHES = "4 2"
_FONT_FILE = "NotoSans-Regular.ttf"
_MARK_RADIUS = 2.3
_MINUS = "\N{MINUS SIGN}"


class Shape(StrEnum):
    """A mark's form: every series has its own, so that no colour is needed to tell them apart."""

    CIRCLE = "circle"
    DIAMOND = "diamond"
    CROSS = "cross"


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` along a line that begins at `start`, `length` points long."""

    low: float
    high: float
    start: float
    length: float

    def __call__(self, value: float) -> float:
        """Return where a value stands."""
        return self.start + self.length * (value - self.low) / (self.high - self.low)

    @property
    def end(self) -> float:
        """Return where the line ends."""
        return self.start + self.length


class Drawing:
    """An SVG element in the making; what is drawn later lies above."""

    def __init__(self, chart_id: str, *, height: float) -> None:
        self._id = chart_id
        self._root = ET.Element("svg", {"viewBox": f"0 0 {_n(WIDTH)} {_n(height)}", "font-family": FONT_STACK})
        self._patterns: dict[str, ET.Element] = {}

    def lines(
        self, ends: Iterable[tuple[float, float, float, float]], *, colour: str, width: float, dashes: str = ""
    ) -> None:
        """Draw straight lines of one look, each from (x, y) to (x, y)."""
        drawn = "".join(f"M{_n(x)} {_n(y)}L{_n(to_x)} {_n(to_y)}" for x, y, to_x, to_y in ends)
        if drawn:
            look = {"fill": "none", "stroke": colour, "stroke-width": _n(width)}
            ET.SubElement(self._root, "path", look | ({"stroke-dasharray": dashes} if dashes else {}) | {"d": drawn})

    def marks(self, places: Iterable[tuple[float, float]], *, shape: Shape, colour: str, filled: bool = True) -> None:
        """Draw marks of one look at these places."""
        drawn = "".join(_outline(shape, x, y) for x, y in places)
        if drawn:
            look = {"fill": colour if filled else PAPER, "stroke": colour, "stroke-width": "1.1"}
            ET.SubElement(self._root, "path", look | {"d": drawn})

    def bar(self, x: float, y: float, *, length: float, thickness: float, fill: str, hatch: str = "") -> None:
        """Draw a bar from (x, y) to the right. `hatch` is a path in a square of 6 points that repeats over it."""
        box = {"x": _n(x), "y": _n(y), "width": _n(length), "height": _n(thickness)}
        ET.SubElement(self._root, "rect", box | {"fill": fill, "stroke": INK, "stroke-width": "0.5"})
        if hatch:
            ET.SubElement(self._root, "rect", box | {"fill": f"url(#{self._hatched(hatch)})"})

    def ground(self, x: float, y: float, *, width: float, height: float) -> None:
        """Cover what lies below with the colour of the paper, so that text over it can be read."""
        box = {"x": _n(x), "y": _n(y), "width": _n(width), "height": _n(height)}
        ET.SubElement(self._root, "rect", box | {"fill": PAPER})

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float,
        colour: str = INK,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """Write one line with its baseline at y."""
        look = {"x": _n(x), "y": _n(y), "font-size": _n(size), "fill": colour}
        if anchor != "start":
            look["text-anchor"] = anchor
        if bold:
            look["font-weight"] = "600"
        ET.SubElement(self._root, "text", look).text = words

    def axis(self, scale: Scale, y: float, *, ticks: Sequence[float], label: str) -> None:
        """Draw a horizontal axis at y, its numbers and its label below."""
        self.lines(
            [(scale.start, y, scale.end, y), *((scale(tick), y, scale(tick), y + 3) for tick in ticks)],
            colour=RULE,
            width=0.7,
        )
        places = max(_places(tick) for tick in ticks)
        for tick in ticks:
            words = f"{tick:.{places}f}".replace("-", _MINUS)
            self.text(scale(tick), y + 11, words, size=7.5, colour=QUIET, anchor="middle")
        self.text((scale.start + scale.end) / 2, y + 22, label, size=7.5, colour=QUIET, anchor="middle")

    def key(self, entries: Sequence[tuple[str, str, Shape | None, bool]], y: float) -> None:
        """Write the key in one line: (words, colour, shape, filled) for each series; no shape is a dashed line."""
        x = 6.0
        for words, colour, shape, filled in entries:
            if shape is None:
                self.lines([(x, y - 2.6, x + 16, y - 2.6)], colour=colour, width=1, dashes=DASHES)
            else:
                self.marks([(x + 8, y - 2.6)], shape=shape, colour=colour, filled=filled)
            x += 20
            self.text(x, y, words, size=7.5)
            x += text_width(words, 7.5) + 12

    def markup(self, *, title: str, description: str) -> Markup:
        """Return the element with a title, a description and ids that no other chart uses."""
        if self._patterns:
            definitions = ET.Element("defs")
            self._root.insert(0, definitions)
            for pattern in self._patterns.values():
                definitions.append(pattern)
        return as_markup(self._root, chart_id=self._id, title=title, description=description)

    def _hatched(self, hatch: str) -> str:
        if hatch not in self._patterns:
            name = f"{self._id}-hatch-{len(self._patterns) + 1}"
            tile = {"id": name, "width": "6", "height": "6", "patternUnits": "userSpaceOnUse"}
            self._patterns[hatch] = pattern = ET.Element("pattern", tile)
            ET.SubElement(pattern, "path", {"fill": "none", "stroke": INK, "stroke-width": "0.5", "d": hatch})
        return str(self._patterns[hatch].attrib["id"])


def text_width(words: str, size: float) -> float:
    """Return how wide a line of text is, in points; a character that the font lacks counts as wide."""
    widths, most = _advances()
    return size * sum(widths.get(ord(char), most) for char in words)


def nice_ticks(low: float, high: float, *, most: int = 6) -> tuple[float, ...]:
    """Return round numbers between the ends, at most this many, as far apart as 1, 2 or 5 times a power of ten.

    Raises:
        ValueError: the ends are no finite numbers in rising order.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"no scale from {low} to {high}")
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(s for s in (power, 2 * power, 5 * power, 10 * power, 20 * power) if (high - low) / s <= most - 1)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    return tuple(round(number * step, digits) for number in range(first, last + 1))


def _places(tick: float) -> int:
    return len(f"{tick:.6f}".rstrip("0").partition(".")[2])


def _n(value: float) -> str:
    """Return a length to a tenth of a point: finer than any printer."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _outline(shape: Shape, x: float, y: float) -> str:
    size = _MARK_RADIUS
    if shape is Shape.CIRCLE:
        arc = f"a{size} {size} 0 1 0"
        return f"M{_n(x - size)} {_n(y)}{arc} {2 * size} 0{arc} {-2 * size} 0z"
    if shape is Shape.DIAMOND:
        return f"M{_n(x)} {_n(y - 3)}l3 3l-3 3l-3 -3z"
    return f"M{_n(x - 2.5)} {_n(y - 2.5)}l5 5m0 -5l-5 5"


@cache
def _advances() -> tuple[dict[int, float], float]:
    """Return the width of each character of the font in ems, and that of the widest letter."""
    font = TTFont(BytesIO(asset("fonts", _FONT_FILE)))
    units, metrics = font["head"].unitsPerEm, font["hmtx"].metrics
    widths = {code: metrics[name][0] / units for code, name in font.getBestCmap().items()}
    return widths, widths[ord("W")]
