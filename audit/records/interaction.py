"""What happens when a prompt mixes two concepts: co-firing is observed, the factorial is a contrast."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from audit.records.causal import CausalPair
from audit.records.fidelity import Fidelity
from audit.records.words import Estimate, Rung


class MixMeasure(StrEnum):
    """What is compared between the cells of a mix. Sums and rates are over kept tokens of matched spans."""

    ALIGNED_A = "the first concept's own tokens after the second concept, minus after filler"
    ALIGNED_B = "the second concept's own tokens after the first concept, minus after filler"
    ADDITIVE = "both together minus each alone plus neither"
    EMERGENT = "share of scenarios above the threshold on both together, minus those on each alone"


class MixWord(StrEnum):
    """What may be said of one feature in one mix."""

    SYNERGY = "synergy"
    SUPPRESSION = "suppression"
    FACILITATION = "facilitation"
    EMERGENT = "emergent"


@dataclass(frozen=True, slots=True)
class MixEffect:
    """One measure of one feature, on confirmation scenarios.

    `against_placebo` is the same measure minus that with the placebo in the second concept's place; a claim needs both
    to pass in one direction, so `p_value` is the larger of their two sign-flip p, and 1 where their directions differ,
    where discovery found another, or where a race bound is not exceeded. `p_holm` is over the family that the feature
    is in.
    """

    measure: MixMeasure
    effect: Estimate
    against_placebo: Estimate
    p_value: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class MixFinding:
    """A feature for which some word holds. `owners` are the concepts that it is confirmed for; none: the global scan.

    `effects` are the measures that were tested: all four of a confirmed feature, of others those that discovery chose.
    `threshold` was fixed on discovery; `single_firing` is the share of confirmation scenarios in which it is exceeded
    on one concept alone (the larger of the two), a scenario that exceeds it in one order counting half.
    """

    id: str
    mix: str
    sae: str
    latent: int
    owners: tuple[str, ...]
    words: tuple[MixWord, ...]
    effects: tuple[MixEffect, ...]
    threshold: float
    single_firing: float
    rung: Rung
    reason: str
    n_scenarios: int


@dataclass(frozen=True, slots=True)
class MixScan:
    """The factorial of one mix through one SAE.

    `confirmed_tested` features were confirmed for one of the two concepts on other texts and are tested as they are.
    Of `scan_tested` live features `scan_selected` were chosen on discovery with an FDR of their own and tested on
    confirmation. `placebo_findings` is in how many of `relabellings` runs the whole procedure finds anything when the
    second concept and the placebo are exchanged in a random half of the scenarios; `placebo_alone` is for how many
    features a word would hold of the placebo itself if it were enough to differ from filler. `rung` is the highest that
    a finding may have, and `reason` says what caps it and how discovery chose.
    """

    sae: str
    confirmed_tested: int
    scan_tested: int
    scan_selected: int
    placebo_findings: int
    relabellings: int
    placebo_alone: int
    findings: tuple[MixFinding, ...]
    rung: Rung
    reason: str


@dataclass(frozen=True, slots=True)
class MixResult:
    """All that the audit found for one mix; `untested` says what was not measured and why."""

    id: str
    title: str
    domain: str
    why: str
    concepts: tuple[str, ...]
    placebo: str
    n_discovery: int
    n_confirmation: int
    fidelity: tuple[Fidelity, ...]
    scans: tuple[MixScan, ...]
    pairs: tuple[CausalPair, ...]
    untested: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CoFiringPair:
    """Two features that fire together more, or less, often than their rates in each stratum explain.

    `odds_ratio` is the Mantel-Haenszel estimate with the interval of Robins, Breslow and Greenland (1986), wider where
    the arms of a scenario depend on each other; None where it is infinite, without an interval where it is 0.
    `q_value` is the permutation false discovery rate at this pair. `cosine` is of the two decoder rows: two halves of a
    split feature have a high one.
    """

    first: int
    second: int
    observed: int
    expected: float
    odds_ratio: Estimate | None
    q_value: float
    cosine: float
    community: int | None


@dataclass(frozen=True, slots=True)
class Community:
    """Features that fire together, for display; the number is its place by size. `latents` are the most connected."""

    number: int
    size: int
    latents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CoFiring:
    """Which features of one SAE fire together, stratified by cell and length; an observation, never a cause.

    A unit is one arm or cell of one scenario; a feature fires in it when it fires in any of its prompts. Of the `units`
    those carry something whose scenario has another one with the same cells and length decile. `pairs` is how
    many pairs of the `live` features had an expected count of at least the configured one and were tested; `flagged` of
    them are below the configured q, `flagged_permuted` is the mean number at the same cut when scenarios are permuted
    within strata, `flagged_naive` what a chi-square without strata flags at p = 0.05. `top` are the flagged pairs with
    the strongest evidence.
    """

    sae: str
    units: int
    strata: int
    live: int
    pairs: int
    flagged: int
    flagged_permuted: float
    flagged_naive: int
    top: tuple[CoFiringPair, ...]
    communities: tuple[Community, ...]
