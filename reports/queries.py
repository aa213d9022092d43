"""Names of the queries behind the printed figures; each is a file of `audit/evidence/sql/queries`."""

from __future__ import annotations

SCORES = "scenario_scores, scenario_residuals"
OUTCOMES = "outcome_scores"
FIDELITY = "fidelity_moments, fidelity_sparsity, fidelity_splice, feature_density"
EXCLUSIONS = "exclusions"
CARDS = "feature_density, card_contexts, context_tokens, token_use, token_counts, topic_scenarios, topic_scores"
