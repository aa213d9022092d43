"""The claims of the audit as a small network: concept, feature, later feature, answer, and what the SAE leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.graph import NATS
from audit.records import Edge, EdgeKind, Graph, Layer, Node, NodeKind, Rung
from reports.causal_figures import NetworkEdge, NetworkNode, network_chart
from reports.features import Names, cut_words
from reports.interaction_words import EDGES
from reports.language import _
from reports.numbers import interval, plural, probability, share, signed
from reports.queries import GRAPH
from reports.view import Cell, Chart, Column, Row, Table
from reports.words import word

DRAWN_CONCEPTS = 3
DRAWN_FEATURES = 2
DRAWN_LATER = 1
PRINTED_EDGES = 10
_PAIRS = (EdgeKind.SYNERGY, EdgeKind.REDUNDANCY)
_CHART = "network"


@dataclass(frozen=True, slots=True)
class Network:
    """What is drawn of the graph, and how many effects that passed are not."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    left_out: int


def network_of(graph: Graph) -> Network:
    """Return the part of the graph that is drawn: the first claims of the first answers that features change.

    At most three answers, two features each, one later feature each; every edge between what is drawn, and the
    error node of each answer.
    """
    causal = [edge for edge in graph.edges if edge.kind is EdgeKind.CAUSAL]
    answers = list(dict.fromkeys(edge.target for edge in causal))
    order = [node.id for node in graph.nodes]
    answers = sorted(answers, key=order.index)[:DRAWN_CONCEPTS]
    drawn: list[Edge] = []
    for answer in answers:
        own = [edge for edge in causal if edge.target == answer]
        drawn += sorted(own, key=lambda edge: -_size(edge))[:DRAWN_FEATURES]
    features = {edge.source for edge in drawn}
    later = [edge for edge in graph.edges if edge.kind is EdgeKind.DOWNSTREAM and edge.rung is Rung.ASSOCIATED]
    for feature in sorted(features):
        own = [edge for edge in later if edge.source == feature]
        drawn += sorted(own, key=lambda edge: -_size(edge))[:DRAWN_LATER]
    concepts = {f"concept:{answer.removeprefix('outcome:')}" for answer in answers}
    drawn += [
        edge
        for edge in graph.edges
        if (edge.kind is EdgeKind.CONFIRMED and edge.source in concepts and edge.target in features)
        or (edge.kind is EdgeKind.ERROR and edge.target in answers)
        or (edge.layer is Layer.INTERVENTION and edge.kind in _PAIRS and {edge.source, edge.target} <= features)
    ]
    edges = tuple(edge for edge in graph.edges if edge in set(drawn))
    ends = {end for edge in edges for end in (edge.source, edge.target)}
    passing = [edge for edge in graph.edges if edge.layer is Layer.INTERVENTION and edge.rung is Rung.CAUSAL] + later
    return Network(
        tuple(node for node in graph.nodes if node.id in ends), edges, sum(edge not in set(edges) for edge in passing)
    )


def _size(edge: Edge) -> float:
    return 0.0 if edge.effect is None else abs(edge.effect.value)


def network_view(network: Network, names: Names) -> Chart:
    """Return the drawing; its text alternative names every edge."""
    layers = sorted({node.layer for node in network.nodes if node.layer is not None})
    first = (_("concept"),) if any(node.kind is NodeKind.CONCEPT for node in network.nodes) else ()
    places = {layer: place for place, layer in enumerate(layers, start=len(first))}
    last = len(layers) + len(first)
    titles = {node.id: _title(node, names) for node in network.nodes}
    nodes = tuple(
        NetworkNode(
            node.id,
            node.kind,
            0 if node.kind is NodeKind.CONCEPT else last if node.kind is NodeKind.OUTCOME else places[node.layer or 0],
            titles[node.id],
        )
        for node in _in_rows(network)
    )
    title = _("From concept to answer: confirmed associations and what interventions changed")
    spoken = "; ".join(
        _(
            "{source} to {target}: {kind} {label}",
            source=titles[edge.source],
            target=titles[edge.target],
            kind=word(edge.kind),
            label=_label(edge),
        ).rstrip()
        for edge in network.edges
    )
    left_out = (
        " "
        + plural(
            network.left_out,
            "{count} more effect is in the evidence, table “edge”, and not drawn.",
            "{count} more effects are in the evidence, table “edge”, and not drawn.",
        )
        if network.left_out
        else ""
    )
    return Chart(
        id=_CHART,
        svg=network_chart(
            nodes,
            tuple(
                NetworkEdge(edge.source, edge.target, edge.kind, _label(edge))
                for edge in dict.fromkeys(_strongest(network.edges))
            ),
            (*first, *(_("layer {number}", number=layer) for layer in layers), _("answer about")),
            chart_id=_CHART,
            title=f"{title}. {spoken}.",
            description=_("The table below has the numbers."),
        ),
        title=title,
        description=spoken,
        caption=(
            _(
                "{title}. Numbers on solid blue lines are nats; the share at an error node is its effect beside the"
                " confirmed features set to zero: what no feature explains. Thin green lines are associated only: their"
                " shams are too few for more. Grey dashed lines are associations and show no use.",
                title=title,
            )
            + left_out
        ),
    )


def network_table(network: Network, names: Names) -> Table:
    """Return the numbers behind the drawing, a row an edge."""
    titles = {node.id: _title(node, names, whole_name=True) for node in network.nodes}
    rows = tuple(_row(edge, titles) for edge in network.edges)
    return Table(
        id="network-table",
        query=GRAPH,
        caption=_("The numbers behind the drawing"),
        columns=(
            Column(_("From")),
            Column(_("To")),
            Column(_("What was found")),
            Column(_("Layer of evidence")),
            Column(_("Effect, 95% interval"), numeric=True),
            Column(_("Unit")),
            Column(_("Corrected p or q"), numeric=True),
        ),
        rows=rows,
        printed=rows[:PRINTED_EDGES],
        cut=cut_words(min(PRINTED_EDGES, len(rows)), len(rows), _("The first lines")),
        layout="edges",
    )


def _row(edge: Edge, titles: dict[str, str]) -> Row:
    effect = _("infinite")
    if edge.effect is not None:
        # Changes of an answer are far below the second place.
        places = 3 if edge.unit == NATS else 2
        effect = f"{signed(edge.effect.value, places)} {interval(edge.effect, places)}"
    return Row(
        (
            Cell(titles[edge.source]),
            Cell(titles[edge.target]),
            Cell(_edge_words(edge)),
            Cell(word(edge.layer)),
            Cell(effect),
            Cell(word(edge.unit)),
            Cell(_("not tested") if edge.p_adjusted is None else probability(edge.p_adjusted)),
        )
    )


def _edge_words(edge: Edge) -> str:
    kind = _(EDGES[edge.kind])
    return kind if edge.share is None else _("{kind}, share {share}", kind=kind, share=share(edge.share))


def _title(node: Node, names: Names, *, whole_name: bool = False) -> str:
    """Return a node's name; features are numbers, and where the column does not say it the instrument is added."""
    at = names.short_place(node.sae) if node.sae is not None and whole_name else ""
    if node.kind is NodeKind.FEATURE:
        return _("feature {latent}", latent=node.latent) + (f" ({at})" if at else "")
    if node.kind is NodeKind.ERROR:
        return _("error of the instrument") if not at else _("error of the instrument at {at}", at=at)
    concept = node.id.partition(":")[2]
    return (
        _("answer: {concept}", concept=names.title(concept))
        if whole_name and node.kind is NodeKind.OUTCOME
        else names.title(concept)
    )


def _label(edge: Edge) -> str:
    if edge.kind is EdgeKind.CAUSAL and edge.effect is not None:
        return signed(edge.effect.value, 3)
    return share(edge.share) if edge.share is not None else ""


def _strongest(edges: Sequence[Edge]) -> list[Edge]:
    """Return one edge for each two nodes and kind: a feature confirmed in both contrasts is one line."""
    kept: dict[tuple[str, str, EdgeKind], Edge] = {}
    for edge in edges:
        key = (edge.source, edge.target, edge.kind)
        if key not in kept or _size(edge) > _size(kept[key]):
            kept[key] = edge
    return list(kept.values())


def _in_rows(network: Network) -> list[Node]:
    """Return the nodes in the order in which they stand: beside what they are tied to, errors last."""
    anchors = [node.id.partition(":")[2] for node in network.nodes if node.kind is NodeKind.OUTCOME]
    height = {f"outcome:{concept}": float(place) for place, concept in enumerate(anchors)}
    height |= {f"concept:{concept}": float(place) for place, concept in enumerate(anchors)}
    for kinds in ((EdgeKind.CAUSAL,), (EdgeKind.DOWNSTREAM,)):
        known = dict(height)
        for node in network.nodes:
            if node.id in known:
                continue
            tied = [known[end] for edge in network.edges if edge.kind in kinds for end in _other_end(edge, node.id)
                    if end in known]  # fmt: skip
            if tied:
                height[node.id] = sum(tied) / len(tied)
    return sorted(network.nodes, key=lambda node: (node.kind is NodeKind.ERROR, height.get(node.id, 0.0)))


def _other_end(edge: Edge, node: str) -> tuple[str, ...]:
    if node == edge.source:
        return (edge.target,)
    return (edge.source,) if node == edge.target else ()
