"""What changed between two audits of the same questions: rows, concepts, instruments, and what could not be told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from audit.records.results import SealInfo
from audit.records.words import Contrast, Estimate

DIFFERENCE_SCHEMA = "affidavit/difference/1"


class Verdict(StrEnum):
    """How a comparison ends. `inconclusive` is no pass: neither a change nor its absence was shown."""

    CHANGED = "changed"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not comparable"


class RowKind(StrEnum):
    """What a row compares."""

    FEATURE = "feature"
    INTERACTION = "interaction"
    OUTCOME = "answer, concept arm minus control arm"
    ANSWER = "answer on the concept arm"
    PROBE_AUROC = "AUROC of the difference of means"
    FEATURE_AUROC = "AUROC of the first feature"


@dataclass(frozen=True, slots=True)
class DiffMargins:
    """Every limit of a comparison, fixed before it and written into its result.

    Args:
        scenario_sd: the equivalence margin of scores, in standard deviations over scenarios.
        auroc: the equivalence margin of an AUROC.
        fdr_q: the false discovery rate of `changed`, over all rows of a comparison together.
        tost_alpha: the level of each of the two one-sided tests of equivalence.
        least_scenarios: fewer do not show equivalence.
        fvu_ratio, delta_ce: how far the two fidelities of an SAE may be apart, the second in nats.
        match_r: the least correlation of matched latents.
        match_prompts: how many discovery prompts latents are matched on, at most.
        match_tokens: a latent that fires on fewer of their tokens is not matched.
        match_shifts: circular shifts of the tokens for the null of the correlations.
        outlying_alpha: the chance of any false alarm that a concept is outlying, in one comparison.
        bootstrap, seed: resamples of scenarios, and what draws them.
    """

    scenario_sd: float = 0.3
    auroc: float = 0.05
    fdr_q: float = 0.05
    tost_alpha: float = 0.05
    least_scenarios: int = 20
    fvu_ratio: float = 1.25
    delta_ce: float = 0.05
    match_r: float = 0.7
    match_prompts: int = 600
    match_tokens: int = 8
    match_shifts: int = 3
    outlying_alpha: float = 0.05
    bootstrap: int = 2000
    seed: int = 20260101


@dataclass(frozen=True, slots=True)
class DiffParent:
    """A sealed bundle that was compared.

    `statement` is the digest of what was signed; `trusted` says whether its signer is one that the user named.
    """

    statement: str
    sequence: int
    signed_at: str
    signer: str
    fingerprint: str
    trusted: bool
    model: str
    model_digest: str
    dtype: str
    tool_version: str
    measuring_code: str | None


@dataclass(frozen=True, slots=True)
class SetupCheck:
    """One condition of a comparison; all hold in a result that was written."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class FidelityPair:
    """The fidelity of an SAE on both models, on a part or `all`; `reason` says why the two are too far apart."""

    scope: str
    base_fvu: float
    new_fvu: float
    fvu_ratio: float
    base_delta_ce: float | None
    new_delta_ce: float | None
    comparable: bool
    reason: str


@dataclass(frozen=True, slots=True)
class LatentMatching:
    """How the latents of two different SAEs were paired.

    `live_base` and `live_new` latents fire often enough to be matched; `matched` of them are pairs. `null_r` is the
    largest correlation of any two latents when the tokens of one are shifted. An unmatched latent is not a new one:
    another training of the same model leaves many without a partner.
    """

    tokens: int
    live_base: int
    live_new: int
    matched: int
    unmatched_base: int
    unmatched_new: int
    null_r: float
    median_r: float | None
    asked_unmatched_base: tuple[int, ...]
    asked_unmatched_new: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InstrumentPair:
    """An SAE of the base and the one that stands for it; `new` is None where no SAE reads the same site.

    `matching` is None where both are the same SAE by digest: latents are then paired by number.
    """

    base: str
    new: str | None
    site: str
    same: bool
    fidelity: tuple[FidelityPair, ...]
    matching: LatentMatching | None
    comparable: bool
    reason: str


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """One paired comparison over scenarios.

    All of `base_mean`, `new_mean`, `difference`, `low_90`, `high_90`, `margin`, `noise_floor` and `detectable` are in
    `unit`. `difference` is new minus base with its 95% BCa interval; `low_90` to `high_90` is what equivalence is
    judged by. `scale` is the standard deviation that the margin is a multiple of; None where there is none, and then no
    margin but that of an AUROC. `detectable` is the smallest change that the tests would have found with 80% power;
    None where the scenarios are too few for any. `noise_floor` is the largest difference among the noise bundles; None
    where it was not measured.
    """

    id: str
    kind: RowKind
    part: str
    contrast: Contrast | None
    sae: str | None
    base_latent: int | None
    new_latent: int | None
    match_r: float | None
    measure: str | None
    unit: str
    n_scenarios: int
    n_moved: int
    base_mean: float
    new_mean: float
    difference: Estimate
    low_90: float
    high_90: float
    scale: float | None
    effect: float | None
    margin: float | None
    p_value: float
    q_value: float
    noise_floor: float | None
    detectable: float | None
    verdict: Verdict
    reason: str


class Respect(StrEnum):
    """In what a concept stands out from the others."""

    FEATURES = "features"
    ANSWERS = "answers"
    LOSS = "loss"


@dataclass(frozen=True, slots=True)
class PartDifference:
    """The answer for one concept or mix; `rows` of an AUROC may be inconclusive where it is equivalent.

    `rank` orders them, 1 first: outlying ones before the others, then by `order_p`, the chance that the loss fell
    as far beyond the others' (where that was not measured, in the respect in which it stands out most), then by
    `shift`. `shift` is the root mean square effect of their feature rows (interactions, of a mix) or of
    their answers, whichever is larger, with the part that sampling alone explains taken off; None where there is no
    such row. `detectable` is the median of the smallest changes that the rows of features would have found, in standard
    deviations.

    `ratio` is its root mean square effect over that of the other concepts, or the distance of its change of loss from
    their mean, over their spread: in the respect in which it stands out most. None where there are no others to compare
    with, or the others do not differ. `ratio_p` says how often so large a ratio comes of a change that is not about one
    concept, adjusted over all concepts and respects; `outlying`: it changed, and that chance is below the level.

    `loss_change` is by how much the model's own loss on the texts about the concept changed beyond that on the neutral
    texts of the same scenarios, in nats a token: the mean over `loss_scenarios` scenarios, those that fidelity is
    measured on. Lower means that the texts became likelier.
    """

    id: str
    title: str
    domain: str
    verdict: Verdict
    reason: str
    rank: int
    shift: float | None
    detectable: float | None
    rows: int
    changed: int
    equivalent: int
    inconclusive: int
    ratio: float | None = None
    ratio_p: float | None = None
    outlying: bool = False
    respect: Respect | None = None
    order_p: float | None = None
    loss_change: float | None = None
    loss_scenarios: int = 0


@dataclass(frozen=True, slots=True)
class PairedToken:
    """One token of a prompt with a feature's activation on it in both models; 0 where silent or excluded."""

    text: str
    base: float
    new: float


@dataclass(frozen=True, slots=True)
class PairedContext:
    """A held-out prompt, read by both models.

    `base_place` and `new_place` are its rank among the scenarios in which the feature fires most on that model, 1
    first; None where it is none of the strongest there. A text that a bundle withholds is withheld here too.
    """

    prompt: str
    concept: str
    arm: str
    base_place: int | None
    new_place: int | None
    tokens: tuple[PairedToken, ...]


@dataclass(frozen=True, slots=True)
class FeatureContexts:
    """Where a feature fires most on each model, side by side; `rows` are the ids of the rows that it was shown for.

    The two latents are partners by number or by matching. Activations are in each SAE's own unit: of different SAEs
    they need not share a scale.
    """

    sae: str
    new_sae: str
    base_latent: int
    new_latent: int
    rows: tuple[str, ...]
    contexts: tuple[PairedContext, ...]


@dataclass(frozen=True, slots=True)
class DifferenceResult:
    """The result of a comparison. It holds no clock and no path: equal bundles give equal bytes.

    `tests` is the size of the family that the false discovery rate is controlled over. `noise` are the further bundles
    of the base model that set the noise floor; none: it was not measured. `contexts` shows the features of the first
    changed rows; where none changed, those that moved most.
    """

    schema: str
    tool_version: str
    code: str
    margins: DiffMargins
    base: DiffParent
    new: DiffParent
    noise: tuple[DiffParent, ...]
    setup: tuple[SetupCheck, ...]
    instruments: tuple[InstrumentPair, ...]
    concepts: tuple[PartDifference, ...]
    mixes: tuple[PartDifference, ...]
    tests: int
    rows: tuple[DifferenceRow, ...]
    counts: dict[str, int]
    contexts: tuple[FeatureContexts, ...]
    not_measured: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DiffRun:
    """The circumstances in which a comparison was made and sealed; the result itself holds no clock.

    Args:
        created_at: ISO 8601 with a time zone; the moment of the seal.
        command: what was typed, without paths.
        environment: versions of libraries, the level of the seal, the digest of the code that made the reports.
        difference_digest: of diff.json.
        folder_name: the last part of where it was written.
        seal: whose seal it is.
        language: of the pages, as `report.language` names it.
        page_size: the paper, as `report.page_size` names it.
    """

    created_at: str
    tool_version: str
    command: str
    environment: dict[str, str]
    difference_digest: str
    folder_name: str
    seal: SealInfo
    language: str = "en"
    page_size: str = "A4"
