"""What an audit did not look at, in plain sentences; they follow from what was run."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import CausalResult, SuiteRecord

_ALWAYS = (
    "Interactions of three or more features or concepts, and of concepts that no mix joins.",
    "Other sites: only the sites of the named SAEs were read.",
    "Other languages and longer dialogues: every prompt is one English user turn.",
)


def not_tested(suites: Sequence[SuiteRecord], causal: CausalResult) -> tuple[str, ...]:
    """Return the sentences, those of this audit first.

    Args:
        suites: what was run of each.
        causal: what was intervened on, and what was left out.
    """
    parts = dict.fromkeys(suite.subset for suite in suites if suite.subset is not None)
    left_out = tuple(f"Other concepts of the suites: only the part “{name}” of each suite was run." for name in parts)
    if not any(suite.mixes for suite in suites):
        left_out += ("Interaction: no prompt mixed two sensitive concepts.",)
    if not causal.effects:
        left_out += ("Causal effect: no feature was lowered, so no finding says that the model uses a feature.",)
    elif causal.untested:
        number = sum(item.count for item in causal.untested)
        left_out += (f"Causal effect: {number} tests of features or pairs; “what was left out” has their reasons.",)
    return (*left_out, *_ALWAYS)
