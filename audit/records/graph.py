"""What the audit found, as nodes and edges: concepts, mixes, features, what an SAE leaves out, and answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from audit.records.words import Estimate, Rung


class NodeKind(StrEnum):
    """What a node stands for."""

    CONCEPT = "concept"
    MIX = "mix"
    FEATURE = "feature"
    ERROR = "error"
    OUTCOME = "outcome"


class EdgeKind(StrEnum):
    """What an edge says. `associated` was not confirmed; `downstream` leads to a feature of a later SAE."""

    ASSOCIATED = "associated"
    CONFIRMED = "confirmed"
    CAUSAL = "causal"
    DOWNSTREAM = "downstream"
    SYNERGY = "synergy"
    REDUNDANCY = "redundancy"
    SUPPRESSION = "suppression"
    FACILITATION = "facilitation"
    EMERGENT = "emergent"
    CO_FIRING = "co-firing"
    ERROR = "error"


class Layer(StrEnum):
    """How an edge was come by: seen, compared between texts, or done to the model. They are never mixed."""

    OBSERVATION = "observation"
    CONTRAST = "contrast"
    INTERVENTION = "intervention"


@dataclass(frozen=True, slots=True)
class Node:
    """One thing; `layer` counts the model's layers from 0. `label` is a title, or a feature's scored label if any."""

    id: str
    kind: NodeKind
    sae: str | None
    site: str | None
    layer: int | None
    latent: int | None
    label: str


@dataclass(frozen=True, slots=True)
class Edge:
    """One thing that was measured between two nodes.

    Co-firing and pairs have no direction; the feature with the smaller number is the source. `within` names the
    contrast, the mix or the question that the edge was measured in, and is empty where the nodes say it. `effect` is in
    `unit` and None where it is infinite. `p_adjusted` is Holm's p, or the q of a false discovery rate, in the edge's
    own family. `share` is that of an error node. What stands on no higher rung than `associated` was not confirmed.
    """

    source: str
    target: str
    kind: EdgeKind
    layer: Layer
    within: str
    effect: Estimate | None
    unit: str
    p_value: float | None
    p_adjusted: float | None
    share: float | None
    rung: Rung


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes by kind and place, and edges by layer and strength of claim; every edge's ends are nodes."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
