"""What interventions on features did to the model's answers, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from audit.records.words import Contrast, Estimate, Rung


class PairWord(StrEnum):
    """What two features do together beyond what each does alone."""

    SYNERGY = "synergy"
    REDUNDANCY = "redundancy"


@dataclass(frozen=True, slots=True)
class ShamTest:
    """How many meaningless interventions of the same size did as much: p = (1 + exceeding) / (1 + count).

    For one feature a sham is a random direction of equal norm at every position; for a pair, two features that fire in
    the same prompts, matched in norm and decoder cosine. Shams run on `n_scenarios` of the scenarios, and `effect`
    (nats) is the mean on these of what is claimed. `exact` of the shams were run. Where the screen was accepted the
    others' first-order estimates were far below the effect; or, with `exact` 0, so many estimates were above it that
    nothing can be claimed, and `exceeding` counts these. `level` is what p must not exceed: that of the audit over the
    number of sham tests of the SAE (Bonferroni).
    """

    count: int
    exact: int
    exceeding: int
    p_value: float
    level: float
    effect: float
    n_scenarios: int


@dataclass(frozen=True, slots=True)
class CausalEffect:
    """What lowering one feature to its level in the matched arm does to the model's answer; exact, never estimated.

    `effect` is the outcome (logit of the target minus that of the foil, in nats) of the untouched model minus that of
    the changed one, mean over confirmation scenarios: above 0 the feature speaks for the target. `effect_zero` is the
    same with the feature set to zero. `kl` (nats) is of the next-token distribution, untouched from changed.
    `reference` names the matched arm. `shams` is None where the sign-flip test already failed, or where the budget
    ended. Where there was anything to lower in so few scenarios that no test could pass, the rung is `unresolved`.
    """

    id: str
    concept: str
    contrast: Contrast
    sae: str
    latent: int
    reference: str
    effect: Estimate
    effect_zero: Estimate
    kl: Estimate
    p_value: float
    p_holm: float
    shams: ShamTest | None
    rung: Rung
    reason: str
    n_scenarios: int
    n_changed: int


@dataclass(frozen=True, slots=True)
class CausalPair:
    """What two features do together to the answer to one concept's question about a mix.

    `interaction` is I = y11 - y10 - y01 + y00 (the Harsanyi dividend; y00 has both features lowered), in nats, mean
    over confirmation scenarios: above 0 synergy, below 0 redundancy. `word` is None where nothing is claimed.
    """

    id: str
    mix: str
    question: str
    sae: str
    first: int
    second: int
    first_effect: Estimate
    second_effect: Estimate
    interaction: Estimate
    p_value: float
    p_holm: float
    shams: ShamTest | None
    word: PairWord | None
    rung: Rung
    reason: str
    n_scenarios: int


@dataclass(frozen=True, slots=True)
class ScreenCheck:
    """Whether the first-order estimate may choose what is measured: it agrees with exact values on a random set.

    `subject` is "features" or "pairs". `agreement` is the share of equal signs, `within` that of exact values at most
    twice their estimate: a larger one could hide behind an estimate that is not run. None where nothing could be
    compared.
    """

    sae: str
    subject: str
    compared: int
    spearman: float | None
    agreement: float | None
    within: float | None
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class DownstreamEdge:
    """What lowering a feature does to a feature of a later SAE: the fall of its maximum, mean over scenarios.

    `q_value` is Benjamini-Hochberg over all edges that were tested. `exceeds_shams`: the absolute mean is above that of
    every sham that was run for the upstream feature; None where fewer than 19 were run.
    """

    concept: str
    sae: str
    latent: int
    downstream_sae: str
    downstream_latent: int
    effect: Estimate
    p_value: float
    q_value: float
    exceeds_shams: bool | None


@dataclass(frozen=True, slots=True)
class ErrorNode:
    """What the SAE leaves out: the effect on the answer of taking its error away, and its share.

    `share` is |effect| over the sum of |effect| of the error and of the confirmed features that were tested alone
    there, each set to zero: the same kind of removal.
    """

    concept: str
    sae: str
    effect: Estimate
    share: float


@dataclass(frozen=True, slots=True)
class Dose:
    """One strength of a suppression: what it does to the answer, what it costs elsewhere, beside random features.

    Every number is changed minus untouched, mean over prompts. `outcome` (nats) is on concept prompts.
    `control_outcome`, `control_kl` and `control_loss` (nats) are on the matched control prompts. The `sham_` numbers
    are means over sets of random live features, pushed in the same way and scaled to the length of the set's own push;
    `sham_outcomes` holds each set's mean outcome change. Sham sets run on `n_beside` of the scenarios; `outcome_beside`
    (nats) is the set's own mean outcome change on these, the number that `sham_outcomes` may be held against.
    """

    dose: float
    outcome: Estimate
    control_outcome: Estimate
    control_kl: Estimate
    control_loss: Estimate
    outcome_beside: float
    n_beside: int
    sham_outcomes: tuple[float, ...]
    sham_control_kl: float
    sham_control_loss: float
    texts_changed: float


@dataclass(frozen=True, slots=True)
class Continuation:
    """A text that the model wrote after one prompt, untouched and under a dose; greedy decoding."""

    prompt: str
    dose: float
    untouched: str
    changed: str


@dataclass(frozen=True, slots=True)
class Suppression:
    """Explain, then control: a set of features held down while the model answers.

    `maxima` are the largest activations seen in the audit, the unit of the doses.
    """

    concept: str
    sae: str
    latents: tuple[int, ...]
    maxima: tuple[float, ...]
    n_scenarios: int
    doses: tuple[Dose, ...]
    continuations: tuple[Continuation, ...]


@dataclass(frozen=True, slots=True)
class Untested:
    """What was left out, how many of them, and why."""

    what: str
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class CausalSpending:
    """The limit of the causal tests in the user's words, and what they took.

    One forward-equivalent is the work of all layers of the model on one prompt of average length.
    """

    limit: str
    forward_equivalents: float


@dataclass(frozen=True, slots=True)
class CausalResult:
    """All interventions on single features, with what they cost; those on pairs stand with their mix."""

    effects: tuple[CausalEffect, ...]
    screens: tuple[ScreenCheck, ...]
    edges: tuple[DownstreamEdge, ...]
    errors: tuple[ErrorNode, ...]
    suppressions: tuple[Suppression, ...]
    untested: tuple[Untested, ...]
    spending: CausalSpending
