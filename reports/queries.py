"""Names of the queries behind the printed figures; each is a file of `audit/evidence/sql/queries`."""

from __future__ import annotations

SCORES = "scenario_scores, scenario_residuals"
OUTCOMES = "outcome_scores"
FIDELITY = "fidelity_moments, fidelity_sparsity, fidelity_splice, feature_density"
EXCLUSIONS = "exclusions"
CARDS = "feature_density, card_contexts, context_tokens, token_use, token_counts, topic_scenarios, topic_scores"
COFIRING = "firing_units"
MIXES = "mix_scenarios, mix_features"
EFFECTS = "causal_effects, causal_shams"
PAIRS = "causal_interactions, causal_shams"
EDGES = "causal_edges, causal_shams"
SCREENS = "causal_screens"
DOSES = "control_doses"
GRAPH = "graph_edges"
LADDER = "finding_rungs"
