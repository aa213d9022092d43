"""The plain-language words of the chapters on interactions and interventions."""

from __future__ import annotations

from audit.records import EdgeKind, Layer, MixMeasure, MixWord, PairWord
from reports.language import N_

LAYER_NAMES: dict[Layer, str] = {
    Layer.OBSERVATION: N_("Co-firing (observed)"),
    Layer.CONTRAST: N_("In a mix (contrast)"),
    Layer.INTERVENTION: N_("Changed (intervention)"),
}

LAYER_MEANINGS: dict[Layer, str] = {
    Layer.OBSERVATION: N_(
        "Two features react in the same texts more often, or less, than their rates explain. Nothing was compared"
        " and nothing was changed: it may only mean that the texts go together, or that the instrument split one"
        " thing in two, of which a decoder cosine near 1 is a sign."
    ),
    Layer.CONTRAST: N_(
        "The same words are read with the other concept beside them, with filler in its place, and with a harmless"
        " third subject in its place (the placebo). It shows that a feature reacts to the combination. It does not"
        " show that the model uses the feature when it answers."
    ),
    Layer.INTERVENTION: N_(
        "Features are changed inside the model, and what happens to its answer is measured. Only this layer speaks"
        " about use, and only for these texts and this question."
    ),
}

NEVER_MIXED = N_(
    "There are three ways to look at how features work together, and each answers a question of its own: do they react"
    " in the same texts (observed); does a feature react to two concepts together otherwise than to each alone"
    " (contrast); does the answer change when they are changed (intervention). A result of one layer is never counted"
    " as support for a claim in another: features that fire together need not act together, and a feature that reacts"
    " to a mix need not be used. “Tested, none found” says that so many things were tested and that none of them"
    " passed; “unresolved” and “untested” say that there is no answer, and are never a pass."
)

MIX_WORDS: dict[MixWord, str] = {
    MixWord.SYNERGY: N_(
        "The feature reacts more to both concepts together than its reactions to each alone add up to."
    ),
    MixWord.SUPPRESSION: N_(
        "It reacts less to both together than its reactions to each alone add up to, and less to a concept's"
        " own words when the other concept came before."
    ),
    MixWord.FACILITATION: N_("It reacts more to a concept's own words when the other concept came before."),
    MixWord.EMERGENT: N_("It reacts to both together, and hardly ever to one alone."),
}

PAIR_WORDS: dict[PairWord, str] = {
    PairWord.SYNERGY: N_("The two features together do more to the answer than each adds by itself."),
    PairWord.REDUNDANCY: N_(
        "Together they do less than the sum of both; where one is left, it stands in for the other."
    ),
}

MEASURE_WORDS: dict[MixMeasure, str] = {
    MixMeasure.ALIGNED_A: N_("first concept's words"),
    MixMeasure.ALIGNED_B: N_("second concept's words"),
    MixMeasure.ADDITIVE: N_("both beyond each"),
    MixMeasure.EMERGENT: N_("fires on both only"),
}

EDGES: dict[EdgeKind, str] = {
    EdgeKind.ASSOCIATED: N_("associated, not confirmed"),
    EdgeKind.CONFIRMED: N_("confirmed association"),
    EdgeKind.CAUSAL: N_("changes the answer"),
    EdgeKind.DOWNSTREAM: N_("moves a later feature (associated)"),
    EdgeKind.SYNERGY: N_("synergy"),
    EdgeKind.REDUNDANCY: N_("redundancy"),
    EdgeKind.SUPPRESSION: N_("suppression"),
    EdgeKind.FACILITATION: N_("facilitation"),
    EdgeKind.EMERGENT: N_("emergent"),
    EdgeKind.CO_FIRING: N_("fires together"),
    EdgeKind.ERROR: N_("what the instrument leaves out"),
}

NO_MIXES = N_(
    "No prompt that mixes two concepts was run in this audit, so nothing is said about what happens when concepts meet;"
    " this is not a pass. The chapter “What was not tested” lists what was left out."
)
NO_COFIRING = N_("Which features fire together was not measured in this audit.")
NO_INTERVENTION = N_(
    "No feature was changed in this audit, so nothing in this report says that the model uses a feature; this is not a"
    " pass. The chapter “What was not tested” lists what was left out."
)
