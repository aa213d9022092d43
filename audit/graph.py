"""Draws the results together: which concept, through which feature, to which answer, and in which layer of evidence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from audit.errors import EvidenceError
from audit.records import (
    CausalPair,
    CoFiring,
    DownstreamEdge,
    Edge,
    EdgeKind,
    Findings,
    Graph,
    Layer,
    MixEffect,
    MixFinding,
    MixMeasure,
    MixWord,
    Node,
    NodeKind,
    PairWord,
    Rung,
)

# The false discovery rate at which a feature of a later SAE may be said to follow (method, section 3).
DOWNSTREAM_Q = 0.05

D_Z = "d_z"
NATS = "nats"
ODDS_RATIO = "odds ratio"
ACTIVATION = "activation"
SHARE_OF_SCENARIOS = "share of scenarios"
_PAIR_KINDS = {PairWord.SYNERGY: EdgeKind.SYNERGY, PairWord.REDUNDANCY: EdgeKind.REDUNDANCY}
_MIX_KINDS = {
    MixWord.SYNERGY: EdgeKind.SYNERGY,
    MixWord.SUPPRESSION: EdgeKind.SUPPRESSION,
    MixWord.FACILITATION: EdgeKind.FACILITATION,
    MixWord.EMERGENT: EdgeKind.EMERGENT,
}
_DECISIVE = {
    MixWord.SYNERGY: (MixMeasure.ADDITIVE,),
    MixWord.SUPPRESSION: (MixMeasure.ADDITIVE,),
    MixWord.FACILITATION: (MixMeasure.ALIGNED_A, MixMeasure.ALIGNED_B),
    MixWord.EMERGENT: (MixMeasure.EMERGENT,),
}
_NODE_KINDS, _EDGE_KINDS, _LAYERS = (
    {member: place for place, member in enumerate(kind)} for kind in (NodeKind, EdgeKind, Layer)
)
_LAYER = re.compile(r"\.(\d+)(?:\.|$)")


@dataclass(frozen=True, slots=True)
class GraphRows:
    """The rows of the tables `node` and `edge` of the evidence."""

    nodes: tuple[Mapping[str, object], ...]
    edges: tuple[Mapping[str, object], ...]


def concept_node(concept: str) -> str:
    """Return the id of a concept's node."""
    return f"concept:{concept}"


def mix_node(mix: str) -> str:
    """Return the id of a mix's node."""
    return f"mix:{mix}"


def feature_node(sae: str, latent: int) -> str:
    """Return the id of a feature's node."""
    return f"feature:{sae}/{latent}"


def error_node(sae: str) -> str:
    """Return the id of the node for what an SAE leaves out."""
    return f"error:{sae}"


def outcome_node(concept: str) -> str:
    """Return the id of the node for the answer to a concept's question."""
    return f"outcome:{concept}"


def graph_of(findings: Findings) -> Graph:
    """Return what the audit found as a graph.

    An edge stands for a claim, with exceptions that their rung tells: an association that was not confirmed; an effect
    on a later feature, which is associated where it passes and exceeds its shams, and observed elsewhere; and the
    effect of an SAE's error, which is measured but not tested. What was tested without a claim has no edge. A pair of
    features is an edge of co-firing where the findings list it and it fires together more often than its rates explain.

    Args:
        findings: the result of an audit.

    Returns:
        Nodes for every concept, every concept's answer that was measured, and whatever an edge names. The order
        depends on the contents alone.

    Raises:
        EvidenceError: a result names an SAE that the findings do not describe.
    """
    edges = tuple(sorted(dict.fromkeys(_all_edges(findings)), key=_edge_order))
    return Graph(tuple(sorted(_nodes(findings, edges), key=_node_order)), edges)


def graph_rows(graph: Graph) -> GraphRows:
    """Return the rows for the evidence tables `node` and `edge`."""
    return GraphRows(
        tuple(
            {
                "node": node.id,
                "kind": node.kind.value,
                "sae": node.sae,
                "site": node.site,
                "layer": node.layer,
                "latent": node.latent,
                "label": node.label,
            }
            for node in graph.nodes
        ),
        tuple(
            {
                "source": edge.source,
                "target": edge.target,
                "kind": edge.kind.value,
                "layer": edge.layer.value,
                "within": edge.within,
                "effect": None if edge.effect is None else edge.effect.value,
                "low": None if edge.effect is None else edge.effect.low,
                "high": None if edge.effect is None else edge.effect.high,
                "unit": edge.unit,
                "p_value": edge.p_value,
                "p_adjusted": edge.p_adjusted,
                "share": edge.share,
                "rung": edge.rung.value,
            }
            for edge in graph.edges
        ),
    )


def _all_edges(findings: Findings) -> Iterator[Edge]:
    yield from _associations(findings)
    for mix in findings.mixes:
        for scan in mix.scans:
            for finding in scan.findings:
                yield from _mix_edges(finding)
        for pair in mix.pairs:
            yield from _pair_edges(pair)
    yield from _interventions(findings)
    for cofiring in findings.cofiring:
        yield from _cofiring_edges(cofiring)


def _associations(findings: Findings) -> Iterator[Edge]:
    for concept in findings.concepts:
        for result in concept.contrasts:
            for found in result.findings:
                if found.rung.height < Rung.ASSOCIATED.height:
                    continue
                # The contrast confirms an association, whatever an intervention showed besides.
                confirmed = found.rung.height >= Rung.CONFIRMED.height
                yield Edge(
                    source=concept_node(concept.id),
                    target=feature_node(found.sae, found.latent),
                    kind=EdgeKind.CONFIRMED if confirmed else EdgeKind.ASSOCIATED,
                    layer=Layer.CONTRAST,
                    within=found.contrast.value,
                    effect=found.d_z,
                    unit=D_Z,
                    p_value=found.p_value,
                    p_adjusted=found.p_holm,
                    share=None,
                    rung=Rung.CONFIRMED if confirmed else Rung.ASSOCIATED,
                )


def _mix_edges(found: MixFinding) -> Iterator[Edge]:
    if found.rung.height < Rung.CONFIRMED.height:
        return
    for word in found.words:
        effect = deciding_effect(found, word)
        if effect is None:
            continue
        yield Edge(
            source=mix_node(found.mix),
            target=feature_node(found.sae, found.latent),
            kind=_MIX_KINDS[word],
            layer=Layer.CONTRAST,
            within=effect.measure.name.lower(),
            effect=effect.effect,
            unit=SHARE_OF_SCENARIOS if effect.measure is MixMeasure.EMERGENT else ACTIVATION,
            p_value=effect.p_value,
            p_adjusted=effect.p_holm,
            share=None,
            rung=found.rung,
        )


def deciding_effect(found: MixFinding, word: MixWord) -> MixEffect | None:
    """Return the measure that a word rests on, or None where the record holds none in the word's direction."""
    direction = -1 if word is MixWord.SUPPRESSION else 1
    fitting = (e for e in found.effects if e.measure in _DECISIVE[word] and direction * e.effect.value > 0)
    return min(fitting, key=_least_p, default=None)


def _least_p(effect: MixEffect) -> tuple[float, float, str]:
    """Order the two aligned measures, of which facilitation needs one: the better tested, the larger first."""
    return effect.p_holm, -effect.effect.value, effect.measure.name


def _pair_edges(pair: CausalPair) -> Iterator[Edge]:
    if pair.word is None or pair.rung is not Rung.CAUSAL:
        return
    first, second = sorted((pair.first, pair.second))
    yield Edge(
        source=feature_node(pair.sae, first),
        target=feature_node(pair.sae, second),
        kind=_PAIR_KINDS[pair.word],
        layer=Layer.INTERVENTION,
        within=f"{pair.mix}/{pair.question}",
        effect=pair.interaction,
        unit=NATS,
        p_value=pair.p_value,
        p_adjusted=pair.p_holm,
        share=None,
        rung=pair.rung,
    )


def _interventions(findings: Findings) -> Iterator[Edge]:
    if findings.causal is None:
        return
    for effect in findings.causal.effects:
        if effect.rung is Rung.CAUSAL:
            yield Edge(
                source=feature_node(effect.sae, effect.latent),
                target=outcome_node(effect.concept),
                kind=EdgeKind.CAUSAL,
                layer=Layer.INTERVENTION,
                within=effect.contrast.value,
                effect=effect.effect,
                unit=NATS,
                p_value=effect.p_value,
                p_adjusted=effect.p_holm,
                share=None,
                rung=effect.rung,
            )
    for edge in findings.causal.edges:
        yield Edge(
            source=feature_node(edge.sae, edge.latent),
            target=feature_node(edge.downstream_sae, edge.downstream_latent),
            kind=EdgeKind.DOWNSTREAM,
            layer=Layer.INTERVENTION,
            within=edge.concept,
            effect=edge.effect,
            unit=ACTIVATION,
            p_value=edge.p_value,
            p_adjusted=edge.q_value,
            share=None,
            rung=Rung.ASSOCIATED if follows(edge) else Rung.OBSERVED,
        )
    for error in findings.causal.errors:
        yield Edge(
            source=error_node(error.sae),
            target=outcome_node(error.concept),
            kind=EdgeKind.ERROR,
            layer=Layer.INTERVENTION,
            within="",
            effect=error.effect,
            unit=NATS,
            p_value=None,
            p_adjusted=None,
            share=error.share,
            rung=Rung.OBSERVED,
        )


def follows(edge: DownstreamEdge) -> bool:
    """Return whether a later feature follows a lowered one: within the false discovery rate and beyond every sham.

    The shams of a later feature are as few as 19, so this is an association and not a causal claim.
    """
    return edge.exceeds_shams is True and edge.q_value <= DOWNSTREAM_Q


def _cofiring_edges(cofiring: CoFiring) -> Iterator[Edge]:
    for pair in cofiring.top:
        if pair.observed <= pair.expected:
            continue
        first, second = sorted((pair.first, pair.second))
        yield Edge(
            source=feature_node(cofiring.sae, first),
            target=feature_node(cofiring.sae, second),
            kind=EdgeKind.CO_FIRING,
            layer=Layer.OBSERVATION,
            within="",
            effect=pair.odds_ratio,
            unit=ODDS_RATIO,
            p_value=None,
            p_adjusted=pair.q_value,
            share=None,
            rung=Rung.OBSERVED,
        )


def _nodes(findings: Findings, edges: tuple[Edge, ...]) -> Iterator[Node]:
    sites = {result.record.name: result.record.site for result in findings.saes}
    labels = _labels(findings)
    questions = {outcome_node(c.id): c.outcome.question for c in findings.concepts if c.outcome is not None}
    mixes = {mix_node(mix.id): mix.title for mix in findings.mixes}
    titles = {concept_node(concept.id): concept.title for concept in findings.concepts}
    for end in {*titles, *questions, *(end for edge in edges for end in (edge.source, edge.target))}:
        kind, _, name = end.partition(":")
        if kind == NodeKind.FEATURE:
            sae, _, number = name.rpartition("/")
            site, latent = _site(sites, sae), int(number)
            label = labels.get((sae, latent), "")
            yield Node(end, NodeKind.FEATURE, sae, site, layer_of(site), latent, label)
        elif kind == NodeKind.ERROR:
            site = _site(sites, name)
            yield Node(end, NodeKind.ERROR, name, site, layer_of(site), None, f"error of {name}")
        else:
            label = {**titles, **questions, **mixes}.get(end, name)
            yield Node(end, NodeKind(kind), sae=None, site=None, layer=None, latent=None, label=label)


def _site(sites: Mapping[str, str], sae: str) -> str:
    if sae not in sites:
        raise EvidenceError(
            item=f"SAE {sae}",
            expected="one of the audit's SAEs",
            found=", ".join(sites) or "none",
            hint="The findings name an SAE that they do not describe; run the audit again.",
        )
    return sites[sae]


def layer_of(site: str) -> int | None:
    """Return the model's layer that a site belongs to, or None where its name has no number."""
    match = _LAYER.search(site)
    return None if match is None else int(match[1])


def _labels(findings: Findings) -> dict[tuple[str, int], str]:
    """Return the first label of each carded feature that was scored on held-out scenarios."""
    labels = {}
    for card in findings.cards:
        scored = [label.text for label in card.labels if label.text is not None and label.score is not None]
        if scored:
            labels[card.sae, card.latent] = scored[0]
    return labels


def _node_order(node: Node) -> tuple[int, int, str, int, str]:
    return (
        _NODE_KINDS[node.kind],
        -1 if node.layer is None else node.layer,
        node.sae or "",
        -1 if node.latent is None else node.latent,
        node.id,
    )


def _edge_order(edge: Edge) -> tuple[int, int, int, str, str, str, str]:
    return (
        -_LAYERS[edge.layer],
        -edge.rung.height,
        _EDGE_KINDS[edge.kind],
        edge.within,
        edge.source,
        edge.target,
        edge.unit,
    )
