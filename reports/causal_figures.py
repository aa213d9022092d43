"""Charts of interventions as inline SVG: pairs as a matrix, paths as a network, and doses with their cost."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from audit.records import EdgeKind, Estimate, NodeKind
from reports.figures import BLUE, GREY, VERMILION
from reports.language import N_, _
from reports.svg import INK, PAPER, QUIET, RULE, as_svg, drawing_style, new_figure

GREEN = "#009e73"
# Ink on a coloured cell, which is light in either theme of the page; `INK` would turn light with the dark one.
_ON_CELL = "#101418"
_CELL_IN = 0.22
_ROW_IN = 0.42
_NODE_CHARACTERS = 22
_MINUS = "\N{MINUS SIGN}"
_DIVERGING = LinearSegmentedColormap.from_list("claims", [VERMILION, PAPER, BLUE])


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """One measured pair, by the places of its features."""

    first: int
    second: int
    value: float
    claimed: bool


@dataclass(frozen=True, slots=True)
class NetworkNode:
    """One node; `column` counts from the left."""

    id: str
    kind: NodeKind
    column: int
    label: str


@dataclass(frozen=True, slots=True)
class NetworkEdge:
    """One line; `label` is printed at its middle. Edges within a column have no direction."""

    source: str
    target: str
    kind: EdgeKind
    label: str


@dataclass(frozen=True, slots=True)
class DosePoint:
    """One strength: what a suppression does to the answer and what it costs, beside random features."""

    dose: float
    outcome: Estimate
    shams: tuple[float, ...]
    control_kl: Estimate
    control_loss: Estimate
    sham_kl: float
    sham_loss: float


@dataclass(frozen=True, slots=True)
class DosePanel:
    """One suppression."""

    title: str
    points: tuple[DosePoint, ...]


def matrix_chart(
    labels: tuple[str, ...], cells: tuple[MatrixCell, ...], *, chart_id: str, title: str, description: str
) -> Markup:
    """Return interactions as a matrix of features by features, its lower half; claimed cells are framed.

    Colour and sign say the same, so that the drawing holds in greyscale.
    """
    size = len(labels)
    top = max([abs(cell.value) for cell in cells] + [1e-9])
    with drawing_style():
        figure = new_figure(height_in=0.75 + _CELL_IN * size)
        axis = figure.subplots()
        for cell in cells:
            row, column = max(cell.first, cell.second), min(cell.first, cell.second)
            axis.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5),
                    1,
                    1,
                    facecolor=_DIVERGING(0.5 + 0.36 * cell.value / top),
                    edgecolor=INK if cell.claimed else RULE,
                    linewidth=1.6 if cell.claimed else 0.5,
                    zorder=2 if cell.claimed else 1,
                )
            )
            axis.text(column, row, _short(cell.value), ha="center", va="center", fontsize=6.5, zorder=3, color=_ON_CELL)
        for row in range(1, size):
            for column in range(row):
                axis.add_patch(
                    Rectangle(
                        (column - 0.5, row - 0.5), 1, 1, facecolor="none", edgecolor=RULE, linewidth=0.3, zorder=0
                    )
                )
        axis.set_xlim(-0.5, size - 0.5)
        axis.set_ylim(size - 0.5, -0.5)
        axis.set_xticks(range(size), labels, rotation=90 if size > 8 else 0)
        axis.set_yticks(range(size), labels)
        axis.set_xlabel(_("feature"))
        axis.set_ylabel(_("feature"))
        figure.tight_layout(pad=0.3)
        return as_svg(figure, chart_id=chart_id, title=title, description=description)


def network_chart(
    nodes: tuple[NetworkNode, ...],
    edges: tuple[NetworkEdge, ...],
    columns: tuple[str, ...],
    *,
    chart_id: str,
    title: str,
    description: str,
) -> Markup:
    """Return nodes in columns from left to right, spread evenly down each, with their edges.

    Args:
        nodes: in the order in which they stand in their columns.
        edges: between these nodes.
        columns: the headings, left to right.
        chart_id: the id of the element, and the beginning of every id in it.
        title: what a reader without eyes is told.
        description: where else the numbers are.
    """
    longest = max(1, *(sum(node.column == number for node in nodes) for number in range(len(columns))))
    places = _places(nodes, rows=longest)
    with drawing_style():
        figure = new_figure(height_in=0.85 + _ROW_IN * longest)
        axis = figure.subplots()
        axis.set_axis_off()
        axis.set_xlim(-0.42, len(columns) - 0.58)
        axis.set_ylim(longest - 0.4, -1.0)
        for number, name in enumerate(columns):
            axis.text(number, -0.8, name, ha="center", va="center", fontsize=7.5, fontweight=600, color=QUIET)
        for edge in edges:
            _edge(axis, edge, places)
        for node in nodes:
            _node(axis, node, places[node.id])
        drawn = {edge.kind for edge in edges}
        figure.legend(
            handles=[
                Line2D([], [], color=style[0], linestyle=style[1], linewidth=style[2], label=_(_KEYS[kind]))
                for kind, style in _EDGE_STYLES.items()
                if kind in drawn
            ],
            loc="lower left",
            ncols=3,
            frameon=False,
            fontsize=7.5,
        )
        figure.tight_layout(rect=(0, 0.36 / figure.get_figheight(), 1, 1), pad=0.2)
        return as_svg(figure, chart_id=chart_id, title=title, description=description)


def dose_chart(panels: tuple[DosePanel, ...], *, chart_id: str, title: str, description: str) -> Markup:
    """Return the change of the answer over the doses with the band of random sets, and the cost on control prompts."""
    with drawing_style():
        figure = new_figure(height_in=0.5 + 1.2 * len(panels))
        grid = figure.subplots(len(panels), 2, squeeze=False)
        for row, (panel, (left, right)) in enumerate(zip(panels, grid, strict=True)):
            _outcome_panel(left, panel)
            _cost_panel(right, panel)
            for axis in (left, right):
                axis.grid(axis="y", color=RULE, linewidth=0.4)
                axis.set_xticks([point.dose for point in panel.points], [f"{p.dose:g}" for p in panel.points])
                if row == len(panels) - 1:
                    axis.set_xlabel(_("dose (largest activation seen = 1)"))
        handles, labels = grid[0][0].get_legend_handles_labels()
        more, names = grid[0][1].get_legend_handles_labels()
        figure.legend(
            handles=handles + more, labels=labels + names, loc="lower left", ncols=3, frameon=False, fontsize=7.2
        )
        figure.tight_layout(rect=(0, 0.42 / figure.get_figheight(), 1, 1), h_pad=0.8, w_pad=2.0)
        return as_svg(figure, chart_id=chart_id, title=title, description=description)


_EDGE_STYLES: dict[EdgeKind, tuple[str, tuple[float, tuple[float, ...]], float]] = {
    EdgeKind.CONFIRMED: (GREY, (0, (4, 2)), 0.9),
    EdgeKind.CAUSAL: (BLUE, (0, ()), 1.8),
    EdgeKind.DOWNSTREAM: (GREEN, (0, ()), 1.1),
    EdgeKind.SYNERGY: (BLUE, (0, (1, 1)), 1.3),
    EdgeKind.REDUNDANCY: (VERMILION, (0, (1, 1)), 1.3),
    EdgeKind.ERROR: (VERMILION, (0, (6, 2, 1, 2)), 1.1),
}
_KEYS = {
    EdgeKind.CONFIRMED: N_("confirmed association (contrast)"),
    EdgeKind.CAUSAL: N_("changes the answer (intervention)"),
    EdgeKind.DOWNSTREAM: N_("moves a later feature (associated)"),
    EdgeKind.SYNERGY: N_("synergy of a pair (intervention)"),
    EdgeKind.REDUNDANCY: N_("redundancy of a pair (intervention)"),
    EdgeKind.ERROR: N_("the instrument's error, with its share"),
}
_BOX = {
    NodeKind.CONCEPT: "round,pad=0.35",
    NodeKind.OUTCOME: "round,pad=0.35",
    NodeKind.FEATURE: "round4,pad=0.35",
    NodeKind.ERROR: "square,pad=0.35",
}


def _places(nodes: tuple[NetworkNode, ...], *, rows: int) -> dict[str, tuple[float, float]]:
    places: dict[str, tuple[float, float]] = {}
    for column in {node.column for node in nodes}:
        own = [node for node in nodes if node.column == column]
        step = rows / len(own)
        places |= {node.id: (float(column), (place + 0.5) * step - 0.5) for place, node in enumerate(own)}
    return places


def _edge(axis: Axes, edge: NetworkEdge, places: dict[str, tuple[float, float]]) -> None:
    start, end = places[edge.source], places[edge.target]
    colour, dashes, width = _EDGE_STYLES[edge.kind]
    bent = start[0] == end[0]
    axis.annotate(
        "",
        xy=end,
        xytext=start,
        zorder=1,
        arrowprops={
            "arrowstyle": "-",
            "color": colour,
            "linestyle": dashes,
            "linewidth": width,
            "shrinkA": 0,
            "shrinkB": 0,
            "connectionstyle": "arc3,rad=0.35" if bent else "arc3,rad=0",
        },
    )
    if edge.label:
        # Beside the source, between two columns: a node in the next column would hide it. Errors start in one node and
        # meet in another: those that come from farther have their number farther from the end.
        distance = max(1.0, end[0] - start[0])
        along = 0.98 - 0.18 * distance if edge.kind is EdgeKind.ERROR else 0.42 / distance
        axis.text(
            start[0] + along * (end[0] - start[0]) + (0.1 if bent else 0),
            start[1] + along * (end[1] - start[1]),
            edge.label,
            fontsize=6.5,
            ha="center",
            va="center",
            color=QUIET,
            zorder=2,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.6},
        )


def _node(axis: Axes, node: NetworkNode, place: tuple[float, float]) -> None:
    axis.text(
        *place,
        textwrap.fill(node.label, _NODE_CHARACTERS, max_lines=2, placeholder="…"),
        fontsize=7,
        ha="center",
        va="center",
        zorder=4,
        bbox={
            "boxstyle": _BOX[node.kind],
            "facecolor": PAPER,
            "edgecolor": VERMILION if node.kind is NodeKind.ERROR else INK,
            "linestyle": "--" if node.kind is NodeKind.ERROR else "-",
            "linewidth": 0.8,
        },
    )


def _outcome_panel(axis: Axes, panel: DosePanel) -> None:
    doses = [point.dose for point in panel.points]
    if all(point.shams for point in panel.points):
        axis.fill_between(
            doses,
            [min(point.shams) for point in panel.points],
            [max(point.shams) for point in panel.points],
            facecolor=RULE,
            edgecolor=GREY,
            linewidth=0.5,
            hatch="///",
            label=_("random features, from smallest to largest"),
        )
    axis.axhline(0, color=QUIET, linewidth=0.7)
    axis.plot(
        doses, [point.outcome.value for point in panel.points], color=BLUE, linewidth=1.4, marker="o", markersize=3.6,
        label=_("the answer to the question"),
    )  # fmt: skip
    _whiskers(axis, [(point.dose, point.outcome) for point in panel.points], BLUE)
    axis.set_title(_two_lines(panel.title), loc="left", fontsize=7.5, fontweight=600)
    axis.set_ylabel(_("change, nats"))


def _cost_panel(axis: Axes, panel: DosePanel) -> None:
    doses = [point.dose for point in panel.points]
    axis.axhline(0, color=QUIET, linewidth=0.7)
    series = (
        (_("cost: KL on control prompts"), [(p.dose, p.control_kl) for p in panel.points], VERMILION, "D"),
        (_("cost: loss on control prompts"), [(p.dose, p.control_loss) for p in panel.points], GREEN, "s"),
    )
    for name, points, colour, marker in series:
        values = [estimate.value for _dose, estimate in points]
        axis.plot(doses, values, color=colour, linewidth=1.2, marker=marker, markersize=3.2, label=name)
        _whiskers(axis, points, colour)
    for name, values, marker in (
        (_("KL of random features"), [point.sham_kl for point in panel.points], "D"),
        (_("loss of random features"), [point.sham_loss for point in panel.points], "s"),
    ):
        axis.plot(
            doses, values, color=GREY, linewidth=1.0, linestyle=(0, (4, 2)), marker=marker, markersize=2.6,
            markerfacecolor=PAPER, label=name,
        )  # fmt: skip
    axis.set_title(_("What it costs elsewhere"), loc="left", fontsize=7.5, fontweight=600)
    axis.set_ylabel(_("nats"))


def _whiskers(axis: Axes, points: list[tuple[float, Estimate]], colour: str) -> None:
    for dose, estimate in points:
        if estimate.low is not None and estimate.high is not None:
            axis.plot([dose, dose], [estimate.low, estimate.high], color=colour, linewidth=0.9)


def _two_lines(text: str) -> str:
    return textwrap.fill(text, 54, max_lines=2, placeholder="…")


def _short(value: float) -> str:
    text = f"{value:+.2f}"
    return text.replace("-", _MINUS) if float(text) else "0.00"
