"""The graph holds what was claimed, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from audit.errors import EvidenceError
from audit.evidence.store import answer, create_store
from audit.graph import deciding_effect, graph_of, graph_rows, layer_of
from audit.records import (
    Edge,
    EdgeKind,
    Estimate,
    Findings,
    Graph,
    Layer,
    MixEffect,
    MixMeasure,
    MixWord,
    NodeKind,
    Rung,
    as_json,
    parse_record,
)
from tests.reports.fixtures.audits import make_findings
from tests.reports.fixtures.basics import OTHER_SAE, SAE


@pytest.fixture(scope="module")
def findings() -> Findings:
    """The record with every case."""
    return make_findings()


@pytest.fixture(scope="module")
def graph(findings: Findings) -> Graph:
    """Its graph."""
    return graph_of(findings)


def only(graph: Graph, kind: EdgeKind, layer: Layer) -> list[Edge]:
    """Return the edges of one kind in one layer of evidence."""
    return [edge for edge in graph.edges if edge.kind is kind and edge.layer is layer]


def test_a_causal_edge_is_a_causal_claim(graph: Graph) -> None:
    """Of six effects that were measured three are causal; the null, the weak and the unfinished have no edge."""
    edges = only(graph, EdgeKind.CAUSAL, Layer.INTERVENTION)
    assert [(edge.source, edge.target, edge.unit) for edge in edges] == [
        (f"feature:{SAE}/100", "outcome:dosing_error", "nats"),
        (f"feature:{SAE}/211", "outcome:dosing_error", "nats"),
        (f"feature:{SAE}/3071", "outcome:insider_trading", "nats"),
    ]
    assert {edge.rung for edge in edges} == {Rung.CAUSAL}
    assert edges[0].effect is not None
    assert (edges[0].effect.value, edges[0].p_value, edges[0].p_adjusted) == (0.22, 0.0002, 0.0024)


def test_associations_keep_their_rung(graph: Graph) -> None:
    """What discovery chose without confirmation is marked so; what is unresolved or observed only has no edge."""
    confirmed = only(graph, EdgeKind.CONFIRMED, Layer.CONTRAST)
    weaker = only(graph, EdgeKind.ASSOCIATED, Layer.CONTRAST)
    assert Counter(edge.source for edge in confirmed) == {"concept:dosing_error": 7, "concept:insider_trading": 1}
    assert Counter(edge.source for edge in weaker) == {"concept:dosing_error": 5, "concept:insider_trading": 1}
    assert {edge.rung for edge in confirmed} == {Rung.CONFIRMED}
    assert {edge.rung for edge in weaker} == {Rung.ASSOCIATED}
    assert {edge.unit for edge in confirmed + weaker} == {"d_z"}


def test_pairs_and_mixes_stand_in_their_own_layers(graph: Graph) -> None:
    """Synergy of a pair is an intervention between features; synergy in a mix is a contrast from the mix."""
    (pair,) = only(graph, EdgeKind.SYNERGY, Layer.INTERVENTION)
    assert (pair.source, pair.target) == (f"feature:{SAE}/100", f"feature:{SAE}/211")
    assert pair.within == "dosing_insider/dosing_error"
    (redundant,) = only(graph, EdgeKind.REDUNDANCY, Layer.INTERVENTION)
    assert redundant.effect is not None
    assert redundant.effect.value == -0.21
    mixed = only(graph, EdgeKind.SYNERGY, Layer.CONTRAST)
    # Eleven confirmed features; the twelfth with the word is associated only.
    assert len(mixed) == 11
    assert {edge.source for edge in mixed} == {"mix:dosing_insider"}
    assert {edge.within for edge in mixed} == {"additive"}
    (emergent,) = only(graph, EdgeKind.EMERGENT, Layer.CONTRAST)
    assert emergent.unit == "share of scenarios"


def test_facilitation_shows_a_number_above_zero(findings: Findings) -> None:
    """Suppressed on A's words (p 0.001), facilitated on B's (p 0.02): it rests on B's, or on none where both fall."""
    found = next(f for f in findings.mixes[0].scans[0].findings if f.words == (MixWord.FACILITATION,))
    down = MixEffect(MixMeasure.ALIGNED_A, Estimate(-3.0, -4.0, -2.0), Estimate(-2.0, -3.0, -1.0), 0.0005, 0.001)
    up = MixEffect(MixMeasure.ALIGNED_B, Estimate(1.5, 1.0, 2.0), Estimate(1.0, 0.5, 1.5), 0.01, 0.02)
    assert deciding_effect(replace(found, effects=(down, up)), MixWord.FACILITATION) == up
    assert deciding_effect(replace(found, effects=(down,)), MixWord.FACILITATION) is None


def test_features_that_fire_apart_have_no_edge(findings: Findings) -> None:
    """Of three flagged pairs one fires together: 60 where 11.25 are expected; 2 of 12, and 12 of 12, are no edge."""
    shown = findings.cofiring[0]
    together = shown.top[0]
    apart = replace(together, first=7, second=8, observed=2, expected=12.0, odds_ratio=Estimate(0.1, 0.02, 0.5))
    even = replace(apart, first=9, second=10, observed=12)
    graph = graph_of(replace(findings, cofiring=(replace(shown, top=(apart, together, even)),)))
    assert [edge.source for edge in only(graph, EdgeKind.CO_FIRING, Layer.OBSERVATION)] == [f"feature:{SAE}/100"]


def test_a_later_feature_is_associated_beyond_shams_and_within_q_only(findings: Findings, graph: Graph) -> None:
    """Six of eighteen exceed every sham, of which there may be 19 only; one of them with q above the limit is seen."""
    edges = only(graph, EdgeKind.DOWNSTREAM, Layer.INTERVENTION)
    assert Counter(edge.rung for edge in edges) == {Rung.ASSOCIATED: 6, Rung.OBSERVED: 12}
    assert findings.causal is not None
    first, *others = findings.causal.edges
    doubtful = replace(findings, causal=replace(findings.causal, edges=(replace(first, q_value=0.06), *others)))
    again = only(graph_of(doubtful), EdgeKind.DOWNSTREAM, Layer.INTERVENTION)
    assert Counter(edge.rung for edge in again) == {Rung.ASSOCIATED: 5, Rung.OBSERVED: 13}


def test_the_error_has_its_share_and_no_claim(graph: Graph) -> None:
    """One error node an SAE, an edge an answer, with the share and without a p."""
    edges = only(graph, EdgeKind.ERROR, Layer.INTERVENTION)
    assert {(edge.source, edge.target, edge.share) for edge in edges} == {
        (f"error:{SAE}", "outcome:dosing_error", 0.521),
        (f"error:{SAE}", "outcome:insider_trading", 0.263),
    }
    assert all(edge.p_value is None and edge.rung is Rung.OBSERVED for edge in edges)


def test_cofiring_is_observed_and_may_be_infinite(graph: Graph) -> None:
    """Listed pairs are edges of the lowest layer; an infinite odds ratio has no number."""
    edges = only(graph, EdgeKind.CO_FIRING, Layer.OBSERVATION)
    assert len(edges) == 14
    assert [edge.target for edge in edges if edge.effect is None] == [f"feature:{SAE}/214"]
    assert {edge.rung for edge in edges} == {Rung.OBSERVED}


def test_every_end_is_a_node_with_its_place(graph: Graph) -> None:
    """No edge hangs loose, ids are unique, and features know site, layer and label."""
    nodes = {node.id: node for node in graph.nodes}
    assert len(nodes) == len(graph.nodes)
    assert {end for edge in graph.edges for end in (edge.source, edge.target)} <= set(nodes)
    feature = nodes[f"feature:{OTHER_SAE}/4011"]
    assert (feature.kind, feature.site, feature.layer, feature.latent) == (NodeKind.FEATURE, "resid_post.20", 20, 4011)
    assert nodes[f"feature:{SAE}/100"].label == "“dose”, “mg”"
    assert nodes["outcome:dosing_error"].label.startswith("Was the medicine given")
    # This concept has no question, so it has no answer that anything could change.
    assert "outcome:civilian_harm" not in nodes


def test_order_depends_on_contents_alone(findings: Findings, graph: Graph) -> None:
    """Records in another order give the same graph."""
    assert findings.causal is not None
    turned = replace(
        findings,
        concepts=tuple(reversed(findings.concepts)),
        mixes=tuple(reversed(findings.mixes)),
        cofiring=tuple(reversed(findings.cofiring)),
        causal=replace(
            findings.causal,
            effects=tuple(reversed(findings.causal.effects)),
            edges=tuple(reversed(findings.causal.edges)),
            errors=tuple(reversed(findings.causal.errors)),
        ),
    )
    assert graph_of(turned) == graph


def test_an_unknown_sae_is_refused(findings: Findings) -> None:
    """A result through an SAE that the findings do not describe has no place in the graph."""
    with pytest.raises(EvidenceError) as caught:
        graph_of(replace(findings, saes=findings.saes[:1]))
    assert OTHER_SAE in str(caught.value)


def test_nothing_measured_gives_concepts_only(findings: Findings) -> None:
    """Without findings, mixes and interventions there are concepts and their answers, and no edge."""
    bare = replace(
        findings,
        concepts=tuple(replace(concept, contrasts=()) for concept in findings.concepts),
        mixes=(),
        cofiring=(),
        causal=None,
    )
    graph = graph_of(bare)
    assert graph.edges == ()
    assert Counter(node.kind for node in graph.nodes) == {NodeKind.CONCEPT: 3, NodeKind.OUTCOME: 2}


def test_the_evidence_answers_about_the_graph(tmp_path: Path, graph: Graph) -> None:
    """The rows fit the tables, nothing is lost, and absent numbers are NULL."""
    rows = graph_rows(graph)
    with create_store(tmp_path) as store:
        store.insert("node", rows.nodes)
        store.insert("edge", rows.edges)
    counts = answer(tmp_path, "SELECT (SELECT count(*) FROM node), (SELECT count(*) FROM edge)")
    assert counts.rows == ((len(graph.nodes), len(graph.edges)),)
    nulls = answer(tmp_path, "SELECT count(*) FROM node WHERE kind = 'concept' AND latent IS NULL AND layer IS NULL")
    assert nulls.rows == ((3,),)
    path = answer(
        tmp_path,
        "SELECT cause.effect, answer.effect FROM edge AS cause JOIN edge AS answer ON answer.source = cause.target"
        " JOIN node ON node.node = cause.target WHERE cause.kind = 'confirmed' AND answer.kind = 'causal'"
        " AND node.latent = 3071 AND node.layer = 15",
    )
    assert path.rows == ((1.12, 0.31),)
    infinite = answer(tmp_path, "SELECT count(*) FROM edge WHERE kind = 'co-firing' AND effect IS NULL AND low IS NULL")
    assert infinite.rows == ((1,),)


def test_the_graph_survives_json(graph: Graph) -> None:
    """The records go to plain values and back."""
    assert parse_record(Graph, as_json(graph)) == graph


@pytest.mark.parametrize(
    ("site", "layer"), [("resid_post.15", 15), ("mlp_out.2", 2), ("embed", None), ("blocks.7.attn", 7)]
)
def test_layers_of_sites(site: str, layer: int | None) -> None:
    """The number in a site's name is its layer; a name without one has none."""
    assert layer_of(site) == layer
